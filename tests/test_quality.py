"""Measures of label quality, against values worked by hand."""

import json

import numpy as np
import pytest
from helpers import segment
from hypothesis import given
from hypothesis import strategies as st
from runs import prefrl, refused

from prefrl.experience.clips import ClipFolder
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.quality import GivenAnswer, agreement, hasty, label_metrics, report, report_lines, self_consistency
from prefrl.feedback.repeats import Repeats
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.recipes import resolve
from prefrl.runs.directory import RunDirectory

PAIRS = KINDS["comparison"]
L, R, E, N = Judgement.LEFT, Judgement.RIGHT, Judgement.EQUAL, Judgement.INCOMPARABLE


def said(unit, judgement, labeller="ann", *, repeat=False, seconds=2.0, prefers=None):
    agrees = None if prefers is None or judgement not in (L, R) else judgement is prefers
    return GivenAnswer(unit, repeat, labeller, judgement, seconds, agrees, PAIRS)


def test_a_repeat_means_the_other_side():
    assert said(1, L, repeat=True).original_value is R
    assert said(1, E, repeat=True).original_value is E
    assert said(1, L).original_value is L


def test_self_consistency_counts_repeats_that_mean_the_same():
    answers = [said(1, L), said(2, R), said(3, E), said(1, R, repeat=True), said(2, R, repeat=True)]
    answers += [said(3, E, repeat=True)]
    assert self_consistency(answers) == (pytest.approx(2 / 3), 3)


def test_self_consistency_is_of_one_person_and_of_what_was_told():
    answers = [said(1, L), said(2, N), said(1, L, "ben", repeat=True), said(2, L, repeat=True)]
    assert self_consistency(answers) == (None, 0)


def test_alpha_of_a_worked_example():
    """Four pairs, one disagreement: coincidences LL 4, RR 2, LR 1, RL 1; observed 2/8, expected 2 * 5 * 3 / (8 * 7)."""
    a = [said(1, L), said(2, L), said(3, R), said(4, L)]
    b = [said(1, L, "ben"), said(2, L, "ben"), said(3, R, "ben"), said(4, R, "ben")]
    assert agreement(a + b) == (pytest.approx(1 - (2 / 8) / (2 * 5 * 3 / (8 * 7))), 4)


def test_alpha_of_a_repeat_by_somebody_else_takes_the_sides_as_meant():
    answers = [said(1, L), said(2, R), said(1, R, "ben", repeat=True), said(2, L, "ben", repeat=True)]
    assert agreement(answers) == (pytest.approx(1.0), 2)


def test_no_alpha_without_shared_pairs_or_where_all_say_the_same():
    assert agreement([said(1, L), said(2, R, "ben")]) == (None, 0)
    assert agreement([said(1, L), said(1, L, "ben")]) == (None, 1)


@given(st.lists(st.sampled_from([L, R]), min_size=20, max_size=60), st.integers(0, 2**31))
def test_alpha_does_not_depend_on_which_side_was_left(judgements, seed):
    flips = np.random.default_rng(seed).random(len(judgements)) < 0.5
    ann = [said(unit, judgement) for unit, judgement in enumerate(judgements)]
    other = {L: R, R: L}
    ben = [said(u, other[j] if u % 5 == 0 else j, "ben") for u, j in enumerate(judgements)]
    swapped = [said(a.unit, other[a.value], "ben", repeat=True) if f else a for a, f in zip(ben, flips, strict=True)]
    assert agreement(ann + ben) == agreement(ann + swapped)


def test_rates_and_times():
    answers = [said(1, L, prefers=L, seconds=1.0), said(2, R, prefers=L, seconds=2.0), said(3, E, seconds=3.0)]
    answers += [said(4, N, seconds=None), said(5, L, seconds=10.0)]
    found = label_metrics(PAIRS, answers)
    assert found["answers"] == 5
    assert found["equal_rate"] == 1 / 4
    assert found["incomparable_rate"] == 1 / 5
    assert found["left_rate"] == pytest.approx(2 / 3)
    assert found["seconds_median"] == 2.5
    assert found["agrees_with_reward"] == 1 / 2


def test_without_answers_there_are_no_measures():
    found = label_metrics(PAIRS, [])
    assert found["answers"] == found["repeats"] == 0
    assert {value for name, value in found.items() if name not in {"answers", "repeats"}} == {None}


@pytest.fixture
def run(tmp_path):
    """A run in which ann answers by the true reward, is asked again about two pairs, and errs once."""
    made = RunDirectory.create(
        tmp_path / "run", resolve("moving-dot", teacher="human", settings={"queries.labels": 30})
    )
    store, clips = LabelStore(made.labels, create=True), ClipFolder(made.clips)
    queue = LabelQueue(store)
    pool = [segment(number, (number % 7, number % 3)) for number in range(60)]
    for one in pool:
        clips.save(one)
    ids = store.add_queries([pair_query(1, rank, pool[2 * rank], pool[2 * rank + 1], 0) for rank in range(30)])
    for query_id, query in list(ids.items())[:25]:
        better = query.segments[0].true_rewards.sum() >= query.segments[1].true_rewards.sum()
        queue.answer(Answer(query_id, L if better else R, "human", 0, "ann", 1.5))
    for judgement in (None, L):
        again = Repeats(store, queue, 1.0).ask("v", "ann")
        query = ids[store_of(store, again)]
        better = query.segments[0].true_rewards.sum() >= query.segments[1].true_rewards.sum()
        queue.answer(
            Answer(again, (R if better else L) if judgement is None else (L if better else R), "human", 0, "ann", 1)
        )
    store.close()
    return made


def store_of(store, query_id):
    with store.database.read() as connection:
        return connection.exec_driver_sql(
            "SELECT original_id FROM repeats WHERE query_id = ?", (query_id,)
        ).scalar_one()


def test_answers_faster_than_a_clip_are_hasty():
    times = [0.2, 1.49, 1.5, 3.0, None]
    answers = [said(unit, L, seconds=seconds)._replace(id=10 + unit) for unit, seconds in enumerate(times)]
    assert hasty(answers, 1.5) == [10, 11]
    assert label_metrics(PAIRS, answers, 1.5)["hasty"] == 2
    assert label_metrics(PAIRS, answers[4:], 1.5)["hasty"] is None  # nobody knows how long it took
    assert label_metrics(PAIRS, answers[3:], 1.5)["hasty"] == 0


def test_the_report_names_answers_faster_than_a_clip(run):
    found = report(run.root)
    assert found["clip_seconds"] == 1.0  # 15 steps at 15 a second
    assert not any(line.startswith("hasty:") for line in report_lines(found))
    store = LabelStore(run.labels)
    with store.database.write() as connection:
        slow = connection.exec_driver_sql("SELECT id FROM labels ORDER BY id").scalars().all()
        connection.exec_driver_sql(f"UPDATE answers SET response_seconds = 0.1 WHERE id IN ({slow[1]}, {slow[2]})")
        connection.exec_driver_sql("DELETE FROM checksums")  # as of a store of an older version
    store.close()
    found = report(run.root)
    assert found["hasty_answers"] == [slow[1], slow[2]]
    assert found["labellers"]["ann"]["hasty"] == found["all"]["hasty"] == 2
    line = next(line for line in report_lines(found) if line.startswith("hasty:"))
    assert line == f"hasty: answers given in less time than a clip lasts (1 s): {slow[1]}, {slow[2]}"
    many = report_lines(found | {"hasty_answers": [*range(1, 16)]})
    assert any(line.endswith("8, 9, 10 and 5 more") for line in many)


def test_a_run_s_labels_are_reported(run):
    found = report(run.root)
    ann = found["labellers"]["ann"]
    assert ann == found["all"]
    assert ann["answers"] == 27
    assert (ann["self_consistency"], ann["repeats"]) == (0.5, 2)
    assert ann["seconds_median"] == 1.5
    assert 0.8 < ann["agrees_with_reward"] < 1
    assert found["krippendorff_alpha"] is None


def test_the_report_is_a_table_or_json(run):
    shown = prefrl("labels", "report", run.root)
    assert shown.code == 0
    assert shown.out.splitlines() == report_lines(report(run.root))
    assert "50 %" in shown.out
    assert json.loads(prefrl("labels", "report", run.root, "--json").out) == report(run.root)


def test_two_labellers_are_compared(run):
    store = LabelStore(run.labels)
    queue = LabelQueue(store)
    for pending in store.pending():
        queue.answer(Answer(pending[0], L, "human", 0, "ben", 1.0))
    again = Repeats(store, queue, 1.0).ask("w", "ben")
    queue.answer(Answer(again, L, "human", 0, "ben", 1.0))
    store.close()
    assert set(report(run.root)["labellers"]) == {"ann", "ben"}
    assert report(run.root)["pairs_judged_by_several"] == 1


def test_no_run_and_no_labels_are_told_apart(tmp_path):
    assert "not a run" in refused(prefrl("labels", "report", tmp_path / "none"), 2)
    made = RunDirectory.create(tmp_path / "run", resolve("moving-dot", teacher="human"))
    assert "no labels yet" in refused(prefrl("labels", "report", made.root), 1)
    assert "no labels" in refused(prefrl("labels", "finish", made.root), 2)
