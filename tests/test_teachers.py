import contextlib
import math
import sqlite3
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import segment
from runs import STEPS, assert_equal_runs, label_counts, prefrl, summary, tiny
from test_resume import stop_at

from prefrl import api, resume, teachers, train
from prefrl.bookkeeping.keeper import Keeper
from prefrl.errors import UsageError
from prefrl.experience.episodes import Episodes
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.kinds.comparison import judge as judge_rewards
from prefrl.feedback.kinds.simulation import TeacherConfiguration, discounted
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory
from prefrl.teachers import HUMAN, MAKERS, TEACHERS, check_teacher, make_teacher
from prefrl.teachers.human import HumanTeacher


def query(left, right, step=7, rank=0):
    return pair_query(1, rank, segment(0, left), segment(1, right), step)


def judge(asked, ways=TEACHERS["oracle"], usual=0.0, chance=(0.5, 0.5)):
    sides = (asked.segments[0].true_rewards, asked.segments[1].true_rewards)
    return judge_rewards(*sides, ways, usual, np.array(chance))


def made(name="oracle", seed=0, episodes=lambda: None):
    return make_teacher(name, seed, episodes)


def shares(name, left, right, *, threshold=0.0, draws=4000):
    """The share of each judgement among many of one pair."""
    teacher = made(name, episodes=lambda: Episodes(threshold / len(left), 1.0) if threshold else None)
    teacher.submit({rank: query(left, right, rank=rank) for rank in range(draws)})
    said = [answer.value.value for answer in teacher.collect()]
    return {judgement.value: said.count(judgement.value) / draws for judgement in Judgement}


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1.0, 2.0], [1.0, 1.0], Judgement.LEFT),
        ([1.0, 1.0], [0.0, 3.0], Judgement.RIGHT),
        ([1.0, 2.0], [3.0, 0.0], Judgement.EQUAL),
        ([0.0, 0.0, 10.0], [9.0, 0.0, 0.0], Judgement.LEFT),  # no discount
        ([-5.0], [-6.0], Judgement.LEFT),
        ([0.1] * 10, [0.1] * 10, Judgement.EQUAL),
    ],
)
def test_oracle_prefers_the_higher_undiscounted_sum(left, right, expected):
    assert judge(query(left, right)) is expected


def test_oracle_tells_sums_apart_that_single_precision_would_not():
    assert judge(query([1e8, 1.0, 0.0], [1e8, 0.0, 0.0])) is Judgement.LEFT


def test_oracle_does_not_depend_on_the_side():
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = rng.integers(0, 3, size=(2, 4)).astype(float)
        verdicts = {judge(query(one, other)), judge(query(other, one))}
        assert verdicts in ({Judgement.EQUAL}, {Judgement.LEFT, Judgement.RIGHT})


def test_oracle_answers_each_query_once_at_the_step_it_was_asked():
    oracle = made()
    assert list(oracle.collect()) == []
    oracle.submit({5: query([1.0], [2.0]), 9: query([2.0], [1.0], step=8)})
    oracle.submit({6: query([2.0], [2.0])})
    answers = {answer.query_id: answer for answer in oracle.collect()}
    assert {number: answer.value.value for number, answer in answers.items()} == {5: "right", 9: "left", 6: "equal"}
    assert {answer.teacher for answer in answers.values()} == {"oracle"}
    assert answers[9].agent_step == 8
    assert list(oracle.collect()) == []


def test_judgements_have_the_paper_s_distributions():
    assert [judgement.mu for judgement in Judgement] == [1.0, 0.0, 0.5, None]


def test_teachers_are_made_again_each_time():
    assert made() is not made()
    assert all(check_teacher(name) == name for name in [*TEACHERS, "none"])


@pytest.mark.parametrize(("name", "hint"), [("orcale", "oracle"), ("zzz", "none")])
def test_an_unknown_teacher_is_refused_with_the_nearest_names(name, hint):
    with pytest.raises(UsageError, match=hint):
        check_teacher(name)


# -- B-Pref's teachers: four standard errors of 4000 draws are at most 0.032 ------------------------------------------


def test_boltzmann_prefers_by_the_logistic_rule():
    found = shares("boltzmann", [1.0, 0.5], [0.5, 0.0])
    assert found["left"] == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.03)
    assert found["left"] + found["right"] == 1
    assert shares("boltzmann", [1e6], [-1e6], draws=50)["left"] == 1  # no overflow
    assert shares("boltzmann", [-1e6], [1e6], draws=50)["right"] == 1
    assert shares("boltzmann", [1.0], [1.0])["left"] == pytest.approx(0.5, abs=0.03)  # it never says equal


def test_a_teacher_who_errs_mixes_up_a_tenth():
    found = shares("mistake", [2.0], [1.0])
    assert found["right"] == pytest.approx(0.1, abs=0.02)
    assert shares("mistake", [1.0], [1.0])["equal"] == 1


def test_a_teacher_who_skips_answers_only_where_a_clip_is_worth_it():
    assert shares("skip", [0.5, 0.4], [0.1, 0.0], threshold=10.0, draws=5)["incomparable"] == 1  # 0.9 < 0.1 · 10
    assert shares("skip", [0.6, 0.5], [0.1, 0.0], threshold=10.0, draws=5)["left"] == 1
    assert shares("skip", [0.5, 0.4], [0.1, 0.0], draws=5)["left"] == 1  # no episode has ended: no threshold


@pytest.mark.parametrize(
    ("name", "left", "right", "expected"),
    [
        ("skip", [-3.0, -2.0], [-30.0, -9.0], "left"),
        ("skip", [-30.0, -9.0], [-3.0, -2.0], "right"),
        ("skip", [0.0, 0.0], [-1e-6, 0.0], "left"),
        ("equal", [-5.0], [-5.0 - 1e-4], "left"),
        ("equal+skip", [-5.0], [-4.9], "right"),
    ],
)
def test_no_threshold_applies_before_an_episode_has_ended(name, left, right, expected):
    """Neither to sums of rewards that are costs: a threshold of 0 would skip every pair of them."""
    assert shares(name, left, right, draws=3)[expected] == 1


def test_thresholds_serve_tasks_whose_rewards_are_costs():
    """The usual sum is -10: a clip at -19.5 falls short of it by more than nine tenths of its size, at -18 not."""
    assert judge(query([-19.5], [-25.0]), TEACHERS["skip"], -10.0) is Judgement.INCOMPARABLE
    assert judge(query([-18.0], [-25.0]), TEACHERS["skip"], -10.0) is Judgement.LEFT
    assert judge(query([-5.0], [-5.9]), TEACHERS["equal"], -10.0) is Judgement.EQUAL
    assert judge(query([-5.0], [-6.1]), TEACHERS["equal"], -10.0) is Judgement.LEFT


def test_a_teacher_of_equals_ties_what_is_closer_than_the_threshold():
    assert shares("equal", [5.0], [4.1], threshold=10.0, draws=5)["equal"] == 1
    assert shares("equal", [5.0], [3.9], threshold=10.0, draws=5)["left"] == 1


def test_thresholds_are_applied_once():
    """epsilon (L / T) R: a clip of 3 of 30 steps, mean return 200, epsilon 0.1: a threshold of 2, and not of 0.2."""
    teacher = made("equal", episodes=lambda: Episodes(200.0, 30.0))
    teacher.submit({0: query([1.0, 0, 0], [-0.9, 0, 0]), 1: query([1.0, 0, 0], [-1.1, 0, 0])})
    assert [answer.value.value for answer in teacher.collect()] == ["equal", "left"]


def test_a_myopic_teacher_weighs_the_last_step_whole():
    assert discounted(np.array([1.0, 2.0, 4.0], np.float32), 0.5) == 0.25 + 1 + 4
    assert judge(query([3.0, 0.0, 0.0], [0.0, 0.0, 2.5])) is Judgement.LEFT
    assert judge(query([3.0, 0.0, 0.0], [0.0, 0.0, 2.5]), TEACHERS["myopic"]) is Judgement.RIGHT


def test_equal_overrides_a_mistake_and_a_skip_comes_first():
    ways = TEACHERS["equal"] + TEACHERS["mistake"] + TEACHERS["skip"]
    assert ways == TeacherConfiguration(mistake=0.1, skip=0.1, equal=0.1)
    assert judge(query([5.0], [4.5]), ways, 10.0, (0.5, 0.0)) is Judgement.EQUAL
    assert judge(query([0.5], [0.4]), ways, 10.0, (0.5, 0.0)) is Judgement.INCOMPARABLE
    assert judge(query([5.0], [3.0]), ways, 10.0, (0.5, 0.0)) is Judgement.RIGHT


def test_teachers_add_up_by_name():
    teacher = made("boltzmann+mistake")
    assert teacher._configuration == TeacherConfiguration(rationality=1.0, mistake=0.1)
    teacher.submit({0: query([9.0], [0.0])})
    assert teacher.collect()[0].teacher == "boltzmann+mistake"
    with pytest.raises(UsageError, match="mistake"):
        check_teacher("oracle+mistke")
    with pytest.raises(UsageError):
        check_teacher("none+mistake")


def test_people_like_ties_and_errors_are_at_people_s_rates():
    rng = np.random.default_rng(0)
    teacher = made("people-like")
    levels = rng.gamma(2.0, 2.0, size=(2, 3000))  # returns of clips over a training run: from standing to running
    teacher.submit({n: query([a], [b], rank=n) for n, (a, b) in enumerate(levels.T)})
    said = [answer.value for answer in teacher.collect()]
    ties = np.mean([judgement is Judgement.EQUAL for judgement in said])
    assert 0.02 < ties < 0.15
    wrong = [
        (judgement is Judgement.LEFT) != (a > b)
        for judgement, a, b in zip(said, *levels, strict=True)
        if judgement is not Judgement.EQUAL
    ]
    assert 0.05 < np.mean(wrong) < 0.1


def test_chance_is_the_query_s_own():
    """A query asked again after a resume gets the same answer, whatever else is asked; another seed may change it."""
    asked = {n: query([1.0], [0.5], rank=n % 20)._replace(round=1 + n // 20) for n in range(600)}

    def said(numbers, *, seed=0, at_once=False):
        teacher = made("boltzmann", seed=seed)
        for batch in [numbers] if at_once else [[number] for number in numbers]:
            teacher.submit({number: asked[number] for number in batch})
        return {answer.query_id: answer.value for answer in teacher.collect()}

    whole = said(list(asked), at_once=True)
    assert said(list(reversed(asked))) == whole
    assert said(list(asked)[300::7]) == {number: whole[number] for number in list(asked)[300::7]}
    lefts = np.array([whole[number] is Judgement.LEFT for number in asked])
    assert lefts.mean() == pytest.approx(1 / (1 + np.exp(-0.5)), abs=0.08)  # four standard errors
    other = np.array([judgement is Judgement.LEFT for judgement in said(list(asked), seed=1).values()])
    assert (lefts != other).mean() == pytest.approx(2 * 0.6225 * 0.3775, abs=0.08)  # as of two that toss for themselves
    assert abs(np.corrcoef(lefts[:-1], lefts[1:])[0, 1]) < 0.17


@pytest.mark.parametrize("teacher", ["skip", "equal"])
def test_ant_learns_from_a_teacher_with_a_threshold(tmp_path, teacher):
    """Every sum of its first clips is negative, and none of its episodes has ended then."""
    done = prefrl(*tiny("ant", tmp_path / "run", "--teacher", teacher, "--mode", "sync"))
    assert done.code == 0, done.err
    assert summary(tmp_path / "run")["labels_answered"] == 20
    with contextlib.closing(sqlite3.connect(tmp_path / "run" / "labels.sqlite")) as connection:
        before = "SELECT judgement, count(*) FROM labels WHERE agent_step < 5000 GROUP BY judgement"
        assert set(dict(connection.execute(before))) <= {"left", "right"}  # no threshold: no tie, none skipped
    assert label_counts(tmp_path / "run")[0] >= 20


def test_chance_differs_from_round_to_round():
    """Four standard errors of 400 draws of a half are 0.1; pairs of one rank are not judged alike for a whole run."""
    teacher = made("boltzmann")
    teacher.submit({n: query([1.0], [1.0])._replace(round=n) for n in range(400)})
    lefts = [answer.value is Judgement.LEFT for answer in teacher.collect()]
    assert np.mean(lefts) == pytest.approx(0.5, abs=0.1)
    ranked = made("boltzmann")
    ranked.submit({n: query([1.0], [1.0], rank=n) for n in range(400)})
    assert lefts != [answer.value is Judgement.LEFT for answer in ranked.collect()]


def test_thresholds_are_on_sums_that_are_not_discounted():
    """Discounted by a half, 0 0 8 and 8 0 0 are 8 and 2; both sum to 8. And 4 0 3 and 0 0 4: 4 and 4, and 7 and 4."""
    ways = TeacherConfiguration(equal=0.1, discount=0.5)
    assert judge(query([0.0, 0.0, 8.0], [8.0, 0.0, 0.0]), ways, 10.0) is Judgement.EQUAL
    assert judge(query([0.0, 0.0, 8.0], [6.9, 0.0, 0.0]), ways, 10.0) is Judgement.LEFT  # 1.1 apart
    assert judge(query([4.0, 0.0, 3.1], [0.0, 0.0, 4.0]), ways, 10.0) is Judgement.LEFT  # 0.1 apart where discounted
    assert judge(query([4.0, 0.0, 2.9], [0.0, 0.0, 4.0]), ways, 10.0) is Judgement.RIGHT
    skips = TeacherConfiguration(skip=0.5, discount=0.5)
    assert judge(query([6.0, 0.0, 0.0], [0.0, 0.0, 0.0]), skips, 10.0) is Judgement.LEFT  # 1.5 where discounted
    assert judge(query([0.0, 0.0, 4.0], [0.0, 0.0, 0.0]), skips, 10.0) is Judgement.INCOMPARABLE
    assert judge(query([0.0, 0.0, 5.0], [0.0, 0.0, 0.0]), skips, 10.0) is Judgement.LEFT  # half of the usual is enough


def test_clips_are_too_close_whichever_is_the_better_and_whatever_their_sign():
    weber, equal = TeacherConfiguration(noticeable=0.1), TeacherConfiguration(equal=0.5)
    for one, other, close in ((10.0, 9.05, True), (10.0, 8.9, False), (-10.0, -9.05, True), (-10.0, -8.9, False)):
        better = Judgement.LEFT if one > other else Judgement.RIGHT
        worse = Judgement.RIGHT if one > other else Judgement.LEFT
        assert judge(query([one], [other]), weber) is (Judgement.EQUAL if close else better)
        assert judge(query([other], [one]), weber) is (Judgement.EQUAL if close else worse)
    assert judge(query([4.0], [4.875]), equal, 2.0) is judge(query([4.875], [4.0]), equal, 2.0) is Judgement.EQUAL
    assert judge(query([4.0], [5.0]), equal, 2.0) is Judgement.RIGHT  # as far apart as the threshold is not closer
    assert judge(query([5.0], [4.0]), equal, 2.0) is Judgement.LEFT
    assert judge(query([1e8, 1.0, 0.0], [1e8, 0.0, 0.0]), equal, 1.0) is Judgement.LEFT  # in double precision


def test_one_number_is_for_the_boltzmann_rule_and_the_other_for_the_mistake():
    ways = TeacherConfiguration(rationality=1.0, mistake=0.25)
    for preference, error, expected in (
        (0.25, 0.875, Judgement.LEFT),
        (0.875, 0.5, Judgement.RIGHT),
        (0.25, 0.125, Judgement.RIGHT),
        (0.875, 0.125, Judgement.LEFT),
        (0.5, 0.5, Judgement.RIGHT),  # less than a half is left, less than a quarter a mistake
        (0.25, 0.25, Judgement.LEFT),
    ):
        assert judge(query([1.0], [1.0]), ways, 0.0, (preference, error)) is expected


def test_people_are_a_teacher_of_their_own():
    assert check_teacher("human") == HUMAN == "human"
    with pytest.raises(UsageError, match="human"):
        check_teacher("human+skip")


def test_people_s_answers_do_not_pass_through_their_teacher():
    people = made("human")
    people.submit({1: query([1.0], [0.0])})
    assert list(people.collect()) == []
    assert isinstance(people, HumanTeacher)


def test_teachers_are_those_of_b_pref_with_its_settings_and_one_like_people():
    plain = {"rationality": math.inf, "discount": 1.0, "mistake": 0.0, "skip": 0.0, "equal": 0.0, "noticeable": 0.0}
    plain |= {"attention": 1.0, "delay": 0, "advantage": False}
    plain |= {"squares": False, "skips_count": False}
    ways = {
        "oracle": {},
        "boltzmann": {"rationality": 1.0},
        "mistake": {"mistake": 0.1},
        "skip": {"skip": 0.1},
        "equal": {"equal": 0.1},
        "myopic": {"discount": 0.9},
        "bpref-skip": {"skip": 0.1, "squares": True, "skips_count": True},
        "bpref-equal": {"equal": 0.1, "squares": True},
        "people-like": {"noticeable": 0.1, "mistake": 0.075, "attention": 0.1},
        "late": {"delay": 6},
        "advantage": {"advantage": True},
    }
    assert {name: vars(found) for name, found in TEACHERS.items()} == {name: plain | way for name, way in ways.items()}


# -- B-Pref's code ----------------------------------------------------------------------------------------------------


def said(name, pairs, *, round_, usual=10.0):
    """The judgements of pairs in a round of queries, where clips have two steps and the usual sum is `usual`."""
    teacher = made(name, episodes=lambda: Episodes(usual, 2.0))
    queries = [query([left, 0.0], [right, 0.0], rank=rank) for rank, (left, right) in enumerate(pairs)]
    teacher.submit({rank: each._replace(round=round_) for rank, each in enumerate(queries)})
    return [answer.value.value for answer in teacher.collect()]


def test_b_pref_s_code_applies_epsilon_once_in_the_first_round_and_twice_afterwards():
    """Epsilon is 0.1 and the usual sum 10: the threshold is 1 in the first round, and then 0.1."""
    skipped = [(0.09, 0.05), (0.11, 0.05), (0.9, 0.5), (1.1, 0.5)]
    assert said("bpref-skip", skipped, round_=1) == ["incomparable", "incomparable", "incomparable", "left"]
    for round_ in (2, 3, 20):
        assert said("bpref-skip", skipped, round_=round_) == ["incomparable", "left", "left", "left"]
        assert said("skip", skipped, round_=round_) == ["incomparable", "incomparable", "incomparable", "left"]
    tied = [(5.0, 5.05), (5.0, 5.15), (5.0, 5.9), (5.0, 6.1)]
    assert said("bpref-equal", tied, round_=1) == ["equal", "equal", "equal", "right"]
    for round_ in (2, 3, 20):
        assert said("bpref-equal", tied, round_=round_) == ["equal", "right", "right", "right"]
        assert said("equal", tied, round_=round_) == ["equal", "equal", "equal", "right"]


def test_b_pref_s_teachers_can_be_added_up():
    ways = TEACHERS["bpref-skip"] + TEACHERS["bpref-equal"] + TEACHERS["mistake"]
    assert ways == TeacherConfiguration(skip=0.1, equal=0.1, mistake=0.1, squares=True, skips_count=True)
    later = ways.in_round(2)
    assert (later.skip, later.equal, later.mistake) == (pytest.approx(0.01), pytest.approx(0.01), 0.1)
    assert ways.in_round(1) is ways


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bpref-skip", True), ("mistake+bpref-skip", True), ("bpref-equal", False), ("skip", False), ("human", False),
     ("none", False)],
)  # fmt: skip
def test_whose_skipped_queries_count_towards_the_budget(name, expected):
    assert teachers.skips_count(name) is expected


def choosy(monkeypatch, *, count):
    """A teacher that skips pairs of which no clip returns more than usual, about half of them."""
    monkeypatch.setitem(TEACHERS, "choosy", TeacherConfiguration(skip=1.0, skips_count=count))
    monkeypatch.setitem(MAKERS, "choosy", MAKERS["oracle"])


@pytest.mark.parametrize("counts", [True, False])
def test_skipped_queries_are_asked_again_unless_they_count(tmp_path, monkeypatch, counts):
    choosy(monkeypatch, count=counts)
    out, settings = tmp_path / "run", {"agent.n_envs": 2, "agent.n_steps": 64, "round_steps": 512}
    settings |= {"queries.segment_length": 10, "reward.pretrain_comparisons": 32, "evaluation.episodes": 0}
    warned = []
    monkeypatch.setattr(api, "Control", lambda report: Control(report=report, warn=warned.append))
    train("reacher", teacher="choosy", mode="sync", labels=30, steps=3000, out=out, settings=settings)
    answered, skipped = (summary(out)[f"labels_{name}"] for name in ("answered", "incomparable"))
    assert skipped > 3
    assert (answered + skipped == 30) if counts else (answered == 30)
    assert summary(out)["labels_requested"] == 30
    assert not [line for line in warned if "could be asked for" in line]
    with contextlib.closing(sqlite3.connect(out / "labels.sqlite")) as connection:
        (asked,) = connection.execute("SELECT count(*) FROM queries").fetchone()
    assert asked == answered + skipped
    before = (out / "summary.json").read_bytes()
    resume(out)  # is finished: nothing more is asked
    assert (out / "summary.json").read_bytes() == before


@pytest.mark.parametrize(("spent", "over"), [(10, True), (9, False)])
def test_the_last_round_was_held_once_the_budget_is_spent_whether_or_not_on_labels(spent, over):
    keeper = object.__new__(Keeper)
    keeper.records = SimpleNamespace(last_row={"step": 100})
    counts = {"answered": 7, "spent": spent}
    keeper._parts = SimpleNamespace(agent=SimpleNamespace(steps=100), counts=counts, budget=10)
    assert keeper.has_last_round is over


def test_a_run_with_b_pref_s_teacher_is_the_same_if_it_is_stopped(tmp_path):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert prefrl(*tiny("reacher", whole, "--teacher", "bpref-skip+bpref-equal", "--mode", "sync")).code == 0
    RunDirectory.create(pieces, RunDirectory.open(whole).config)
    for step in (1, STEPS // 3, STEPS * 2 // 3):
        stop_at(pieces, step)
    assert prefrl("resume", pieces).code == 0
    assert_equal_runs(whole, pieces)


def test_the_names_that_the_package_exports_are_there():
    assert not [name for name in teachers.__all__ if not hasattr(teachers, name)]
