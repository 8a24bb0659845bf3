"""A learned judge as a teacher, its deferral, and teachers of other packages."""

import json

import numpy as np
import pytest
from helpers import segment
from hypothesis import given
from hypothesis import strategies as st
from runs import prefrl, tiny, trained

from prefrl.api import create_run
from prefrl.config.judge_config import JudgeConfig
from prefrl.config.request import Request
from prefrl.errors import DamagedFileError, UsageError
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.notes import Notes
from prefrl.feedback.quality import report
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.recipes import resolve
from prefrl.reward.judging import judge_for, load_judge
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import load_tree, save_tree
from prefrl.teachers import MAKERS, check_teacher, parse_teacher, uses_true_reward
from prefrl.teachers.judge import JudgeTeacher, choose_unsure, predictor, sureness
from prefrl.teachers.naming import passed_on_to, split_source

# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "source"),
    [
        ("judge:runs/one", "judge", "runs/one"),
        ("judge:runs/one+human", "judge+human", "runs/one"),
        ("judge:a+b", "judge", "a+b"),
        ("judge:a+b+oracle", "judge+oracle", "a+b"),
        ("judge:C:/runs/a+mistake+skip", "judge+mistake+skip", "C:/runs/a"),
        ("judge:human", "judge", "human"),
        ("judge+human", "judge+human", None),
        ("mistake+skip", "mistake+skip", None),
    ],
)
def test_a_judge_s_source_is_separate_from_the_names(text, name, source):
    assert parse_teacher(text) == (name, source)


def test_to_whom_a_judge_passes_on_and_who_needs_the_true_reward():
    assert [passed_on_to(name) for name in ("judge", "judge+human", "judge+mistake+skip", "mistake+skip")] == [
        None,
        "human",
        "mistake+skip",
        None,
    ]
    needed = {"judge": False, "judge+human": False, "judge+oracle": True, "human": False, "mistake+skip": True}
    assert {name: uses_true_reward(name) for name in needed} == needed
    assert split_source("other:judge:x+human", {"human"}) == ("other:judge:x+human", None)


@pytest.mark.parametrize("name", ["judge+none", "judge+judge", "judge+nobody", "oracle+judge", "nobody:x", "human:x"])
def test_teachers_that_cannot_be_joined_are_refused(name):
    with pytest.raises(UsageError):
        check_teacher(name)


def test_a_judge_without_a_source_is_one_line():
    with pytest.raises(UsageError, match="does not say which model judges: write judge:RUN"):
        resolve("reacher", teacher="judge+human")
    assert resolve("reacher", teacher="judge+human", settings={"judge.source": "x"}).asks_people
    assert not resolve("reacher", teacher="judge:human").asks_people


# -- decisions --------------------------------------------------------------------------------------------------------


def test_sureness_by_hand():
    assert [sureness(each) for each in (0.5, 0.9, 0.2)] == [0.5, 0.9, 0.8]


def test_queries_below_the_threshold_are_passed_on():
    sure = {3: 0.5, 4: 0.8, 5: 0.79, 6: 1.0}
    assert choose_unsure(sure, JudgeConfig(confidence=0.8), 0, 0) == {3, 5}
    assert choose_unsure(sure, JudgeConfig(confidence=0.5), 0, 0) == set()


def test_the_least_sure_share_is_passed_on():
    sure = {3: 0.9, 4: 0.6, 5: 0.7, 6: 1.0}
    assert choose_unsure(sure, JudgeConfig(share=0.5), 0, 0) == {4, 5}
    # Of 3 + 4 queries, a third are 2.33; one was passed on before.
    assert choose_unsure(sure, JudgeConfig(share=1 / 3), 3, 1) == {4}
    assert choose_unsure(sure, JudgeConfig(share=1 / 3), 3, 2) == set()
    assert choose_unsure(sure, JudgeConfig(share=1 / 3), 3, 5) == set()


@given(st.floats(0, 1), st.lists(st.integers(1, 9), max_size=20))
def test_the_share_of_all_queries_is_kept_to_within_one(share, rounds):
    seen = passed = 0
    for size in rounds:
        passed += len(choose_unsure(dict.fromkeys(range(size), 0.7), JudgeConfig(share=share), seen, passed))
        seen += size
        assert abs(passed - share * seen) < 1 + 1e-6


def test_a_prediction_is_the_mean_over_the_members_of_the_first_segment_s_probability():
    asked = []

    def predict(segments, queries):
        asked.append(([each.id for each in segments], queries.tolist()))
        return np.array([[0.2, 1.0], [0.6, 0.5]])

    queries = [pair_query(1, 0, segment(4), segment(2), 0), pair_query(1, 1, segment(2), segment(9), 0)]
    assert predictor(predict)(queries).tolist() == [0.4, 0.75]
    assert asked == [([4, 2, 2, 9], [[0, 1], [2, 3]])]


class Listed:
    """A teacher that answers nothing by itself."""

    def __init__(self):
        self.asked = {}

    def submit(self, queries):
        self.asked |= queries

    def collect(self):
        return [Answer(number, Judgement.EQUAL, "listed", 0) for number in self.asked]


@pytest.fixture
def store(tmp_path):
    opened = LabelStore(tmp_path / "labels.sqlite", create=True)
    yield opened
    opened.close()


def queries(*ids):
    return {number: pair_query(1, number, segment(2 * number), segment(2 * number + 1), 7) for number in ids}


def by_rank(probabilities):
    return lambda asked: np.array([probabilities[query.rank] for query in asked])


def test_a_judge_answers_what_it_is_sure_of_and_passes_on_the_rest(store):
    other = Listed()
    judge = JudgeTeacher(by_rank({1: 0.9, 2: 0.55, 3: 0.1}), JudgeConfig(confidence=0.8), Notes(store, "x"), other)
    judge.submit(queries(1, 2, 3))
    answers = judge.collect()
    assert answers == [
        Answer(1, Judgement.LEFT, "judge", 7),
        Answer(3, Judgement.RIGHT, "judge", 7),
        Answer(2, Judgement.EQUAL, "listed", 0),
    ]
    alone = JudgeTeacher(by_rank({2: 0.55}), JudgeConfig(confidence=0.8), Notes(store, "y"))
    alone.submit(queries(2))
    assert alone.collect() == [Answer(2, Judgement.LEFT, "judge", 7)]
    assert alone.collect() == []


def test_what_was_passed_on_is_passed_on_again_after_resuming(store):
    probabilities = by_rank({1: 0.9, 2: 0.55, 3: 0.6, 4: 0.99})
    judge = JudgeTeacher(probabilities, JudgeConfig(share=0.5), Notes(store, "x"), Listed())
    judge.submit(queries(1, 2, 3, 4))
    other = Listed()
    again = JudgeTeacher(probabilities, JudgeConfig(share=0.5), Notes(store, "x"), other)
    again.submit(queries(2, 3))  # those that are still unanswered: of these alone, it would pass on one
    assert sorted(other.asked) == [2, 3]
    assert again.collect() == [Answer(number, Judgement.EQUAL, "listed", 0) for number in (2, 3)]
    third = Listed()
    again = JudgeTeacher(probabilities, JudgeConfig(share=0.5), Notes(store, "x"), third)
    again.submit(queries(1, 4))  # which the judge answered, but the run was killed before the answers were stored
    assert third.asked == {}


def test_damaged_notes_are_one_line(store):
    for noted in ({"last": "x"}, [1], {"last": 0, "seen": 0, "passed_on": ["x"]}):
        Notes(store, "x").write(noted)
        with pytest.raises(DamagedFileError):
            JudgeTeacher(by_rank({1: 0.9}), JudgeConfig(), Notes(store, "x"), Listed()).submit(queries(1))


# -- sources and training ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judging(tmp_path_factory):
    """A run whose reward model judges."""
    root = tmp_path_factory.mktemp("judging") / "run"
    settings = ("evaluation.episodes=0", "reward.pretrain_comparisons=6400")
    done = prefrl(*tiny("reacher", root, "--mode", "sync", "--labels", "60", settings=settings, steps=2048))
    assert done.code == 0, done.err
    return root


def test_a_fitted_file_judges_as_the_ensemble_that_was_fitted(judging, tmp_path):
    path = tmp_path / "judge.safetensors"
    done = prefrl("reward", "fit", judging, "--out", path, "--comparisons", "640")
    assert done.code == 0, done.err
    config = resolve("reacher", teacher=f"judge:{path}")
    found = judge_for(config)
    found.save(copy := tmp_path / "copy.safetensors")
    again = load_judge(copy)
    assert again.config == found.config
    steps = np.random.default_rng(0).normal(size=(5, *found.ensemble().inputs.step)).astype(np.float32)
    assert np.array_equal(again.ensemble().score(steps), found.ensemble().score(steps))


def test_a_bad_judge_is_one_line(judging, tmp_path):
    weights = judging / "reward_model" / "weights.safetensors"
    cases = {
        "there is no such run or file": ("reacher", tmp_path / "nothing"),
        "is for reacher, not Pendulum-v1": ("Pendulum-v1", judging),
        "does not say which task it is for": ("reacher", weights),
        "is not a run": ("reacher", tmp_path),
        "does not say which model judges": ("reacher", ""),
        "a judge passes queries on to people or to a simulated teacher": ("reacher", f"{judging}+none"),
    }
    for said, (task, source) in cases.items():
        done = prefrl("train", task, "--teacher", f"judge:{source}", "--out", tmp_path / "run")
        assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
        assert said in done.err
    for asked, said in (("rating", "asks for rating"), ("marks,rating,comparison", "asks for marks and rating")):
        with pytest.raises(UsageError, match=f"a judge answers comparison queries only, but the run {said}"):
            judge_for(resolve("reacher", teacher=f"judge:{judging}", feedback=asked))
    baseline = create_run(Request("reacher", teacher="none", out=tmp_path / "baseline"))
    with pytest.raises(UsageError, match="learns from no labels: it has learned no reward model"):
        judge_for(resolve("reacher", teacher=f"judge:{baseline.root}"))


def test_a_damaged_judge_is_one_line(judging, tmp_path):
    judge_for(resolve("reacher", teacher=f"judge:{judging}")).save(path := tmp_path / "judge.safetensors")
    tree = load_tree(path)
    tree["config"]["reward"]["hidden"] = [7]
    save_tree(path, tree)
    with pytest.raises(DamagedFileError):
        judge_for(resolve("reacher", teacher=f"judge:{path}"))
    tree["config"]["reward"]["hidden"] = "x"
    save_tree(path, tree)
    with pytest.raises(DamagedFileError):
        load_judge(path)
    del tree["config_format"]
    save_tree(path, tree)
    with pytest.raises(DamagedFileError, match="config_format"):
        load_judge(path)


def test_a_judge_that_defers_to_an_oracle_resumes_exactly_and_is_counted_apart(judging, tmp_path):
    settings = {
        "round_steps": 512,
        "agent.n_envs": 4,
        "agent.n_steps": 64,
        "checkpoint_seconds": 0,
        "reward.pretrain_comparisons": 320,
        "evaluation.episodes": 0,
        "judge.share": 0.4,
    }
    teacher = f"judge:{judging}+oracle"
    request = Request("reacher", teacher=teacher, labels=20, steps=2048, mode="sync", settings=settings)
    whole = trained(tmp_path / "whole", request)
    for stop in (3, 6):
        assert trained(tmp_path / f"stopped-{stop}", request, stop) == whole
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["teacher"] == "judge+oracle"
    assert summary["labels_by_teacher"] == {"judge": 12, "oracle": 8}
    assert summary["labels_answered"] == 20
    assert set(report(tmp_path / "whole")["labellers"]) == {"judge", "oracle"}


def test_a_judge_s_answers_are_never_counted_as_people_s(judging, tmp_path):
    run = create_run(Request("reacher", teacher=f"judge:{judging}+human", out=tmp_path / "run"))
    assert run.config.asks_people
    pairs = [pair_query(1, n, segment(2 * n), segment(2 * n + 1), 0) for n in range(3)]
    with run_store(run, create=True) as store:
        one, two, three = store.add_queries(pairs)
        store.add_answers(
            [
                Answer(one, Judgement.LEFT, "judge", 0),
                Answer(two, Judgement.LEFT, "judge", 0),
                Answer(three, Judgement.RIGHT, "human", 0, "ann", 2.0),
            ]
        )
        assert store.by_teacher() == {"human": 1, "judge": 2}
    found = report(run.root)
    assert found["all"]["answers"] == 1
    assert {name: by["answers"] for name, by in found["labellers"].items()} == {"ann": 1, "judge": 2}


def test_a_judge_is_as_good_as_its_model(judging):
    """On pairs of clips of the run it was fitted to, it mostly agrees with the true reward."""
    found = report(judging)
    assert found["labellers"]["oracle"]["agrees_with_reward"] == 1.0
    from prefrl.experience.clips import ClipFolder

    run = RunDirectory.open(judging)
    with run_store(run) as store:
        labels = store.labels("comparison")
    clips = ClipFolder(run.clips)
    model = judge_for(resolve("reacher", teacher=f"judge:{judging}")).ensemble()
    pairs = [tuple(clips.load(number) for number in label.segments) for label in labels]
    asked = [pair_query(1, n, *pair, 0) for n, pair in enumerate(pairs)]
    said = predictor(model.predict_preferences)(asked) > 0.5
    right = [(label.target == 1) == left for label, left in zip(labels, said, strict=True) if label.target != 0.5]
    assert np.mean(right) > 0.75


# -- teachers of other packages ---------------------------------------------------------------------------------------

PLUGIN = '''
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.terms import Answer


class Stubborn:
    """Prefers the side that its argument names."""

    def __init__(self, setting):
        self.name, self.side, self.answers = setting.name, Judgement(setting.argument or "left"), []
        assert setting.run.config.task == "reacher"

    def submit(self, queries):
        self.answers += [Answer(number, self.side, "stubborn", query.agent_step) for number, query in queries.items()]

    def collect(self):
        answers, self.answers = self.answers, []
        return answers
'''


@pytest.mark.parametrize(("name", "side"), [("stubborn", "left"), ("stubborn:right", "right")])
def test_another_package_offers_a_teacher(name, side, tmp_path, monkeypatch):
    (tmp_path / "stubborn_teacher.py").write_text(PLUGIN)
    metadata = tmp_path / "stubborn_teacher-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn-teacher\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[prefrl.teachers]\nstubborn = stubborn_teacher:Stubborn\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(MAKERS)
    MAKERS.extended("prefrl.teachers", lambda entry_point: entry_point.value)
    try:
        root = tmp_path / "run"
        done = prefrl(*tiny("reacher", root, "--mode", "sync", "--teacher", name, steps=1024))
        assert done.code == 0, done.err
        with run_store(RunDirectory.open(root)) as store:
            assert {(answer.teacher, str(answer.value)) for answer in store.standing()} == {("stubborn", side)}
    finally:
        MAKERS.clear()
        MAKERS.update(before)
