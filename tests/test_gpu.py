"""`prefrl bench gpu`: its parts on the CPU, with a stand-in for the GPU."""

import json
import math
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from prefrl_benchmarks.cells import Cell
from prefrl_benchmarks.measure import gpu, gpu_parts, speed, utilisation
from prefrl_benchmarks.measure.gpu_parts import Plan
from prefrl_benchmarks.measure.profile import PARTS, REST
from prefrl_benchmarks.measure.timebox import run_for
from prefrl_benchmarks.measure.utilisation import Reading, Sampler
from runs import DEADLINE, prefrl, refused

from prefrl.errors import PrefrlError, UsageError
from prefrl.registry import Registry
from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import MetricsFile
from prefrl.storage.files import read_json

UNKNOWN = Reading(None, None)


def plan(tmp_path, **changes):
    settings = {"evaluation.episodes": 0, "reward.pretrain_comparisons": 64, "reward.comparisons_per_step": 0.01}
    settings |= {"round_steps": 1024, "agent.n_steps": 64}
    made = Plan("reacher", 60.0, "cpu", 1, 6000, 20, settings, tmp_path / "runs", lambda: UNKNOWN)
    return replace(made, **changes)


def sampled(*readings):
    """A sampler that has read these, one every 0.01 seconds."""
    left = list(readings)
    with Sampler(lambda: left.pop(0) if len(left) > 1 else left[0], every=0.01) as sampler:
        started = time.monotonic()
        while len(sampler._samples) < len(readings):
            assert time.monotonic() - started < DEADLINE
            time.sleep(0.01)
    del sampler._samples[len(readings) :]
    return sampler


def test_samples_are_averaged_over_the_time_asked_for():
    sampler = sampled(Reading(0.0, 500.0), Reading(40.0, 2000.0), Reading(60.0, 1500.0))
    first, second, third = (at for at, _ in sampler._samples)
    assert first < second < third
    figures = sampler.figures(second, third)
    assert figures == {"gpu_utilisation": 50.0, "gpu_peak_mb": 2000.0, "gpu_mb_before": 500.0}
    assert sampler.figures(third + 1, math.inf)["gpu_utilisation"] is None


def test_what_is_unknown_of_the_gpu_is_none():
    everything = (0.0, math.inf)
    assert set(sampled(UNKNOWN, UNKNOWN).figures(*everything).values()) == {None}
    assert sampled(Reading(None, 7.0)).figures(*everything)["gpu_peak_mb"] == 7.0
    assert utilisation.find_reader("cpu")() == UNKNOWN


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for nvidia-smi")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo '35, 1234'", Reading(35.0, 1234.0)),
        ("echo '[N/A], 1234'", Reading(None, 1234.0)),
        ("echo '35, 1234'; exit 9", UNKNOWN),
        ("echo 'No devices were found'", UNKNOWN),
        ('[ "${*#*-i 3}" != "$*" ] && echo "3, 3"', Reading(3.0, 3.0)),
    ],
)
def test_nvidia_smi_is_read(script, expected, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert utilisation.read_nvidia_smi() == expected
    works = expected != UNKNOWN
    assert utilisation.find_reader("cuda") is (utilisation.read_nvidia_smi if works else utilisation.read_torch)


def test_torch_reads_the_memory_even_where_it_cannot_read_the_utilisation(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (3 * 2**20, 10 * 2**20))
    monkeypatch.setattr("torch.cuda.utilization", lambda: 35)
    assert utilisation.read_torch() == Reading(35.0, 7.0)

    def unknown():
        raise ModuleNotFoundError("nvidia-ml-py")

    monkeypatch.setattr("torch.cuda.utilization", unknown)
    assert utilisation.read_torch() == Reading(None, 7.0)


def script(tmp_path, words):
    """A process that runs Python code."""
    root = tmp_path / "run"
    return speed.Timed(partial(speed._start, [sys.executable, "-c", words, str(tmp_path)], speed._log(root), 1), root)


def test_a_process_that_ends_in_time_has_ended_by_itself(tmp_path):
    assert run_for(script(tmp_path, "pass"), DEADLINE)
    with pytest.raises(PrefrlError, match="a run failed: no more memory"):
        run_for(script(tmp_path, "import sys; sys.exit('no more memory')"), DEADLINE)


def test_a_process_is_killed_with_its_children_when_its_time_is_up(tmp_path):
    words = "import subprocess, sys, pathlib; child = subprocess.Popen(['sleep', '1000']); "
    words += "pathlib.Path(sys.argv[1], 'child').write_text(str(child.pid)); child.wait()"
    assert not run_for(script(tmp_path, words), 3)
    child = int((tmp_path / "child").read_text())
    started = time.monotonic()
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() - started < DEADLINE
        time.sleep(0.05)


def test_a_process_is_asked_to_stop_before(tmp_path):
    words = "import pathlib, signal, sys, time; "
    words += "signal.signal(15, lambda *_: sys.exit(pathlib.Path(sys.argv[1], 'asked').touch())); time.sleep(1000)"
    assert not run_for(script(tmp_path, words), DEADLINE, grace=DEADLINE - 3)
    assert (tmp_path / "asked").exists()


@pytest.mark.parametrize("kind", ["plain", "profile"])
def test_a_measured_process_ends_with_the_command(kind, tmp_path):
    timed = speed.prepare_module(kind, Cell("reacher", teacher="none", mode="sync", steps=10**7), tmp_path)
    with timed.start() as process:
        process.stdin.close()  # as when the command is killed
        assert process.wait(DEADLINE) == 1


def test_figures_are_of_the_rounds_after_a_step(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    for step, seconds in ((1000, 50.0), (2000, 52.0), (5000, 58.0)):
        metrics.append({"step": step, "time_seconds": seconds})
    sampler = Sampler(lambda: UNKNOWN)
    sampler._samples = [(at, Reading(busy, 1.0)) for at, busy in ((990.0, 1.0), (993.0, 20.0), (999.0, 40.0))]
    os.utime(tmp_path / "metrics.csv", (1000.0, 1000.0))
    whole, later = (gpu_parts._figures(tmp_path, sampler, after) for after in (0, 1000))
    assert (whole["steps"], whole["steps_per_second"], whole["first_round_seconds"]) == (5000, 500.0, 50.0)
    assert whole["gpu_utilisation"] == 30.0  # from 992 to 1000
    assert (later["steps_per_second"], later["gpu_utilisation"]) == (500.0, 40.0)  # from 994 to 1000
    assert gpu_parts._figures(tmp_path, sampler, 2000)["steps_per_second"] is None
    assert gpu_parts._figures(tmp_path / "none", sampler, 7)["steps"] == 7


def run(rate, busy=None, memory=None):
    known = {"steps": 5, "steps_per_second": rate, "first_round_seconds": 9.0}
    return known | {"gpu_utilisation": busy, "gpu_peak_mb": memory, "gpu_mb_before": None}


def test_speed_is_reported_with_ratios_and_utilisation():
    runs = {"plain": [run(100.0, 20.0, 700.0), run(200.0, 40.0, 800.0)], "sync": [run(90.0)], "async": [run(None)]}
    assert gpu_parts._speed_lines({"runs": runs, "ratios": {"sync": [0.9], "async": []}}) == [
        "plain: median 150 steps/s, first round after 9 s, GPU 30 % busy, 800 MB of its memory in use",
        "sync: median 90 steps/s, first round after 9 s, ratio median 0.900 (0.900 to 0.900), GPU utilisation unknown",
        "async: fewer than two rounds in the time given",
    ]


def test_games_have_the_paper_s_labels_by_default(tmp_path):
    pong = plan(tmp_path, task="pong", steps=None, labels=None, settings={}).cell("async")
    assert (pong.steps, pong.labels, gpu_parts._paper_return(pong)) == (6_000_000, 5500, 20.9)
    assert gpu_parts._paper_return(replace(pong, labels=3000)) == 20.7
    assert gpu_parts._paper_return(replace(pong, task="moving-dot")) is None
    cheetah = plan(tmp_path, task="cheetah", steps=None, labels=None, settings={}).cell("sync", 3)
    assert (cheetah.steps, cheetah.labels, cheetah.seed) == (cheetah.config.steps, 700, 3)
    assert plan(tmp_path).cell("plain").config.device == "cpu"


def test_a_curve_is_thinned_and_keeps_its_end():
    assert gpu_parts._thinned(list(range(10)), 4) == [0, 3, 6, 9]
    assert gpu_parts._thinned(list(range(11)), 4) == [1, 4, 7, 10]
    assert gpu_parts._thinned([5], 4) == [5]
    assert gpu_parts._thinned([], 4) == []


@pytest.fixture
def stand_ins(monkeypatch):
    """Measurements that give the task's name, or fail."""

    def fail(plan):
        raise PrefrlError("a run failed: no more memory")

    made = {"good": (lambda plan: {"was": plan.task}, lambda result: [result["was"]]), "bad": (fail, list)}
    monkeypatch.setattr(gpu, "MEASUREMENTS", Registry("measurement", made))


def test_parts_are_kept_one_by_one(stand_ins, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    out.write_text('{"parts": {"earlier": 1}}')
    failed = gpu.measure(["good-reacher", "bad-hopper", "good-walker"], plan(tmp_path), out)
    assert failed == ["bad-hopper"]
    parts = read_json(out)["parts"]
    assert list(parts) == ["earlier", "good-reacher", "good-walker"]
    assert (parts["good-walker"]["was"], parts["good-walker"]["gpu"]) == ("walker", None)
    assert parts["good-walker"]["settings"]["labels"] == 20
    said = capsys.readouterr()
    assert said.out.splitlines() == ["good-reacher reacher", "good-walker walker"]
    assert said.err == "prefrl: bad-hopper: a run failed: no more memory\n"


def test_nothing_is_measured_if_a_later_part_is_unusable(stand_ins, tmp_path):
    out = tmp_path / "gpu.json"
    with pytest.raises(UsageError, match="hopper"):
        gpu.measure(["good-reacher", "good-hoper"], plan(tmp_path), out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--parts", "pong"), "speed-pong"),
        (("--parts", "sped-pong"), "did you mean speed?"),
        (("--parts", "speed-chetah"), "cheetah"),
        (("--minutes", "0"), "--minutes"),
        (("--minutes", "nan"), "--minutes"),
        (("--alternations", "0"), "--alternations"),
        (("--set", "agent.n_env=1"), "n_env"),
        (("--labels", "-1"), "queries.labels"),
        (("--out", "/no/such/folder/gpu.json"), "cannot be written"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, named):
    assert named in refused(prefrl("bench", "gpu", "--device", "cpu", *words), 2)


def test_a_machine_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "torch finds no GPU" in refused(prefrl("bench", "gpu"), 2)


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "speed.json").write_text('{"runs": {}}')
    words = ("--device", "cpu", "--parts", "speed-reacher", "--out", tmp_path / "speed.json")
    assert "results of this command" in refused(prefrl("bench", "gpu", *words), 2)


def test_a_profile_can_leave_out_what_comes_before_the_loop(tmp_path):
    cell = plan(tmp_path, steps=10**6).cell("sync")
    timed = speed.prepare_module("profile", cell, tmp_path, seconds=6.0)
    assert run_for(timed, DEADLINE)
    profile = read_json(timed.root / "profile.json")
    assert sum(profile["shares"].values()) == pytest.approx(1.0)
    assert set(profile["shares"]) <= {*PARTS, REST}
    assert profile["steps_per_second"] > 50
    assert 0 < profile["start_seconds"] < 6
    assert profile["fitted_per_second"] is None


@pytest.mark.slow
def test_the_command_measures_every_part(tmp_path):
    out = tmp_path / "gpu.json"
    words = ("--device", "cpu", "--steps", "3000", "--labels", "20", "--alternations", "1", "--minutes", "5")
    words += ("--set", *(f"{name}={value}" for name, value in plan(tmp_path).settings.items()))
    done = prefrl("bench", "gpu", "--parts", "speed-reacher", "profile-reacher", *words, "--out", out)
    assert done.code == 0, done.err
    parts = json.loads(out.read_text())["parts"]
    assert 0.05 < parts["speed-reacher"]["ratios"]["async"][0] < 3
    assert parts["speed-reacher"]["runs"]["plain"][0]["steps"] >= 3000
    assert set(parts["profile-reacher"]["profiles"]) == {"true", "sync", "async"}
    assert "speed-reacher sync: median" in done.out
    assert "profile-reacher async: " in done.out


@pytest.mark.slow
def test_training_stops_in_time_and_goes_on(tmp_path):
    asked = plan(tmp_path, steps=10**6, seconds=15.0)
    started = time.monotonic()
    first = gpu_parts.measure_training(asked)
    assert time.monotonic() - started < 15 + 5
    root = Path(first["run"])
    assert RunDirectory.open(root).begun
    assert 1000 < first["steps"] < 10**6
    second = gpu_parts.measure_training(asked)
    assert second["steps"] > first["steps"]
    assert [row["step"] for row in second["curve"]][-1] == second["steps"]
    assert json.loads(prefrl("status", root, "--json").out)["step"] == second["steps"]
