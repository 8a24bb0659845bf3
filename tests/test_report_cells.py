"""Which cells a report counts: damaged ones are left out, and those of several versions and folders are told apart."""

import json
import shutil

import pytest
from bench_runs import RETURNS, made
from prefrl_benchmarks.report.page import analyse
from prefrl_benchmarks.suites import Variant


@pytest.fixture
def folder(tmp_path):
    """A finished suite, its random policy's returns known."""
    return made(tmp_path / "results")


def damage(folder, what):
    root = folder / "cheetah_ppo_oracle-sync-50_s1"
    summary, config = root / "summary.json", root / "config.json"
    data = json.loads(summary.read_text())
    if what == "truncated":
        summary.write_text(summary.read_text()[:20])
    elif what == "mistyped":
        summary.write_text(json.dumps(data | {"true_return_mean": "much"}))
    elif what == "none ended":
        summary.write_text(json.dumps(data | {"true_return_mean": None}))
    elif what == "config":
        config.write_text(config.read_text()[:100])
    elif what == "other settings":
        config.write_text(config.read_text().replace('"members": 3', '"members": 2'))
    else:
        summary.write_text(json.dumps(data | {"version": "9.9.9"}))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("truncated", "left out: its summary.json is damaged"),
        ("mistyped", "left out: its summary.json is damaged"),
        ("none ended", "left out: no episode ended"),
        ("other settings", "left out: made with other settings than the suite's"),
        ("config", "left out: its config.json cannot be read"),
    ],
)
def test_a_cell_with_unreliable_files_is_left_out(folder, what, said):
    damage(folder, what)
    found = analyse([folder])
    assert [line for line in found.problems if line.startswith("cheetah_ppo_oracle-sync-50_s1") and said in line]
    assert len(found.results.finished) == 7


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (None, "ends at step 0 of 10,000"),
        (0, "ends at step 0 of 10,000"),
        (2, "ends at step 4,000"),
        (4, "ends at step 8,000"),
    ],
)
def test_a_cell_whose_learning_curve_is_cut_keeps_its_final_figures_alone(folder, keep, said):
    metrics = folder / "cheetah_ppo_oracle-sync-50_s1" / "metrics.csv"
    text = metrics.read_text()
    if keep is None:
        metrics.unlink()
    else:
        lines = text.splitlines(keepends=True)
        metrics.write_text("".join(lines[: 1 + keep]) + lines[1 + keep][:6])  # cut off in a row
    found = analyse([folder])
    (line,) = found.problems
    assert line.startswith("cheetah_ppo_oracle-sync-50_s1: no learning curve: its metrics.csv")
    assert said in line
    (full,) = (group for group in found.groups if (group.task, group.variant) == ("cheetah", "full"))
    assert len(full.returns) == 2
    assert len(full.curve[1]) == 1


def test_cells_of_several_versions_are_reported(folder):
    damage(folder, "newer")
    assert "the cells were run by several versions of prefrl: 0.1.0, 9.9.9" in analyse([folder]).problems


def test_cells_of_several_commits_are_reported_with_their_variants(folder):
    """Their settings may be equal, and their code not."""
    for cell, commit in (("cheetah_ppo_none_s0", "a" * 40), ("cheetah_ppo_oracle-sync-50_s0", "b" * 40)):
        path = folder / cell / "summary.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": commit}))
    found = analyse([folder])
    (suite,) = {result.suite for result in found.results.cells}
    said = "the cells were run at several commits of prefrl: true at aaaaaaaaa; full at bbbbbbbbb"
    assert list(found.problems) == [f"{suite}: {said}"]


def test_a_true_reward_of_other_steps_is_said(tmp_path):
    found = analyse([made(tmp_path / "runs", variants=(Variant("full", steps=2000),))])
    said = "full: 2,000 steps, its true-reward runs 10,000"
    assert list(found.problems) == [f"cheetah, {said}", f"reacher, {said}"]
    assert len(found.scores) == 4


def test_a_cell_counts_once_however_many_folders_have_it(folder, tmp_path):
    twin = tmp_path / "twin"
    shutil.copytree(folder, twin)
    found = analyse([folder, twin])
    assert len(found.results.cells) == 8
    assert f"{twin}: cheetah_ppo_none_s0 is in {folder} too; left out" in found.problems


def test_one_suite_s_seeds_may_lie_in_two_folders(tmp_path):
    halves = [made(tmp_path / str(seed), seeds=(seed,)) for seed in (0, 1)]
    second = {key: (values[1],) for key, values in RETURNS.items()}
    shutil.rmtree(halves[1])
    made(halves[1], second, seeds=(1,))
    found = analyse(halves)
    assert not found.problems
    assert {score.seeds for score in found.scores} == {(0, 1)}


def test_other_settings_of_the_same_suite_are_not_averaged(folder, tmp_path):
    other = made(tmp_path / "other", seeds=(2, 3), steps=20_000)
    found = analyse([folder, other])
    assert len(found.results.cells) == 8
    assert f"{other}: cheetah_ppo_none_s2 has other settings than in {folder}; left out" in found.problems
