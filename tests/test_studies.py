"""Studies: what they measure by hand, and that their pages are what the published measurements give.

Run as a program, this file makes the pages again: python tests/test_studies.py
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefrl_benchmarks.studies import folder as folder_module
from prefrl_benchmarks.studies.abstaining import experiment as abstaining
from prefrl_benchmarks.studies.command import report_study, study_of
from prefrl_benchmarks.studies.folder import known_studies
from prefrl_benchmarks.studies.graph import methods
from prefrl_benchmarks.studies.horizon_one import experiment as horizon_one
from prefrl_benchmarks.studies.imitation_of_the_best import experiment as imitation
from prefrl_benchmarks.studies.negative_feedback import experiment as grid
from prefrl_benchmarks.studies.study import Outcome, Verdict, find_study, judged
from runs import prefrl

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "studies"
PAGES = ROOT / "docs" / "studies"
PUBLISHED = sorted(path.name for path in RESULTS.iterdir())
MEASURED = [name for name in PUBLISHED if (RESULTS / name / "measured.csv").exists()]
"""Those with an experiment of their own, apart from training runs."""


# -- the pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.usefixtures("unpainted")
def test_a_page_is_what_the_published_measurements_give(name, tmp_path):
    report_study(RESULTS / name, tmp_path)
    assert (PAGES / f"{name}.md").read_text() == (tmp_path / f"{name}.md").read_text()
    assert (PAGES / f"{name}.png").stat().st_size > 5000


def test_a_page_has_its_picture(tmp_path):
    report_study(RESULTS / "horizon-one", tmp_path)
    assert (tmp_path / "horizon-one.png").stat().st_size > 5000


def test_every_study_that_has_run_is_in_the_list_with_its_verdict():
    listed = (ROOT / "docs" / "studies.md").read_text()
    assert set(PUBLISHED) <= set(known_studies())
    for name in PUBLISHED:
        study = find_study(name)
        verdict = study.analyse(_rows(name), RESULTS / name).verdict
        assert f"| [{study.title}](studies/{name}.md) | {verdict} |" in listed


@pytest.mark.parametrize("name", ["graph", "imitation-of-the-best"])
def test_measurements_can_be_repeated(name, tmp_path):
    study = find_study(name)
    assert study.settings == json.loads((RESULTS / name / "study.json").read_text())["settings"]
    again = [{key: str(value) for key, value in row.items()} for row in study.measure(tmp_path)]
    for published, row in zip(_rows(name), again, strict=True):
        for key, value in published.items():
            same = value == row[key] or float(value) == pytest.approx(float(row[key]), rel=1e-6)
            assert same, (key, value, row[key])


def _rows(name):
    if name not in MEASURED:
        return []
    with (RESULTS / name / "measured.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


# -- the commands -----------------------------------------------------------------------------------------------------


def test_a_study_is_run_reported_and_published(tmp_path):
    out = tmp_path / "graph"
    done = prefrl("bench", "run", "graph", "--out", out)
    assert done.code == 0, done.err
    done = prefrl("bench", "report", out)
    assert (done.code, done.out.strip()) == (0, f"{out / 'report' / 'report.html'}: as expected")
    page = (out / "report" / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 1
    assert "Outcome: as expected" in page
    outcome = json.loads((out / "report" / "outcome.json").read_text())
    assert (outcome["study"], outcome["verdict"], len(outcome["table"])) == ("graph", "as expected", 7)
    assert prefrl("bench", "publish", out, tmp_path / "copy").code == 0
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["measured.csv", "study.json"]
    assert prefrl("bench", "report", tmp_path / "copy", "--out", tmp_path / "elsewhere").code == 0
    assert (tmp_path / "elsewhere" / "graph.md").read_text() == (out / "report" / "graph.md").read_text()


def test_what_cannot_be_is_refused_in_a_line(tmp_path):
    copy = tmp_path / "graph"
    shutil.copytree(RESULTS / "graph", copy)
    (tmp_path / "file").write_text("")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.json").write_text('{"study": 3}')
    (tmp_path / "unknown").mkdir()
    (tmp_path / "unknown" / "study.json").write_text('{"study": "../../graph"}')
    for words, code, said in (
        (("run", "grahp", "--out", tmp_path / "x"), 2, "did you mean graph?"),
        (("run", "abstaining", "--out", copy), 2, "holds the study graph"),
        (("run", "graph", "--out", tmp_path / "file"), 2, "cannot be written"),
        (("report", tmp_path / "damaged"), 1, "damaged"),
        (("report", tmp_path / "unknown"), 2, "unknown study"),
        (("report", copy, "--out", tmp_path / "file"), 2, "cannot be written"),
    ):
        done = prefrl("bench", *words)
        assert (done.code, done.err.count("\n")) == (code, 1), done.err
        assert said in done.err


WITHOUT_EXTRA = """
import sys
class Missing:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("scipy", "matplotlib", "jinja2"):
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Missing())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in ("scipy", "matplotlib", "jinja2") else found(name, *rest)
from prefrl.commands.cli import main
main()
"""


def without_extra(*words):
    """The command in a process whose environment lacks the extra `bench`."""
    script = [sys.executable, "-P", "-c", WITHOUT_EXTRA]
    done = subprocess.run([*script, *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip().splitlines()


def test_suites_run_without_the_extra_and_studies_say_what_is_missing(tmp_path):
    """The extra is for reports, and for studies, which have some of their parts."""
    assert without_extra("bench", "run", "qick", "--out", tmp_path / "x") == (
        2,
        ["prefrl: unknown suite or study 'qick'; did you mean quick?"],
    )
    (tmp_path / "small.toml").write_text(SUITE)
    code, said = without_extra("bench", "run", tmp_path / "small.toml", "--out", tmp_path / "suite")
    assert (code, "[1/1] reacher_ppo_none-true_s0" in said[0]) == (0, True)
    assert without_extra("bench", "run", "graph", "--out", tmp_path / "graph") == (
        1,
        ["prefrl: this needs jinja2: pip install 'prefrl[bench]'"],
    )
    assert not (tmp_path / "graph").exists()


def test_a_study_s_folder_is_found_by_its_name():
    assert study_of(RESULTS / "graph").title.startswith("Imitation of the best")
    assert find_study("negative-feedback").suite is None


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [((True, True), Verdict.HELD), ((True, False), Verdict.PARTLY), ((False, False), Verdict.FAILED)],
)
def test_a_verdict_is_of_all_parts(parts, verdict):
    assert judged(*parts) is verdict


@pytest.mark.parametrize("name", MEASURED)
def test_an_analysis_can_say_that_the_claim_failed(name):
    """With every number replaced by one half, no study's expectation holds in full."""
    study = find_study(name)
    constant = ("value", "to s2", "mean", "abstains", "forward", "score")
    rows = [{key: "0.5" if key in constant and value else value for key, value in row.items()} for row in _rows(name)]
    assert study.analyse(rows, RESULTS / name).verdict is not Verdict.HELD


# -- the graph --------------------------------------------------------------------------------------------------------


def test_the_value_of_a_policy_and_its_gradient_by_hand():
    policy = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert methods.value(policy) == pytest.approx(0.75 * 0.5 + 0.25 * 0.5)
    assert methods.greedy(np.array([[1.0, 1.0], [0.0, 2.0]])).tolist() == [[0.5, 0.5], [0.0, 1.0]]
    gradient = methods.gradient(policy, methods.SEEN[2], [1.0, 2.0])
    assert gradient.tolist() == [[0.75, -0.75], [-1.0, 1.0]]


def test_q_values_are_updated_from_the_end():
    values = np.zeros((2, 2))
    methods.q_update(values, methods.SEEN[0], 0.5)
    methods.q_update(values, methods.SEEN[2], 0.5)
    assert values.tolist() == [[0.25, 0.0], [0.5, 0.0]]


def test_an_actor_critic_with_the_batch_s_means_is_indifferent():
    settings = find_study("graph").settings
    policy = methods.actor_critic_of_batch(settings)
    assert policy[0].tolist() == pytest.approx([0.5, 0.5])
    assert policy[1, 0] > 0.99


# -- imitation of the best --------------------------------------------------------------------------------------------


def test_rules_of_what_is_best_by_hand():
    rewards, rng = np.array([-4.0, -3.0, -2.0, 0.0]), np.random.default_rng(0)
    settings = {"threshold": -3.0, "share": 0.25, "midpoint": -2.0, "width": 1e-6}
    assert imitation.top_bucket(rewards, settings, rng).tolist() == [False, True, True, True]
    assert imitation.top_share(rewards, settings, rng).tolist() == [False, False, False, True]
    with np.errstate(over="ignore"):
        assert imitation.rising(rewards, settings, rng)[[0, 1, 3]].tolist() == [False, False, True]


# -- abstaining -------------------------------------------------------------------------------------------------------


def test_the_threshold_is_where_answering_is_worth_nothing():
    for cost in (0.25, 1.0, 3.0):
        right = abstaining.threshold(cost)
        assert right - (1 - right) * cost == pytest.approx(0)
    assert abstaining.levels({"levels": 4}).tolist() == [0.125, 0.375, 0.625, 0.875]


# -- a horizon of one -------------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.integers(1, 6))
def test_the_chance_of_one_step_in_time(forward, longest):
    assert horizon_one.reaches_the_end(np.array([forward]), longest) == pytest.approx(1 - (1 - forward) ** longest)


def test_the_chance_of_several_steps_in_time():
    assert horizon_one.reaches_the_end(np.array([0.5, 0.5]), 2) == pytest.approx(0.25)
    assert horizon_one.reaches_the_end(np.array([0.5, 0.5]), 3) == pytest.approx(0.5)
    assert horizon_one.reaches_the_end(np.array([1.0, 0.0]), 9) == 0


def test_marks_by_hand():
    episode = horizon_one.Episode(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0.0, 0.0, 1.0]))
    marks = {name: marker(episode, {"cost": 0.05}).tolist() for name, marker in horizon_one.MARKS.items()}
    assert list(marks.values()) == [[-1, 1, 1], [0, 0, 1], [0, -1, 1]]


def test_rewards_are_discounted_to_the_steps_before():
    episode = SimpleNamespace(states=np.array([0, 1]), forward=np.array([1, 1]))
    for discount, expected in ((0.0, [0.0, 0.5]), (None, [0.25, 0.5])):
        logits = np.zeros(2)
        horizon_one.with_discount(discount)(logits, episode, np.array([0.0, 1.0]), {"rate": 1.0, "discount": 0.5})
        assert logits.tolist() == expected


def test_tamer_acts_on_the_larger_mean_mark():
    tamer, logits = horizon_one.Tamer(2), np.zeros(2)
    episode = SimpleNamespace(states=np.array([0, 0, 1]), forward=np.array([0, 1, 1]))
    tamer(logits, episode, np.array([1.0, 0.5, -1.0]), {})
    assert logits.tolist() == [-3, -3]


# -- negative feedback ------------------------------------------------------------------------------------------------


def test_a_grid_s_values_by_hand():
    read = grid.read_grid(["..G", "#P."])
    # States: (0, 0), (0, 1), (1, 2). Moves: up, down, left, right.
    assert read.following.tolist() == [[0, 0, 0, 1], [1, 3, 0, 3], [3, 2, 3, 2]]
    assert read.rewards.tolist() == [[0, 0, 0, 0], [0, -1, 0, 1], [1, 0, -1, 0]]
    assert read.near_pits.tolist() == [False, True, True]
    values = grid.action_values(read, 0.5)
    assert values[:, 3].tolist() == [0.5, 1.0, 0.5]
    right = np.eye(4)[[3, 3, 0]]
    assert grid.mean_value(read, right, 0.5) == pytest.approx((0.5 + 1 + 1) / 3)


def test_a_teacher_withholds_the_good_labels_next_to_pits():
    read = grid.read_grid(["..G", "#P."])
    labels = grid.Labels(np.array([0, 1, 1, 2]), np.array([3, 3, 1, 0]), np.array([True, True, False, True]))
    kept = grid.withhold(read, labels)
    assert [part.tolist() for part in kept] == [[0, 1], [3, 1], [True, False]]
    given_labels = grid.label(read, grid.action_values(read, 0.5), 200, np.random.default_rng(0))
    best = {(0, 3), (1, 3), (2, 0)}
    for state, action, good in zip(*given_labels, strict=True):
        assert good == ((state, action) in best)


def test_learners_use_their_kind_of_labels():
    labels = grid.Labels(np.array([0, 1]), np.array([2, 1]), np.array([True, False]))
    settings = {"steps": 200, "rate": 0.5, "penalty": 0.02}
    good, bad, both = (grid.learn(labels, learner, 3, settings) for learner in grid.LEARNERS)
    assert good[0, 2] > 0.9
    assert good[1].tolist() == bad[0].tolist() == both[2].tolist() == [0.25] * 4
    assert bad[1, 1] < 0.05
    np.testing.assert_allclose(bad[1, [0, 2, 3]], bad[1, 0])
    assert (both[0].tolist(), both[1].tolist()) == (good[0].tolist(), bad[1].tolist())


def test_the_gradient_of_avoiding_is_that_of_its_likelihood():
    labels = grid.Labels(np.array([0]), np.array([1]), np.array([False]))
    once = grid.learn(labels, "bad", 1, {"steps": 1, "rate": 1.0, "penalty": 0.0})
    # d log(1 - p) / d logits at a uniform policy: -(1/3) (e - 1/4)
    logits = -(1 / 3) * (np.eye(4)[1] - 0.25)
    np.testing.assert_allclose(once[0], np.exp(logits) / np.exp(logits).sum())


# -- a study that trains ----------------------------------------------------------------------------------------------

SUITE = """
tasks = ["reacher"]
seeds = [0]
steps = 512
settings = { "agent.n_envs" = 2, "agent.n_steps" = 64, "round_steps" = 256, "evaluation.episodes" = 0 }
[variants.true]
teacher = "none"
"""


def judged_by_steps(measured):
    (result,) = measured.results.finished
    steps = result.summary["steps"]
    verdict = judged(steps == measured.settings["steps"])
    return Outcome(verdict, f"{steps} steps", [{"cell": result.cell.name, "steps": steps}], [])


def test_a_study_of_training_runs_is_run_reported_and_published(tmp_path, monkeypatch):
    folder = tmp_path / "studies" / "of_runs"
    folder.mkdir(parents=True)
    words = "".join(f'{name} = "x"\n' for name in ("title", "claim", "source", "expectation"))
    (folder / "study.toml").write_text(f"{words}[settings]\nsteps = 512\n")
    (folder / "suite.toml").write_text(SUITE)
    monkeypatch.setattr(folder_module, "FOLDER", folder.parent)
    analysis = ModuleType("analysis")
    analysis.analyse = judged_by_steps
    monkeypatch.setitem(sys.modules, "prefrl_benchmarks.studies.of_runs.analysis", analysis)
    out, copy = tmp_path / "out", tmp_path / "copy"
    done = prefrl("bench", "run", "of-runs", "--out", out)
    assert done.code == 0, done.err
    assert "1 cells finished" in done.out
    assert prefrl("bench", "run", "of-runs", "--out", out).code == 0  # finished cells are skipped
    assert prefrl("bench", "report", out).out.strip().endswith("report.html: as expected")
    assert "| reacher_ppo_none-true_s0 | 512 |" in (out / "report" / "of-runs.md").read_text()
    assert prefrl("bench", "publish", out, copy).code == 0
    assert prefrl("bench", "report", copy, "--out", tmp_path / "page").code == 0
    assert (tmp_path / "page" / "of-runs.md").read_text() == (out / "report" / "of-runs.md").read_text()


def write() -> None:
    """Make every page again."""
    PAGES.mkdir(exist_ok=True)
    for name in PUBLISHED:
        report_study(RESULTS / name, made := ROOT / "build" / "studies" / name)
        for kind in ("md", "png"):
            shutil.copyfile(made / f"{name}.{kind}", PAGES / f"{name}.{kind}")
        shutil.rmtree(ROOT / "build" / "studies")


if __name__ == "__main__":
    write()
