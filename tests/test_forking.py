"""Processes that tests fork are as those that users start, but for their libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from forking import Forked, fork, popen
from runs import environment

ASKED = """
import os, sys, torch
print(torch.get_num_threads(), os.getcwd(), sys.argv[1:], sys.stdin.read(), flush=True)
print("an error", file=sys.stderr, flush=True)
sys.exit(3)
"""


def started(folder: Path, *options: str) -> tuple[subprocess.Popen[bytes] | Forked, Path, Path]:
    (folder / "asked.py").write_text(ASKED)
    out, err = folder / "out", folder / "err"
    with out.open("wb") as said, err.open("wb") as wrong:
        process = popen(
            [sys.executable, *options, "-m", "asked", "one", "two"],
            env=environment(PYTHONPATH=str(folder)),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=wrong,
            process_group=0,
        )
    return process, out, err


@pytest.mark.parametrize(("options", "forked"), [((), True), (("-P",), True), (("-X", "dev"), False)])
def test_a_module_is_run_as_by_the_interpreter(
    options: tuple[str, ...], forked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process, out, err = started(tmp_path, *options)
    assert isinstance(process, Forked) == forked
    assert process.stdin is not None
    process.stdin.write(b"words")
    process.stdin.close()
    assert process.wait(60) == 3
    assert process.poll() == process.returncode == 3
    process.send_signal(15)  # to nobody
    assert out.read_text() == f"1 {tmp_path} ['one', 'two'] words\n"
    assert err.read_text() == "an error\n"


def test_another_environment_gets_a_process_that_loads_its_libraries(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        assert fork(["x"], environment(HOME="/nowhere"), (file, file), "json.tool") is None


def test_a_process_that_has_trained_has_its_commands_forked(finished: Path, tmp_path: Path) -> None:
    """Libraries set variables when they are first used."""
    with (tmp_path / "log").open("wb") as file:
        forked = fork([str(finished / "config.json")], environment(), (file, file), "json.tool")
    assert forked is not None
    assert forked.wait(60) == 0
