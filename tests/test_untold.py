"""Queries that cannot be told: the answers, and the query rule that avoids them."""

import numpy as np
import pytest
import torch
from asker_bench import Bench, Moody, exact
from helpers import segment, segments, through_file, tiny_reward
from runs import assert_equal_runs, prefrl, tiny, trained

from prefrl.config.request import Request
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.label_changes import LabelChanges
from prefrl.feedback.terms import Answer, GivenAnswer
from prefrl.reward import answerable as model_module
from prefrl.reward.answerable_inputs import (
    fit_to_answers,
    query_inputs,
    segment_inputs,
)
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.selection import answerability as answerability_module
from prefrl.selection.answerability import Answerability
from prefrl.selection.rules import Candidates, answerable_variance, choose

LEFT, RIGHT, EQUAL, NEITHER = Judgement
VECTORS = Inputs((3,))


def ensemble_of():
    torch.manual_seed(0)
    return RewardEnsemble(tiny_reward(), VECTORS)


# -- the history ------------------------------------------------------------------------------------------------------


def say(store, *judgements, first=0, round_=1, teacher="human", labeller="ann"):
    pool = segments(2 * (first + len(judgements)))[2 * first :]
    asked = [pair_query(round_, first + n, pool[2 * n], pool[2 * n + 1], 0) for n in range(len(judgements))]
    ids = store.add_queries(asked)
    store.add_answers(
        [Answer(number, said, teacher, 0, labeller) for number, said in zip(ids, judgements, strict=True)]
    )
    return list(ids)


def test_given_answers_are_those_that_stood_as_of_a_row(store):
    history = LabelChanges(store, "comparison")
    assert history.given() == []
    one, *_ = say(store, NEITHER, LEFT, EQUAL)
    first = [GivenAnswer(1, (0, 1), None), GivenAnswer(2, (2, 3), 1.0), GivenAnswer(3, (4, 5), 0.5)]
    assert history.given() == first
    assert [answer.told for answer in first] == [False, True, True]
    store.undo(1)  # row 4
    assert history.given() == first[1:]
    assert history.given(upto=3) == first
    assert history.given(upto=2) == first[:2]
    store.add_answers([Answer(one, RIGHT, "human", 0, "ann")])
    assert history.given() == [*first[1:], GivenAnswer(5, (0, 1), 0.0)]
    assert history.given(most=2) == [first[2], GivenAnswer(5, (0, 1), 0.0)]
    assert history.given(upto=3, most=1) == first[2:]


def test_automatic_and_late_answers_and_those_of_other_kinds_are_not_given(store):
    say(store, LEFT, teacher="demonstrations", labeller=None)
    number = say(store, NEITHER, first=1)[0]
    store.add_answers([Answer(number, LEFT, "human", 0, "bob")])
    assert LabelChanges(store, "comparison").given() == [GivenAnswer(2, (2, 3), None)]
    assert LabelChanges(store, "rating").given() == []


def test_damaged_answers_are_not_given(store):
    say(store, NEITHER, LEFT, NEITHER)
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE answers SET value = '\"left\"' WHERE id = 3")
        connection.exec_driver_sql("UPDATE answers SET agent_step = 'soon' WHERE id = 1")
    assert [answer.id for answer in LabelChanges(store, "comparison").given()] == [2]
    assert LabelChanges(store, "comparison").given(most=1) == []


def test_answers_are_counted_by_teacher(store):
    say(store, NEITHER, LEFT, NEITHER, teacher="judge", labeller=None)
    say(store, NEITHER, first=3)
    assert store.counts()["incomparable"] == 3
    found = store.counts(teacher="judge")
    assert (found["incomparable"], found["answered"], found["left"]) == (2, 1, 1)
    assert store.counts(0, "judge")["incomparable"] == 0


# -- the query rule ---------------------------------------------------------------------------------------------------


def test_the_rule_multiplies_variance_and_the_probability_that_a_pair_can_be_told():
    spread, told = [0.1, 0.4, 0.3, 0.4], [1.0, 0.1, 0.9, 0.5]  # scores in proportion to 1, 1.6, 8.1 and 8

    def predict(_, queries):
        return np.array([[0.5, 0.5 + spread[query[0]]] for query in queries.tolist()]).T

    def answerable(_, queries):
        return np.array([told[query[0]] for query in queries.tolist()])

    queries = np.array([[0, 4], [1, 4], [2, 4], [3, 4]])
    given_ = Candidates(segments(5), queries, predict, predict_answerable=answerable)
    assert answerable_variance(given_, 3).tolist() == [2, 3, 1]
    assert answerable_variance(given_.among(np.array([3, 1, 0])), 1).tolist() == [0]
    assert answerable_variance(Candidates(segments(5), queries, predict), 2).tolist() == [1, 3]


@pytest.mark.parametrize("candidate_clips", [None, 4])
def test_candidates_know_which_pairs_can_be_told(candidate_clips):
    def answerable(pool, queries):
        return np.array([float(any(pool[place].id < 3 for place in query)) for query in queries])

    found = choose(
        segments(30),
        2,
        np.random.default_rng(0),
        predict=lambda _, queries: np.random.default_rng(1).random((3, len(queries))),
        rule=answerable_variance,
        candidate_clips=candidate_clips,
        candidate_factor=100,
        answerable=answerable,
    )
    assert all(min(each.id for each in query) < 3 for query in found)


def dim(query):
    """Whether a pair cannot be told: on average over both segments, the first number of a step is below a bound."""
    return np.mean([each.observations[:, 0].mean() for each in query.segments]) < -0.1


class Dazzled(Moody):
    """A teacher who cannot tell dim pairs."""

    def submit(self, queries):
        for number, query in queries.items():
            self.asked.append((number, query))
            said = Judgement.INCOMPARABLE if dim(query) else exact(query)
            self._waiting.append((0, Answer(number, said, "dazzled", query.agent_step)))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("prefrl.selection.asker._POLL_SECONDS", 0)


def test_the_asker_asks_less_of_what_cannot_be_told(tmp_path):
    untold = {}
    for rule in ("variance", "answerable-variance"):
        bench = Bench(tmp_path / rule, Dazzled(), selection=rule, labels=120)
        bench.begin()
        begun = len(bench.teacher.asked)
        bench.play()
        later = bench.teacher.asked[begun:]
        untold[rule] = np.mean([dim(query) for _, query in later])
        assert bench.store.counts()["answered"] == 120
        bench.close()
    assert untold["variance"] > 0.25
    assert untold["answerable-variance"] < untold["variance"] / 2


def test_a_synchronous_run_that_went_back_asks_the_same_although_there_are_later_answers(tmp_path):
    class Silent(Dazzled):
        def submit(self, queries):
            assert not queries

    def bench(teacher):
        return Bench(tmp_path, teacher, selection="answerable-variance", labels=60)

    first, saved = bench(Dazzled()), {}
    first.begin()

    def save(step):
        if step == 300:
            saved.update(asker=through_file(tmp_path, first.asker.state_dict()), pool=list(first.pool), next=first.next)

    first.play(check=save)
    again = bench(Silent())
    again.pool.extend(saved["pool"])
    again.next = max(saved["next"], again.asker.load_state_dict(saved["asker"], exact=True))
    again.play(first=400)
    assert again.asker.replayed_round == first.asker.round
    assert again.store.counts()["incomparable"] > 5
    for each in (first, again):
        each.close()


def known(tmp_path, store):
    return Answerability(store, ClipFolder(tmp_path), "comparison", 0)


def saved_pool(tmp_path, count=60):
    pool = segments(count)
    for each in pool:
        ClipFolder(tmp_path).save(each)
    return pool


CHOSEN = np.array([[0, 5], [7, 2]])


def test_an_undone_cannot_tell_stops_counting(tmp_path, store):
    pool, ensemble = saved_pool(tmp_path), ensemble_of()
    say(store, *[NEITHER if n % 3 == 0 else LEFT for n in range(20)])
    found = known(tmp_path, store).predict(ensemble, pool, CHOSEN, None)
    assert ((found > 0) & (found < 1)).all()
    for number in (1, 4, 7):
        store.undo(number)
    less = known(tmp_path, store).predict(ensemble, pool, CHOSEN, None)
    assert less.tolist() == [1 - 4 / 17] * 2  # too few of them are left for more than a rate
    for number in (10, 13, 16, 19):
        store.undo(number)
    assert known(tmp_path, store).predict(ensemble, pool, CHOSEN, None).tolist() == [1, 1]
    as_of = known(tmp_path, store).predict(ensemble, pool, CHOSEN, 20)
    np.testing.assert_array_equal(as_of, found)


def test_only_the_newest_answers_are_learned_from(tmp_path, store, monkeypatch):
    pool = saved_pool(tmp_path)
    say(store, *[NEITHER if n < 2 else LEFT for n in range(20)])
    monkeypatch.setattr(answerability_module, "NEWEST", 19)
    assert known(tmp_path, store).predict(ensemble_of(), pool, CHOSEN, None).tolist() == [1 - 1 / 19] * 2
    assert answerability_module.Answerability is Answerability


def test_clips_are_kept_in_memory_up_to_a_bound(tmp_path, store, monkeypatch):
    pool, ensemble = saved_pool(tmp_path), ensemble_of()
    say(store, *[NEITHER if n % 3 == 0 else LEFT for n in range(20)])
    monkeypatch.setattr(answerability_module, "_KEPT_BYTES", 25 * pool[0].features.nbytes)
    found, read = known(tmp_path, store), []
    real = found._clips.load
    monkeypatch.setattr(found._clips, "load", lambda number: read.append(number) or real(number))
    one = found.predict(ensemble, pool, CHOSEN, None)
    assert len(read) == 40
    again = found.predict(ensemble, pool, CHOSEN, None)
    assert read[40:] == list(range(25, 40))
    np.testing.assert_array_equal(one, again)


def test_damaged_and_strange_clips_are_left_out(tmp_path, store):
    pool, ensemble = saved_pool(tmp_path), ensemble_of()
    say(store, *[NEITHER if n % 3 == 0 else LEFT for n in range(20)])
    clips = ClipFolder(tmp_path)
    clips.file(0).write_bytes(b"nonsense")
    clips.file(3).unlink()
    clips.save(segment(3, (0.0, 0.0)))  # shorter
    found = known(tmp_path, store).predict(ensemble, pool, CHOSEN, None)
    left = [GivenAnswer(n + 1, (2 * n, 2 * n + 1), None if n % 3 == 0 else 1.0) for n in range(20) if n not in (0, 1)]
    model = fit_to_answers(left, lambda number: pool[number].features, ensemble, 0)
    inputs = query_inputs(segment_inputs(ensemble, [each.features for each in pool]), CHOSEN)
    np.testing.assert_allclose(found, 1 - model.predict(inputs))


# -- training ---------------------------------------------------------------------------------------------------------


def test_a_run_with_the_rule_resumes_exactly(tmp_path, monkeypatch):
    monkeypatch.setattr(model_module, "FEWEST", 1)
    settings = {
        "round_steps": 512,
        "agent.n_envs": 4,
        "agent.n_steps": 64,
        "checkpoint_seconds": 0,
        "reward.pretrain_comparisons": 320,
        "evaluation.episodes": 0,
        "queries.selection": "answerable-variance",
    }
    request = Request("hopper", teacher="skip", labels=40, steps=4096, mode="sync", settings=settings)
    whole = trained(tmp_path / "whole", request)
    assert trained(tmp_path / "stopped", request, 6) == whole
    assert_equal_runs(tmp_path / "whole", tmp_path / "stopped")


def test_the_rule_needs_no_more_than_its_name(tmp_path):
    settings = ("queries.selection=answerable-variance", "evaluation.episodes=0")
    done = prefrl(*tiny("reacher", tmp_path / "run", "--mode", "sync", settings=settings, steps=1024))
    assert done.code == 0, done.err
