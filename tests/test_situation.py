"""Descriptions of a run for labellers, and which key presses count, as pure functions."""

import pytest
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st

from clip_viewer.guard import SECONDS, Guard
from clip_viewer.situation import ENDED, Facts, Life, State, describe, life_of, state_of
from prefrl.runs.progress import Phase, Progress, from_json

RUNNING, STOPPED, KILLED, NEW = Life.RUNNING, Life.STOPPED, Life.KILLED, Life.NOT_STARTED
ROOT = "/runs/my hopper"
RESUME = "prefrl resume '/runs/my hopper'"


def heard(said, steps=5000):
    """What an agent said of itself, from the sentence that older versions wrote; None for nothing."""
    return from_json({"state": said, "step": 1200, "steps": steps}) if said else None


def facts(life=RUNNING, said="training", steps=5000, **changes):
    return Facts(ROOT, life, heard(said, steps), **{"answered": 3, "budget": 20} | changes)


@pytest.mark.parametrize(
    ("running", "finished", "said", "life"),
    [
        (True, False, "training", Life.RUNNING),
        (True, False, "", Life.RUNNING),
        (True, False, "stopped; resumable", Life.RUNNING),  # resumed, and has not said anything yet
        (False, False, "training", Life.KILLED),
        (False, False, "waiting for 3 labels from human", Life.KILLED),
        (False, False, "stopped; resumable", Life.STOPPED),
        (False, False, "stopped: the disk is full", Life.STOPPED),
        (False, False, "", Life.NOT_STARTED),
        (True, True, "training", Life.FINISHED),  # its process is just ending
        (False, True, "training", Life.FINISHED),
    ],
)
def test_what_became_of_the_agent(running, finished, said, life):
    assert life_of(running=running, finished=finished, said=heard(said)) is life


TOLD = [
    (facts(has_store=False, said=""), State.STARTING, ["The run is starting", "The agent is starting"]),
    (
        facts(has_store=False, said="recording the first clips"),
        State.STARTING,
        ["recording the first clips at step 1,200 of 5,000"],
    ),
    (facts(unrendered=4), State.RENDERING, ["rendered", "4 pairs"]),
    (facts(unrendered=1), State.RENDERING, ["1 pair will"]),
    (facts(ready=2, in_hand=1, leased=1), State.PAIR, []),
    (facts(ready=2, leased=2, in_hand=2), State.PAIR, []),
    (facts(), State.WAITING, ["Waiting for the agent", "training at step 1,200 of 5,000"]),
    (facts(said="stopped; resumable"), State.WAITING, ["The agent is starting"]),
    (facts(ready=5, leased=5), State.OTHERS, ["Other people", "(5)"]),
    (facts(KILLED), State.HALTED, ["was killed at step 1,200", "answers are kept (3 labels)", RESUME]),
    (facts(KILLED, unrendered=3), State.HALTED, ["was killed", RESUME]),
    (facts(KILLED, answered=1), State.HALTED, ["(1 label)"]),
    (facts(STOPPED, "stopped; resumable"), State.HALTED, ["is stopped", "answers are kept", RESUME]),
    (facts(STOPPED, "stopped: the disk is full"), State.HALTED, ["'the disk is full'", RESUME]),
    (facts(STOPPED, "stopped: \x1b[2Jx\ny"), State.HALTED, ["\\x1b[2Jx\\\\ny"]),
    (facts(NEW, "", has_store=False, steps=0), State.HALTED, ["not running", "No process is at work", RESUME]),
    (facts(KILLED, ready=2, leased=2), State.OTHERS, ["Other people", "was killed", RESUME]),
    (facts(answered=20), State.DONE, ["All 20 labels are given", "can be closed", "training at step"]),
    (facts(KILLED, answered=20), State.DONE, ["All 20 labels are given", "was killed", RESUME]),
    (facts(answered=20, ready=1, in_hand=1, leased=1), State.PAIR, []),  # one that is asked again
    (
        facts(closed=True),
        State.CLOSED,
        ["for everyone", "3 of 20", "training", f"{RESUME} --labels 20", "stop the run"],
    ),
    (facts(STOPPED, "stopped; resumable", closed=True), State.CLOSED, ["was stopped", "kept", f"{RESUME} --labels 20"]),
    (facts(KILLED, closed=True, ready=3), State.CLOSED, ["was killed", "kept", f"Resume it with:\n{RESUME}"]),
    (facts(Life.FINISHED), State.FINISHED, ["finished", "answers are kept (3 labels)", f"{RESUME} --labels N"]),
    (facts(Life.FINISHED, closed=True, ready=3), State.FINISHED, ["finished", "kept"]),
]


@pytest.mark.parametrize(("known", "state", "words"), TOLD)
def test_what_is_told(known, state, words):
    told = describe(known)
    assert told.state is state
    text = f"{told.headline} {told.explanation}"
    assert [word for word in words if word not in text] == []
    if known.life is not RUNNING:
        assert "agent is" not in text.replace("agent is stopped", "").replace("agent is not running", "")


def test_every_state_is_in_the_table():
    assert {state for _, state, _ in TOLD} == set(State)


@pytest.mark.parametrize(
    ("known", "notice"),
    [
        (facts(ready=2, in_hand=1, leased=1), ""),
        (facts(said="waiting for 3 labels from human", ready=2, unrendered=1, in_hand=1), "waits for labels: 3 pairs"),
        (facts(KILLED, "waiting for 3 labels from human", in_hand=1), "was killed"),
        (facts(STOPPED, "stopped; resumable", in_hand=1), "was stopped"),
    ],
)
def test_what_is_told_beside_a_pair(known, notice):
    told = describe(known).notice
    assert notice in told
    assert bool(told) is bool(notice)
    assert (RESUME in told and "answers are kept" in told) is (known.life is not RUNNING)


@quick
@given(
    st.builds(
        Facts,
        root=st.just(ROOT),
        life=st.sampled_from(Life),
        said=st.sampled_from([None, *(Progress(phase, problem="x") for phase in Phase)]),
        **{name: st.integers(0, 3) for name in ("answered", "budget", "ready", "unrendered", "leased", "in_hand")},
        closed=st.booleans(),
        has_store=st.booleans(),
    )
)
def test_nothing_is_told_that_is_not_so(known):
    told = describe(known)
    text = f"{told.headline} {told.explanation} {told.notice}"
    if known.life is not RUNNING:
        assert "waits" not in text
        assert "rendered" not in text
        assert "stop the run" not in text
    if known.life in (STOPPED, KILLED, NEW) and told.explanation and told.state is not State.PAIR:
        assert RESUME in text
    assert (told.state in ENDED) is (known.closed or known.life is Life.FINISHED)
    assert state_of(known) is told.state


# -- presses that count -----------------------------------------------------------------------------------------------


def test_a_pair_is_not_answered_before_it_can_have_been_seen():
    guard = Guard()
    guard.shown(10.0)
    assert guard.too_soon(10.0 + 0.9 * SECONDS)
    assert not guard.too_soon(10.0 + SECONDS)


@pytest.mark.parametrize("marked", [True, False])
def test_a_held_key_is_one_press_also_where_the_system_does_not_mark_its_repeats(marked):
    guard = Guard()
    assert not guard.repeats("left", 0.0)
    for step in range(200):
        at = 0.66 + 0.03 * step
        guard.touched("left", at)  # let go
        if not marked:
            assert guard.repeats("left", at)
    assert not guard.repeats("left", 0.66 + 0.03 * 200 + SECONDS)


def test_two_keys_do_not_stand_in_each_other_s_way():
    guard = Guard()
    assert not guard.repeats("left", 0.0)
    assert not guard.repeats("undo", 0.05)
    assert guard.repeats("left", 0.1)
    assert not guard.repeats("left", 0.11 + SECONDS)
