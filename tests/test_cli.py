"""The contract of the command line: exit status, output streams, and start-up time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from runs import (
    LABELS,
    PREFRL,
    STEPS,
    environment,
    error_line,
    label_counts,
    live,
    prefrl,
    progress,
    refused,
    spawned,
    summary,
    tiny,
    until,
)

MUJOCO = ("hopper", "walker", "swimmer", "cheetah", "ant", "reacher", "pendulum", "double-pendulum")
ATARI = ("beamrider", "breakout", "enduro", "pong", "qbert", "seaquest", "spaceinvaders")
QT_PARTS = ("Core", "DBus", "Gui", "Widgets", "XcbQpa")
NOVEL = ("hopper-backflip", "cheetah-one-leg", "enduro-effort", "enduro-even")
BPREF = ("walker-walk", "walker-run", "cheetah-run", "quadruped-walk", "quadruped-run")
BPREF += ("button-press", "sweep-into", "drawer-open", "window-open", "door-open", "hammer")
TASKS = (*MUJOCO, *NOVEL, *ATARI, "moving-dot", *BPREF)
COMMANDS = ("train", "resume", "status", "label", "labels", "reward", "play", "tasks", "doctor", "bench")


def test_help_answers_in_under_a_second() -> None:
    """In processor time, because other tests run at the same time."""
    before = psutil.Process().cpu_times()
    subprocess.run((PREFRL, "--help"), capture_output=True, check=True)
    after = psutil.Process().cpu_times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.0


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_names_what_there_is(command: str) -> None:
    done = prefrl(*([command] if command else []), "--help")
    assert done.code == 0
    expected = {"": COMMANDS, "train": ("--teacher", "--algo", "--labels", "--steps", "--seed", "--mode", "--device")}
    for word in expected.get(command, ("--help",)):
        assert word in done.out
    assert done.err == ""


def test_help_imports_neither_torch_nor_qt() -> None:
    slow = ("torch", "PySide6", "gymnasium", "numpy")
    script = f"import sys, prefrl.commands.cli; print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_imports_no_video_library() -> None:
    """They take twelve megabytes, and only a renderer needs them."""
    heavy = ("av", "moviepy", "PySide6", "matplotlib")
    script = f"import sys, prefrl.training; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments", [["trian", "reacher"], ["train"], ["train", "reacher", "--stepz", "5"], ["resume"]]
)
def test_arguments_that_do_not_parse(arguments: list[str]) -> None:
    done = prefrl(*arguments)
    assert done.code == 2
    assert done.err.strip()
    assert "Traceback" not in done.err
    assert done.out == ""


def test_no_arguments_at_all() -> None:
    assert prefrl().code in {0, 2}
    done = spawned()
    assert "Traceback" not in done.err
    assert "train" in done.out + done.err


def test_tasks_one_line_each_with_its_recipe() -> None:
    done = prefrl("tasks")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert {line.split()[0] for line in lines} == set(TASKS)
    for line in lines:
        assert "prefrl/" in line
        assert "learning_rate" in line
        assert " labels, " in line


def test_tasks_tell_the_steps_of_a_run_with_people_too() -> None:
    lines = {line.split()[0]: line for line in prefrl("tasks").out.splitlines()}
    assert "300,000 steps (10,000,000 with people)" in lines["cheetah"]
    assert "50,000 steps (200,000 with people)" in lines["moving-dot"]


def test_train_reports_on_stderr_and_its_result_on_stdout(tmp_path: Path) -> None:
    root = tmp_path / "run"
    done = spawned(*tiny("pendulum", root, "--mode", "sync", steps=2500))
    assert done.code == 0, done.err
    assert str(root) in done.out
    assert "finished" in done.out
    assert "labels" in done.out
    assert "\x1b" not in done.out + done.err  # no terminal: plain lines
    assert "training: " in done.err
    assert f"labels {LABELS}/{LABELS}" in done.err
    assert "Warning" not in done.err


IMPORTS = "import torch, stable_baselines3, sb3_contrib, gymnasium, mujoco, sqlalchemy, tyro, rich"


def test_train_reaches_its_first_step_soon_after_its_libraries_are_there(tmp_path: Path) -> None:
    """In processor time, in that of importing what it needs: both are as fast as the machine is at the moment."""
    root = tmp_path / "run"
    measured = subprocess.run(
        [sys.executable, "-c", f"{IMPORTS}; import time; print(time.process_time())"],
        capture_output=True,
        check=True,
        text=True,
        env=environment(),
    )
    with live(tmp_path / "log", *tiny("cheetah", root, steps=100_000), loaded=False) as command:
        until(lambda: progress(root).get("step", 0) > 0, "the first step")
        taken = command.cpu_seconds()
    assert taken < 4 * float(measured.stdout)


def test_the_default_folder_is_a_new_one_under_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = tiny("reacher", Path("x"), "--mode", "sync", "--teacher", "none", steps=600)
    at = arguments.index("--out")
    done = prefrl(*arguments[:at], *arguments[at + 2 :])
    assert done.code == 0, done.err
    (root,) = (tmp_path / "runs").iterdir()
    assert root.name.startswith("reacher-ppo-none-s0-")
    assert (root / "summary.json").exists()


def test_status_of_a_finished_run(finished: Path) -> None:
    done = prefrl("status", finished)
    assert (done.code, done.err) == (0, "")
    assert "finished" in done.out
    assert f"{LABELS} answered" in done.out
    assert "prefrl resume" not in done.out


def test_status_as_json(finished: Path) -> None:
    done = prefrl("status", finished, "--json")
    assert done.code == 0
    status = json.loads(done.out)
    assert status["run"] == str(finished)
    assert (status["task"], status["teacher"]) == ("reacher", "oracle")
    assert (status["finished"], status["running"], status["state"]) == (True, False, "finished")
    assert (status["labels"], status["labels_pending"], status["labels_budget"]) == (LABELS, 0, LABELS)
    assert status["step"] >= status["steps"] == STEPS
    counts = status["label_counts"]
    assert counts["answered"] == counts["left"] + counts["right"] + counts["equal"] == LABELS
    assert (counts["pending"], counts["incomparable"]) == (0, 0)
    assert status["summary"] == summary(finished)


def test_status_of_a_run_at_work_and_of_one_that_was_killed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *tiny("reacher", root, "--mode", "sync", steps=2_000_000)) as command:
        command.until_step(root, 1500)
        status = json.loads(prefrl("status", root, "--json").out)
        assert (status["running"], status["finished"], status["state"]) == (True, False, "training")
        assert "prefrl resume" not in prefrl("status", root).out
        command.process.kill()
        command.wait()
    status = json.loads(prefrl("status", root, "--json").out)
    assert (status["running"], status["finished"]) == (False, False)
    assert "resumable" in status["state"]
    assert f"prefrl resume {root}" in prefrl("status", root).out
    answered, queries = label_counts(root)
    assert status["label_counts"]["answered"] == answered == queries


def test_status_of_a_baseline(tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert prefrl(*tiny("reacher", root, "--teacher", "none", "--mode", "sync", steps=600)).code == 0
    status = json.loads(prefrl("status", root, "--json").out)
    assert status["labels_budget"] == 0
    assert "label_counts" not in status
    assert not (root / "labels.sqlite").exists()


def test_doctor_looks_at_everything() -> None:
    done = prefrl("doctor")
    assert done.code in {0, 1}
    assert done.err == ""
    lines = done.out.splitlines()
    subjects = [line.split(":")[0].split(maxsplit=1) for line in lines if line.startswith(("ok", "LACK"))]
    assert {"Python", "torch", "MuJoCo", "rendering", "GPU", "disk"} <= {subject for _, subject in subjects}
    lacking = [i for i, line in enumerate(lines) if line.startswith("LACK")]
    assert all(lines[i + 1].strip().startswith("fix with: ") for i in lacking if "timeout" not in lines[i])


def test_doctor_lists_missing_parts_and_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    done = prefrl("doctor")
    lines = done.out.splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith("LACK  rendering"))
    assert "nonsense" in lines[at]
    assert lines[at + 1].strip().startswith("fix with: ")
    assert done.code == 0  # one can train without a picture


@pytest.mark.skipif(sys.platform != "linux", reason="windows under X11")
def test_doctor_names_all_libraries_that_qt_lacks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PySide6")
    from prefrl.commands import doctor

    lacking = {"libxcb-nothing.so.7": "libxcb-nothing7", "libnada.so.1": "libnada1"}
    monkeypatch.setattr(doctor, "QT_LIBRARIES", {"libc.so.6": "libc6"} | lacking)
    lines = prefrl("doctor").out.splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith("LACK  viewer"))
    assert lines[at] == "LACK  viewer: Qt lacks libxcb-nothing.so.7, libnada.so.1"
    assert lines[at + 1].strip() == "fix with: apt-get install libxcb-nothing7 libnada1"


@pytest.mark.skipif(shutil.which("readelf") is None, reason="reads the libraries' own lists")
@pytest.mark.parametrize("file", ["plugins/platforms/libqxcb.so", *(f"lib/libQt6{name}.so.6" for name in QT_PARTS)])
def test_doctor_knows_every_library_of_qt_s_windows(file: str) -> None:
    from prefrl.commands.doctor import QT_LIBRARIES

    path = Path(pytest.importorskip("PySide6").__file__).parent / "Qt" / file
    listed = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"NEEDED.*\[(.+)\]", listed)
    everywhere = ("libQt6", "libicu", "libc.", "libm.", "libdl.", "libpthread.", "libgcc_s.", "libstdc++.", "ld-linux")
    assert len(needed) > 3
    assert {name for name in needed if not name.startswith(everywhere)} <= set(QT_LIBRARIES)


def test_a_message_is_one_line_on_stderr_with_nothing_on_stdout(tmp_path: Path) -> None:
    done = spawned("status", tmp_path)
    assert done.code == 2
    assert done.out == ""
    assert refused(done, 2) == error_line(done) == f"prefrl: {tmp_path} is not a run: it has no config.json"


def test_python_m_prefrl_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "prefrl", "tasks"], capture_output=True, text=True, check=True)
    assert done.stdout == spawned("tasks").out


def test_bench_help() -> None:
    done = prefrl("bench", "--help")
    assert done.code == 0
    assert "speed" in done.out
    assert prefrl("bench", "nonsense").code == 2


def test_tracking_without_the_tracker_is_refused_before_a_run_is_made(tmp_path, monkeypatch, capsys) -> None:
    from prefrl.commands import cli

    monkeypatch.setattr(cli.importlib.util, "find_spec", lambda name: None)
    assert cli._run(["train", "reacher", "--track", "--out", str(tmp_path / "run")]) == 2
    assert "pip install wandb" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
