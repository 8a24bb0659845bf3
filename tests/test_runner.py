"""The runner skips, resumes, moves aside and reports cells, stops cleanly and leaves no processes behind."""

import contextlib
import io
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench_runs import finish, suite
from filelock import FileLock
from prefrl_benchmarks import cells
from prefrl_benchmarks.cells import start_cell
from prefrl_benchmarks.display import SuiteDisplay
from prefrl_benchmarks.measure.jobs import report_lines
from prefrl_benchmarks.results import last_words, read_results
from prefrl_benchmarks.runner import SUPERSEDED, prepare, run_suite
from prefrl_benchmarks.suites import find_suite
from rich.console import Console
from runs import SUMMARY, content, gone, live, prefrl, progress, refused, summary, until

from prefrl.errors import UsageError
from prefrl.runs.progress import Phase, Progress
from prefrl.storage.files import write_json

LONG = """
tasks = ["reacher"]
seeds = [0, 1]
steps = 2_000_000
[variants.true]
teacher = "none"
"""
FEW = """
[variants.few]
labels = 20
settings = { "reward.pretrain_comparisons" = 640 }
"""


class Finished:
    """A job that has come to its end at once."""

    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code

    def stop(self):
        raise AssertionError("it has ended")

    kill = stop


class Pretended:
    """An executor that finishes cells without running them, but for those that are to fail."""

    def __init__(self, *failing):
        self.failing, self.started, self.at_once, self.most = failing, [], 0, 0

    def __call__(self, cell, folder):
        self.started.append(cell.name)
        if cell.name in self.failing:
            (folder / f"{cell.name}.log").write_text("training\nprefrl: the disk is full\n")
            return Finished(1)
        finish(cell, folder, 1.0)
        return Finished(0)


class Resumed(Pretended):
    """An executor that writes the summaries of runs that are there."""

    def __call__(self, cell, folder):
        self.started.append(cell.name)
        (folder / cell.name / "summary.json").write_text(SUMMARY)
        return Finished(0)


def run(ours, out, executor):
    text = io.StringIO()
    outcome = run_suite(ours, out, 2, executor=executor, display=SuiteDisplay(Console(file=text, width=200)))
    return outcome, text.getvalue()


def test_finished_cells_are_not_run_again(tmp_path):
    ours, executor = suite(), Pretended()
    outcome, text = run(ours, tmp_path, executor)
    names = [cell.name for cell in ours.cells()]
    assert executor.started == outcome.finished == names
    assert f"[8/8] {names[-1]}: true return 1.0" in text
    before = content(tmp_path)
    outcome, text = run(ours, tmp_path, again := Pretended())
    assert (again.started, outcome.finished) == ([], names)
    assert "8 of 8 cells are already finished" in text
    assert content(tmp_path) == before


def test_a_terminal_shows_the_progress_of_each_running_cell(tmp_path):
    text = io.StringIO()
    two = suite().cells()[:2]
    (tmp_path / two[0].name).mkdir()
    progress = Progress(Phase.TRAINING, step=4_000, steps=12_000, labels=30, labels_budget=50)
    write_json(tmp_path / two[0].name / "progress.json", progress.to_json())
    with SuiteDisplay(Console(file=text, width=200, force_terminal=True)) as display:
        display.begin(2, 0)
        for cell in two:
            display.started(cell)
        display.refresh(tmp_path, two)
    assert "4,000/12,000 steps, labels 30/50" in text.getvalue()
    assert "starting" in text.getvalue()  # the other cell has not reported yet


def test_a_failure_stops_no_other_cell(tmp_path):
    ours = suite()
    bad = ours.cells()[1].name
    outcome, text = run(ours, tmp_path, Pretended(bad))
    assert outcome.failed == {bad: "the disk is full"}
    assert len(outcome.finished) == 7
    assert f"{bad}: failed: the disk is full" in text
    outcome, _ = run(ours, tmp_path, again := Pretended())
    assert again.started == [bad]
    assert not outcome.failed


def test_a_cell_with_other_settings_is_moved_aside_and_run_again(tmp_path):
    run(suite(tasks=("reacher",)), tmp_path, Pretended())
    ours = suite(tasks=("reacher",), labels=50, steps=12_000)
    outcome, text = run(ours, tmp_path, again := Pretended())
    assert again.started == outcome.finished == [cell.name for cell in ours.cells()]
    name = again.started[0]
    assert f"{name} was made with other settings; moved to {tmp_path / SUPERSEDED / name} and run again" in text
    run(suite(tasks=("reacher",), steps=14_000), tmp_path, Pretended())
    kept = {path.name for path in (tmp_path / SUPERSEDED).iterdir()}
    assert {name, f"{name}-2"} <= kept


@pytest.mark.parametrize("damage", ["cut off", "never written"])
def test_a_cell_whose_configuration_is_damaged_is_run_again(tmp_path, damage):
    ours = suite(tasks=("reacher",), seeds=(0,))
    run(ours, tmp_path, Pretended())
    config = tmp_path / ours.cells()[0].name / "config.json"
    if damage == "cut off":
        config.write_text(config.read_text()[:100])
    else:
        config.unlink()
    outcome, _ = run(ours, tmp_path, again := Pretended())
    assert again.started == [ours.cells()[0].name]
    assert len(outcome.finished) == 2


@pytest.mark.parametrize("left", ['{"task": "rea', "[]", "{}", '{"true_return_mean": 1.0}'])
def test_a_cell_whose_summary_is_damaged_is_resumed(tmp_path, left):
    ours = suite(tasks=("reacher",), seeds=(0,))
    run(ours, tmp_path, Pretended())
    name = ours.cells()[0].name
    (tmp_path / name / "summary.json").write_text(left)
    resumed = Resumed()
    outcome, text = run(ours, tmp_path, resumed)
    assert resumed.started == [name]
    assert len(outcome.finished) == 2
    assert f"{name}: its summary.json is damaged; resumed" in text


def test_a_folder_holds_one_suite_and_has_one_runner(tmp_path):
    run(suite(tasks=("reacher",)), tmp_path, Pretended())
    with pytest.raises(UsageError, match="holds the suite test; choose another --out for other"):
        run(suite(name="other"), tmp_path, Pretended())
    with FileLock(tmp_path / ".bench.lock"), pytest.raises(UsageError, match="in use by another"):
        run(suite(), tmp_path, Pretended())
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        run(suite(), tmp_path / "file", Pretended())


def test_a_part_of_a_suite_leaves_the_results_of_the_whole(tmp_path):
    ours = suite(seeds=(0, 1))
    run_suite(ours, tmp_path, 1, executor=Pretended("cheetah_ppo_oracle-sync-50_s1"))
    whole = {result.cell.name for result in read_results([tmp_path]).finished}
    run(suite(tasks=("reacher",), seeds=(1, 2)), tmp_path, Pretended())
    after = {result.cell.name for result in read_results([tmp_path]).cells}
    assert after == whole | {"reacher_ppo_none_s2", "reacher_ppo_oracle-sync-50_s2"}


def test_a_cell_that_ends_without_a_summary_has_failed(tmp_path):
    outcome, _ = run(suite(tasks=("reacher",), seeds=(0,)), tmp_path, lambda cell, folder: Finished(0))
    assert set(outcome.failed.values()) == {"not begun"}


def test_last_words_are_the_reason_without_the_command_s_name(tmp_path):
    (cell, *_) = suite().cells()
    assert last_words(tmp_path / f"{cell.name}.log") == "not begun"
    (tmp_path / f"{cell.name}.log").write_text("Traceback\nValueError: no\n\n")
    assert last_words(tmp_path / f"{cell.name}.log") == "ValueError: no"


def test_a_cell_gets_the_threads_that_it_may_use(tmp_path, monkeypatch):
    seen = {}
    popen = SimpleNamespace(Popen=lambda command, **kwargs: seen.update(kwargs, command=command), PIPE=-1)
    monkeypatch.setattr(cells, "subprocess", popen)
    (cell, *_) = suite().cells()
    start_cell(cell, tmp_path, threads=1)
    assert seen["env"]["OMP_NUM_THREADS"] == "1"
    assert seen["command"][-len(cell.arguments(tmp_path)) :] == cell.arguments(tmp_path)
    finish(cell, tmp_path, 1.0)
    start_cell(cell, tmp_path)
    assert seen["command"][-2:] == ["resume", str(tmp_path / cell.name)]


def test_the_command_refuses_in_one_line(tmp_path):
    assert "did you mean smoke" in refused(prefrl("bench", "run", "smok", "--out", tmp_path), 2)
    assert "--jobs" in refused(prefrl("bench", "run", "smoke", "--out", tmp_path, "--jobs", 0), 2)


@contextlib.contextmanager
def at_work(tmp_path):
    """A suite of two long runs, both under way."""
    path, out = tmp_path / "long.toml", tmp_path / "out"
    path.write_text(LONG)
    roots = [out / f"reacher_ppo_none_s{seed}" for seed in (0, 1)]
    with live(tmp_path / "log", "bench", "run", path, "--out", out, "--jobs", "2", loaded=False) as command:
        until(lambda: command.ended() or all(progress(root).get("step", 0) > 0 for root in roots), "both at work")
        assert not command.ended(), command.err
        yield command, roots


def test_ctrl_c_stops_all_and_the_same_command_resumes(tmp_path):
    with at_work(tmp_path) as (command, roots):
        family = command.family()
        assert len(family) == 2
        command.send(signal.SIGINT)
        assert command.wait() == 1
        assert "run the same command to continue" in command.err
        assert "failed" not in command.err
        assert gone(family)
    reached = [progress(root) for root in roots]
    assert [said["state"] for said in reached if "resumable" not in said["state"]] == []
    for root, said in zip(roots, reached, strict=True):
        assert (root / "checkpoints" / f"{said['step']:012d}.safetensors").exists()
        assert prepare_unfinished(root)


def prepare_unfinished(root: Path) -> bool:
    """Whether the runner would go on with a run as it lies there."""
    from prefrl_benchmarks.suites import find_suite

    ours = find_suite(str(root.parent.parent / "long.toml"))
    (cell,) = (cell for cell in ours.cells() if cell.name == root.name)
    return not prepare(cell, root.parent, lambda line: None) and root.exists()


def test_the_runs_of_a_killed_runner_end_with_it(tmp_path):
    with at_work(tmp_path) as (command, roots):
        family = command.family()
        command.process.kill()
        command.wait()
        until(lambda: gone(family), "the runs to end")
    assert all(prepare_unfinished(root) for root in roots)


@pytest.mark.slow
def test_a_killed_and_resumed_suite_equals_an_undisturbed_one(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(LONG.replace("2_000_000", "9_000").replace("[0, 1]", "[0]") + FEW)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert prefrl("bench", "run", path, "--out", whole).code == 0
    with live(tmp_path / "log", "bench", "run", path, "--out", killed, loaded=False) as command:
        until(lambda: progress(killed / "reacher_ppo_none_s0").get("step", 0) > 4000, "some steps")
        os.killpg(command.process.pid, signal.SIGKILL)
    assert not (killed / "reacher_ppo_none_s0" / "summary.json").exists()
    assert prefrl("bench", "run", path, "--out", killed, "--jobs", 2).code == 0
    for root in (path for path in whole.iterdir() if path.is_dir()):
        one, other = summary(root), summary(killed / root.name)
        assert one["true_return_mean"] == other["true_return_mean"]
    manifests = [json.loads((out / "suite.json").read_text()) for out in (whole, killed)]
    assert manifests[0]["cells"] == manifests[1]["cells"]


@pytest.mark.slow
@pytest.mark.spawned
def test_what_several_jobs_save_and_the_runner_costs(tmp_path):
    small = tmp_path / "small.toml"
    small.write_text(LONG.replace("2_000_000", "4_000"))
    done = prefrl("bench", "jobs", small, "--out", tmp_path / "jobs.json")
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "jobs.json").read_text())
    alone, together = result["timings"]["1"], result["timings"]["2"]
    assert result["cells"] == 2
    for timing in (alone, together):
        assert timing["cells_seconds"] > 0
    assert alone["cells_seconds"] < alone["seconds"]  # one after the other
    assert f"{together['seconds'] / alone['seconds']:.2f} of it" in done.out
    assert "the runner itself: " in done.out


def test_the_runner_s_own_share_is_what_no_cell_was_at_work_in():
    timings = {"1": {"seconds": 20.0, "cells_seconds": 19.0}, "3": {"seconds": 8.0, "cells_seconds": 21.0}}
    assert report_lines({"cells": 4, "timings": timings}) == [
        "4 cells: 20.0 s with one job, 8.0 s with 3: 0.40 of it",
        "the runner itself: 5.00% of the time with one job",
    ]


USING = """
tasks = ["reacher"]
seeds = [0]
steps = 1024
labels = 20
[variants.held]
uses = { reference = "true" }
[variants.frozen]
teacher = "none"
uses = { reward = "held" }
[variants.true]
teacher = "none"
"""


def test_a_cell_waits_for_the_runs_that_it_uses(tmp_path):
    (tmp_path / "using.toml").write_text(USING)
    suite = find_suite(str(tmp_path / "using.toml"))
    true, held, frozen = (cell.name for cell in suite.cells())
    pretended = Pretended()
    outcome, _ = run(suite, tmp_path / "all", pretended)
    assert outcome.finished == pretended.started == [true, held, frozen]
    pretended = Pretended(held)
    outcome, _ = run(suite, tmp_path / "one", pretended)
    assert (outcome.finished, pretended.started) == ([true], [true, held])
    assert outcome.failed == {held: "the disk is full", frozen: f"it uses {held}, which is not finished"}


def test_a_cell_is_run_again_when_a_run_that_it_uses_is(tmp_path):
    (tmp_path / "using.toml").write_text(USING)
    suite = find_suite(str(tmp_path / "using.toml"))
    true, held, frozen = (cell.name for cell in suite.cells())
    out = tmp_path / "out"
    run(suite, out, Pretended())
    run(suite, out, again := Pretended())
    assert again.started == []
    written = json.loads((out / held / "config.json").read_text())
    write_json(out / held / "config.json", written | {"created_at": "2999-01-01T00:00:00+00:00"})
    _, text = run(suite, out, again := Pretended())
    assert again.started == [frozen]
    assert f"{frozen} used a run of {held} that is not there any more; moved to {out / SUPERSEDED / frozen}" in text
    for name in (true, held):  # older runs may not say when they were begun
        config = json.loads((out / name / "config.json").read_text())
        write_json(out / name / "config.json", {key: value for key, value in config.items() if key != "created_at"})
    run(suite, out, again := Pretended())
    assert again.started == []
    shutil.rmtree(out / true)
    run(suite, out, again := Pretended())
    assert again.started == [true, held, frozen]
