"""The figure that compares two suites: which runs it shows, against which times, and what is refused."""

import json

import numpy as np
import pytest
from bench_runs import finish
from matplotlib.figure import Figure
from prefrl_benchmarks.report import families as module
from prefrl_benchmarks.report.families import draw_hours, draw_labels, draw_steps, draws, families
from prefrl_benchmarks.report.page import write_report
from prefrl_benchmarks.results import read_results, write_manifest
from prefrl_benchmarks.suites import Suite, Variant
from runs import prefrl, refused

from prefrl.errors import PrefrlError, UsageError

BASELINES = {"cheetah": -100.0, "reacher": -10.0, "hopper": 5.0}
PPO = {"true": 400.0, "1400": 380.0, "700": 300.0, "350": 200.0}
SAC = {"true": 900.0, "700": 800.0, "150": 500.0}
CLOCKS = {"time_seconds": 7200.0, "time_processor_seconds": 3600.0}


def made(out, algo, returns, *, name=None, tasks=("cheetah", "reacher"), steps=10_000, clocks=CLOCKS, evaluated=False):
    """A finished suite of two seeds, whose second returns 10 more."""
    variants = tuple(
        Variant(key, "none" if key == "true" else "oracle", None if key == "true" else int(key)) for key in returns
    )
    ours = Suite(name or f"mujoco-{algo}", tasks, (0, 1), steps, variants, algo=algo).validate()
    out.mkdir()
    write_manifest(ours, out)
    for cell in ours.cells():
        value = returns[cell.variant] + 10 * cell.seed
        times = {key: last * (1 + cell.seed) for key, last in clocks.items()}
        finish(cell, out, value, clocks=times, evaluation=2 * value if evaluated else None)
    (out / "random.json").write_text(json.dumps({"episodes": 30, "returns": BASELINES}))
    return out


@pytest.fixture
def ppo(tmp_path):
    return made(tmp_path / "ppo", "ppo", PPO)


@pytest.fixture
def sac(tmp_path):
    return made(tmp_path / "sac", "sac", SAC, tasks=("hopper", "cheetah"), steps=5000, evaluated=True)


@pytest.fixture
def compared(ppo, sac):
    return families(read_results([ppo]), read_results([sac]))


def drawn(draw, compared, task="cheetah"):
    axes = Figure().add_subplot()
    draw(axes, compared, task)
    return axes


def lines(axes):
    """The (x, y) of the last point of each curve, by its name."""
    return {
        line.get_label(): (line.get_xdata()[-1], line.get_ydata()[-1])
        for line in axes.lines
        if len(line.get_xdata()) > 2
    }


def test_families_are_algorithms_and_share_tasks_and_the_largest_budget_of_both(compared):
    assert [family.name for family in compared.families] == ["ppo", "sac"]
    assert compared.tasks == ("cheetah",)
    assert [compared.labels("cheetah", family) for family in compared.families] == [700, 700]
    assert len(draws(compared)) == 3


def test_curves_against_steps_are_of_the_true_reward_and_of_as_many_labels(compared):
    assert lines(drawn(draw_steps, compared)) == {
        "ppo, true reward": (10_000, 405),
        "ppo, 700 labels": (10_000, 305),
        "sac, true reward": (5000, 905),  # training returns, although it was evaluated
        "sac, 700 labels": (5000, 805),
    }


def test_curves_against_time_are_of_processor_time(compared):
    """One seed took an hour of it and the other two: 1.5 on average."""
    axes = drawn(draw_hours, compared)
    assert axes.get_xlabel() == "CPU hours"
    assert {name: at[0] for name, at in lines(axes).items()} == dict.fromkeys(
        ("ppo, true reward", "ppo, 700 labels", "sac, true reward", "sac, 700 labels"), pytest.approx(1.5)
    )
    hours = compared.families[0].baseline("cheetah").mean_time("time_processor_seconds") / 3600
    np.testing.assert_allclose(hours, np.linspace(0.3, 1.5, len(hours)))  # five rows, from a fifth on


def test_if_one_side_has_no_processor_time_both_are_against_the_clock(tmp_path, ppo):
    old = made(tmp_path / "old", "sac", SAC, clocks={"time_seconds": 3600.0})
    compared = families(read_results([ppo]), read_results([old]))
    axes = drawn(draw_hours, compared)
    assert axes.get_xlabel() == "hours"
    assert {name: at[0] for name, at in lines(axes).items()} == {
        "ppo, true reward": pytest.approx(3),
        "ppo, 700 labels": pytest.approx(3),
        "sac, true reward": pytest.approx(1.5),
        "sac, 700 labels": pytest.approx(1.5),
    }


def test_final_returns_against_labels(compared):
    axes = drawn(draw_labels, compared)
    points = {tuple(line.get_xdata()): list(line.get_ydata()) for line in axes.lines if line.get_marker() == "o"}
    assert points == {(350, 700, 1400): [205, 305, 385], (150, 700): [505, 805]}
    assert [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [405, 905]
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["150", "350", "700", "1,400"]


def test_without_a_common_budget_each_has_its_largest(tmp_path, ppo):
    other = made(tmp_path / "other", "sac", {"150": 500.0, "90": 3.0})
    compared = families(read_results([ppo]), read_results([other]))
    assert [compared.labels("cheetah", family) for family in compared.families] == [1400, 150]
    assert set(lines(drawn(draw_steps, compared))) == {"ppo, true reward", "ppo, 1,400 labels", "sac, 150 labels"}


def test_names_tell_the_two_apart(tmp_path, ppo):
    again = made(tmp_path / "again", "ppo", PPO, name="again")
    same = made(tmp_path / "same", "ppo", PPO)
    for folder, names in ((again, ["mujoco-ppo", "again"]), (same, [str(ppo), str(same)])):
        found = families(read_results([ppo]), read_results([folder]))
        assert [family.name for family in found.families] == names


def test_what_cannot_be_compared_is_refused(tmp_path, ppo, sac):
    hopper = made(tmp_path / "hopper", "sac", SAC, tasks=("hopper",))
    with pytest.raises(PrefrlError, match="ppo and sac have no finished task in common"):
        families(read_results([ppo]), read_results([hopper]))
    with pytest.raises(UsageError, match="there are several: mujoco-ppo, mujoco-sac"):
        families(read_results([ppo, sac]), read_results([ppo]))
    assert "no suite.json" in refused(prefrl("bench", "report", ppo, "--beside", tmp_path), 2)


def test_the_report_has_the_figure(tmp_path, ppo, sac):
    out = tmp_path / "report"
    write_report([ppo], out, sac)
    assert {path.name for path in out.glob("families*")} == {"families.svg", "families.png"}
    page = (out / "report.html").read_text()
    assert "<h2>families</h2>" in page
    assert "CPU hours" in page
    assert page.count("families, panel") == 3 == module.COLUMNS
    assert f"--beside {sac}" in page
    write_report([ppo], tmp_path / "alone")
    assert not list((tmp_path / "alone").glob("families*"))
    assert "<h2>families" not in (tmp_path / "alone" / "report.html").read_text()


def test_the_command_takes_the_other_folder(ppo, sac):
    done = prefrl("bench", "report", ppo, "--beside", sac)
    assert done.code == 0, done.err
    assert (ppo / "report" / "families.png").exists()
