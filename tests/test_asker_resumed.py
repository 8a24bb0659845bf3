"""An asker whose run went back to a checkpoint, or stopped while queries were open."""

import pytest
import sqlalchemy as sa
from asker_bench import LABELS, STEPS, STRIDE, Bench, Moody, unanswered
from helpers import same_segment, through_file

from prefrl.feedback.leases import LabelQueue
from prefrl.selection import asker as asker_module
from prefrl.teachers import make_teacher


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(asker_module, "_POLL_SECONDS", 0)


def labels(store):
    return store.labels("comparison")


class Silent(Moody):
    """A teacher who must not be asked anything."""

    def submit(self, queries):
        assert not queries


def roll_back(tmp_path, teacher, *, at, shift=0, mode="sync", exact=True, first_teacher=None, last=STEPS):
    """A whole run, then the same run taken up again from its state at a step; gives both benches."""
    first = Bench(tmp_path, first_teacher or Moody(3, 0.3), mode=mode)
    first.begin()
    saved = {}

    def save(step):
        if step == at:
            saved["asker"] = through_file(tmp_path, first.asker.state_dict())
            saved["pool"], saved["next"] = list(first.pool), first.next

    first.play(check=save, last=last)
    again = Bench(tmp_path, teacher, mode=mode, shift=shift)
    again.pool.extend(saved["pool"])
    again.next = max(saved["next"], again.asker.load_state_dict(saved["asker"], exact=exact))
    return first, again


@pytest.mark.parametrize("at", [100, 500, 900])
def test_a_synchronous_run_that_went_back_finds_its_old_answers_and_asks_nothing(tmp_path, at):
    first, again = roll_back(tmp_path, Silent(), at=at)
    before, rounds = labels(first.store), first.asker.round
    due = []
    again.play(
        first=at + STRIDE, check=lambda step: due.append(again.asker.counts["answered"] == again.asker.due(step))
    )
    assert all(due)
    assert labels(again.store) == before
    assert again.asker.round == rounds
    assert (
        len(again.store.asked("comparison")) == again.store.counts()["answered"] + again.store.counts()["incomparable"]
    )
    for bench in (first, again):
        bench.close()


@pytest.mark.parametrize("at", [100, 500])
def test_a_synchronous_run_killed_before_an_answer_was_stored_asks_that_query_again(tmp_path, at):
    class Killed(Moody):
        def collect(self):
            if self.asked and self.asked[-1][1].agent_step > at:
                raise KeyboardInterrupt
            return super().collect()

    first = Bench(tmp_path, Killed(3, 0.0))
    first.begin()
    first.play(last=at)
    saved, pool, free = through_file(tmp_path, first.asker.state_dict()), list(first.pool), first.next
    with pytest.raises(KeyboardInterrupt):
        first.play(first=at + STRIDE)
    unanswered = [row[0] for row in first.store.pending()]
    assert unanswered
    again = Bench(tmp_path, Moody(3, 0.0))
    again.pool.extend(pool)
    again.next = max(free, again.asker.load_state_dict(saved, exact=True))
    again.play(first=at + STRIDE)
    assert again.store.counts()["answered"] == LABELS
    assert again.store.counts()["pending"] == 0
    assert [number for number, _ in again.teacher.asked][: len(unanswered)] == unanswered
    for bench in (first, again):
        bench.close()


def test_a_synchronous_run_that_went_back_does_not_see_labels_of_its_future(tmp_path):
    first, again = roll_back(tmp_path, Silent(), at=200)
    assert again.store.counts()["answered"] == LABELS
    assert again.asker.counts["answered"] == again.asker.due(200)
    assert again.asker.replayed_round == again.asker.round
    for bench in (first, again):
        bench.close()


@pytest.mark.parametrize("last", [400, STEPS])
def test_a_run_that_continues_differently_after_going_back_keeps_all_labels_and_meets_the_budget(tmp_path, last):
    first, again = roll_back(tmp_path, Moody(9, 0.3), at=200, shift=1000, last=last)
    before = labels(first.store)
    clips = {label.segments[0]: first.clips.load(label.segments[0]) for label in before}
    again.play(first=300)
    assert labels(again.store)[: len(before)] == before
    for number, kept in clips.items():
        assert same_segment(again.clips.load(number), kept)
    assert again.asker.replayed_round is None
    new = {segment.id: segment for _, query in again.teacher.asked for segment in query.segments}
    assert (max(new, default=0) >= 10**9) == (last < STEPS)  # ids of new clips whose own ids old ones have
    for number, segment in new.items():
        assert same_segment(again.clips.load(number), segment)
    assert again.store.counts()["answered"] == LABELS
    for bench in (first, again):
        bench.close()


@pytest.mark.parametrize(("mode", "exact"), [("async", True), ("async", False), ("sync", False)])
def test_any_other_run_keeps_its_later_labels_and_continues_after_them(tmp_path, mode, exact):
    first, again = roll_back(tmp_path, Moody(9, 0.3), at=200, mode=mode, exact=exact, last=400)
    before = labels(first.store)
    assert again.asker.counts["answered"] == len(before)
    assert again.next > again.store.last_segment()
    asked = again.store.asked("comparison")
    again.play(first=300)
    assert labels(again.store)[: len(before)] == before
    assert again.store.counts()["answered"] == LABELS
    new = [tuple(sorted((query.segments[0].id, query.segments[1].id))) for _, query in again.teacher.asked]
    assert not set(new) & asked
    assert len(set(new)) == len(new)
    for bench in (first, again):
        bench.close()


def test_queries_that_were_open_when_the_run_stopped_are_put_again_from_the_clips(tmp_path):
    first = unanswered(tmp_path, 10)
    asked = dict(first.teacher.asked)
    again = Bench(tmp_path, Moody(0, 0.0), mode="async")
    free = again.asker.sync_with_store()
    assert free == first.store.last_segment() + 1
    assert {number for number, _ in again.teacher.asked} == set(asked)
    for number, query in again.teacher.asked:
        assert (query.round, query.rank) == (asked[number].round, asked[number].rank)
        assert (query.kind, query.agent_step) == (asked[number].kind, asked[number].agent_step)
        for side, original in (
            (query.segments[0], asked[number].segments[0]),
            (query.segments[1], asked[number].segments[1]),
        ):
            assert same_segment(side, original)
    assert again.store.counts()["answered"] == 10
    for bench in (first, again):
        bench.close()


def test_queries_that_are_put_again_are_judged_as_they_would_have_been(tmp_path):
    """Each meets a chance of its own, whichever of them were open when the run stopped."""
    first = unanswered(tmp_path, 30, labels=40)
    teacher = make_teacher("boltzmann", 0, lambda: None)
    teacher.submit(dict(first.teacher.asked))
    expected = {answer.query_id: answer.value for answer in teacher.collect()}
    again = Bench(tmp_path, make_teacher("boltzmann", 0, lambda: None), mode="async", labels=40)
    again.asker.sync_with_store()
    with again.store.database.read() as connection:
        rows = connection.execute(sa.text("SELECT query_id, judgement FROM labels")).all()
    assert {row[0]: row[1] for row in rows} == {number: judgement.value for number, judgement in expected.items()}
    for bench in (first, again):
        bench.close()


def test_an_open_query_with_a_damaged_clip_is_withdrawn_and_another_asked(tmp_path):
    first = unanswered(tmp_path, 10)
    broken = min(first.teacher.asked)[0]
    clip = first.clips.file(dict(first.teacher.asked)[broken].segments[0].id)
    clip.write_bytes(clip.read_bytes()[:50])
    again = Bench(tmp_path, Moody(0, 0.0), mode="async")
    again.asker.sync_with_store()
    assert broken not in {number for number, _ in again.teacher.asked}
    assert any(clip.name in problem for problem in LabelQueue(again.store).problems())
    again.next = 20
    again.record(20)
    again.asker.ask_once(0, 10)
    assert again.store.counts()["answered"] == 10
    for bench in (first, again):
        bench.close()
