"""Invalid input is refused before slow imports, in one line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from labelled import add_labels, make_run
from runs import DEADLINE, Result, checkpoints, content, environment, flip, prefrl, refused

from prefrl.feedback.transfer import export_labels

MEMORY, SECONDS = 300 * 2**20, 1.0
MEASURED = """
import atexit, os, resource, sys
from prefrl.commands.cli import main
def tell():
    used = resource.getrusage(resource.RUSAGE_SELF)
    slow = [name for name in ("torch", "stable_baselines3", "PySide6.QtWidgets", "matplotlib") if name in sys.modules]
    status = open("/proc/self/status").read()  # the most that getrusage tells may be that of who started this process
    most = int(status.split("VmHWM:")[1].split()[0]) * 1024
    os.write(3, repr((used.ru_utime + used.ru_stime, most, slow)).encode())
atexit.register(tell)
main()
"""


def measured(*args: str | Path, cwd: Path) -> tuple[Result, float, int, list[str]]:
    """A command in a process of its own: what it said, took of the processor and of memory, and imported."""
    read, write = os.pipe()
    command = f'exec 3>&{write}; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, "-c", MEASURED, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        pass_fds=(write,),
        cwd=cwd,
        env=environment(),
        check=False,
    )
    os.close(write)
    with os.fdopen(read) as told:
        seconds, memory, slow = eval(told.read())
    return Result(done.returncode, done.stdout, done.stderr), seconds, memory, slow


def assert_refused_early(*args: str | Path, word: str, cwd: Path) -> None:
    done, seconds, memory, slow = measured(*args, cwd=cwd)
    assert done.code in {1, 2}, done
    assert word in refused(done, done.code)
    assert done.out == ""
    assert slow == []
    assert seconds < SECONDS
    assert memory < MEMORY


def trigger(root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as store:
        store.execute("CREATE TRIGGER t AFTER INSERT ON answers BEGIN DELETE FROM answers; END")
        store.commit()


def other_program(root: Path) -> None:
    (root / "labels.sqlite").write_bytes(b"not a database" * 1000)


def nothing(root: Path) -> None:
    (root / "labels.sqlite").write_bytes(b"")


def deep(root: Path) -> None:
    (root / "config.json").write_text("[" * 10**5)


def journal(root: Path) -> None:
    (root / "labels.sqlite-journal").write_bytes(b"x")


def module(root: Path) -> None:
    data = json.loads((root / "config.json").read_text())
    data["config"]["env_id"] = "evil:Env-v0"
    (root / "config.json").write_text(json.dumps(data))


def broken(root: Path) -> None:
    for path in checkpoints(root):
        flip(path)


ATTACKS = {
    trigger: "is not a store of prefrl's",
    other_program: "damaged",
    nothing: "damaged",
    deep: "config.json is damaged",
    journal: "rollback journal",
    module: "--trust evil",
    broken: "are damaged",
}
OPENING = (
    ["resume", "."],
    ["play", "."],
    ["export", ".", "../x.zip"],
    ["labels", "export", ".", "../x.zip"],
    ["reward", "fit", "."],
    ["status", "."],
    ["label", "."],
    ["labels", "report", "."],
    ["labels", "finish", "."],
    ["labels", "export", ".", "../x.csv"],
)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_run_that_cannot_be_used_is_refused_before_anything_slow(
    attack: Callable[[Path], None], unfinished: Path
) -> None:
    attack(unfinished)
    # All commands open a run in one way: the first attack is tried with each of them.
    commands = {trigger: OPENING, module: OPENING[:5]}.get(attack, OPENING[:2])
    before = content(unfinished)
    for command in commands:
        assert_refused_early(*command, word=ATTACKS[attack], cwd=unfinished)
    assert content(unfinished) == before


def test_a_file_of_labels_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_labels(run, 3)
    export_labels(run.root, tmp_path / "labels.zip")
    flip(tmp_path / "labels.zip")
    line = "is damaged, or not an archive of labels"
    assert_refused_early("labels", "import", "labels.zip", word=line, cwd=tmp_path)
    assert_refused_early("labels", "import", "labels.zip", "--into", "run", word=line, cwd=tmp_path)
    given = ("train", "reacher", "--labels-from", "labels.zip", "--out", "new")
    assert_refused_early(*given, word=line, cwd=tmp_path)
    trigger(run.root)
    (tmp_path / "labels.zip").unlink()
    other = make_run(tmp_path / "other")
    add_labels(other, 3)
    export_labels(other.root, tmp_path / "labels.zip")
    arguments = ("labels", "import", "labels.zip", "--into", "run")
    assert_refused_early(*arguments, word="is not a store of prefrl's", cwd=tmp_path)


def test_results_too(tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_text("[" * 10**5)
    for command in (["report", "."], ["publish", ".", "x"], ["compare", ".", "."]):
        assert_refused_early("bench", *command, word="suite.json is damaged", cwd=tmp_path)


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("option", "form"), [("--env-kwargs", "NAME=VALUE"), ("--set", "KEY=VALUE")])
@pytest.mark.parametrize("value", ["level", "=3"])
def test_a_setting_without_a_name_or_a_value(option: str, form: str, value: str, tmp_path: Path) -> None:
    word = f"{option} {value}: write {form}"
    assert_refused_early("train", "pendulum", "--out", "run", option, value, word=word, cwd=tmp_path)
    assert not (tmp_path / "run").exists()


# -- finished runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [trigger, other_program, nothing, journal])
@pytest.mark.parametrize("command", ["resume", "play", "status"])
def test_a_finished_run_with_a_store_that_is_not_admitted(
    command: str, attack: Callable[[Path], None], finished: Path, tmp_path: Path
) -> None:
    """Whether the command needs the labels or not: a run is admitted whole."""
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    attack(root)
    assert ATTACKS[attack] in refused(prefrl(command, root), 1)


def test_a_finished_run_whose_labels_rotted_is_still_finished_and_played(finished: Path, tmp_path: Path) -> None:
    """What admission cannot tell, and neither command reads, hinders neither; `status` tells it."""
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as store:
        store.execute("UPDATE answers SET value = '\"lefu\"' WHERE id = 1")
        store.commit()
    for command in (["resume"], ["play", "--episodes", "1"]):
        done = prefrl(command[0], root, *command[1:])
        assert (done.code, done.err) == (0, "")
    assert "1 of the labels cannot be used" in prefrl("status", root).out
    (root / "labels.sqlite").unlink()  # a policy needs no labels
    assert prefrl("play", root, "--episodes", "1").code == 0
