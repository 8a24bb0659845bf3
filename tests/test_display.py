"""Progress output of a training run without a terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from prefrl.commands import display
from prefrl.commands.display import CountDisplay, TrainingDisplay
from prefrl.runs.progress import Phase, Progress


@pytest.fixture
def shown(monkeypatch):
    """A display, what it has said, and its clock."""
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    said = io.StringIO()
    return TrainingDisplay(Console(file=said, width=200)), said, clock


def status(phase=Phase.TRAINING, step=0, seconds=0.0):
    return Progress(phase, step=step, steps=1000, labels=7, labels_budget=40, labels_pending=3, seconds=seconds)


def test_waiting_is_shown_once_and_then_occasionally(shown):
    display, said, clock = shown
    for second in range(21):
        clock[0] = float(second)
        display.report(status(Phase.WAITING, 1000, seconds=float(second)))
    assert said.getvalue().count("waiting") == 1  # nothing has changed since


def test_the_last_step_of_training_is_always_said(shown):
    display, said, _ = shown
    display.report(status(step=990, seconds=1.0))
    display.report(status(step=1000, seconds=2.0))
    assert "1,000/1,000" in said.getvalue()


def test_an_evaluation_is_shown_at_its_start_and_its_end(shown):
    display, said, _ = shown
    for ended in range(11):
        display.report(replace(status(Phase.EVALUATING, 1000), evaluated=ended, evaluation_episodes=10))
    display.report(replace(status(step=1000), evaluation_return=3.0))
    first, last = said.getvalue().splitlines()
    assert first.startswith("evaluating the policy, 0 of 10 episodes")
    assert "evaluation 3.0" in last


def test_a_long_evaluation_is_shown_occasionally(shown):
    display, said, clock = shown
    for ended in range(4):
        clock[0] = 11.0 * ended
        display.report(replace(status(Phase.EVALUATING, 1000), evaluated=ended, evaluation_episodes=10))
    assert [line.split(" of ")[0] for line in said.getvalue().splitlines()] == [
        f"evaluating the policy, {ended}" for ended in range(4)
    ]


def test_the_progress_of_answers_is_shown_occasionally(shown):
    display, said, clock = shown
    for answered in range(25):
        clock[0] = float(answered)
        progress = replace(status(Phase.WAITING, 100), labels=answered, labels_pending=40 - answered)
        display.report(progress)
    lines = said.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == [f"waiting for {missing} labels" for missing in (40, 30, 20)]


def test_steps_are_never_more_than_the_whole(shown):
    display, said, _ = shown
    display.report(status(step=1024))
    assert said.getvalue().startswith("training: 1,024 steps (1,000 asked for, in whole rollouts), ")


def test_the_time_that_is_left_does_not_count_waiting_as_training(shown):
    display, said, clock = shown
    display.report(status(step=0, seconds=0.0))
    display.report(status(step=100, seconds=1.0))
    for second in range(2, 300):
        display.report(status(Phase.WAITING, 100, seconds=float(second)))
    clock[0] = 400.0
    display.report(status(step=200, seconds=300.0))
    assert "100 steps/s, 0:08 left" in said.getvalue().splitlines()[-1]


def test_a_rate_needs_steps(shown):
    display, said, _ = shown
    display.report(status(step=500, seconds=50.0))  # of a run that goes on: what it did before is not this session's
    assert "steps/s" not in said.getvalue()


def test_a_count_is_shown_at_once_and_then_occasionally(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: clock[0])
    said = io.StringIO()
    shown = CountDisplay("comparisons", Console(file=said, width=200))
    for second in range(25):
        clock[0] = float(second)
        shown.report("fitting", 100 * second, 10_000)
    shown.report("judging", 0, 0)
    assert said.getvalue().splitlines() == [
        "fitting: 0/10,000 comparisons",
        "fitting: 1,000/10,000 comparisons, 1:30 left",
        "fitting: 2,000/10,000 comparisons, 1:20 left",
        "judging",
    ]
