"""Helpers for tests that train: tiny runs through the command line, in this process or in one of their own."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from unittest import mock

import numpy as np
import psutil
from forked_workers import NAME
from forking import Forked, fork

from prefrl.commands import cli
from prefrl.commands.wording import in_words
from prefrl.runs.directory import read_progress
from prefrl.storage.files import load_tree

if TYPE_CHECKING:
    from prefrl.config.request import Request
    from prefrl.runs.progress import Progress

_T = TypeVar("_T")

OLD = Path(__file__).parent / "data" / "old" / "f460bb4.tar.xz"
"""Runs, an archive and published results that version 0.1.0 made at commit f460bb4."""
PREFRL = str(Path(sys.executable).with_name("prefrl"))
LABELS, STEPS = 20, 2048
SETTINGS = (
    "round_steps=512",
    "agent.n_steps=64",
    "checkpoint_seconds=0.5",
    "reward.pretrain_comparisons=640",
    "evaluation.episodes=1",
)
SUMMARY = '{"true_return_mean": 1.0, "steps": 10000}'
"""The least that a finished run's `summary.json` holds."""
DEADLINE = 120.0
"""Seconds after which something that should take a few has failed, on the busiest machine."""


class Result(NamedTuple):
    code: int
    out: str
    err: str


def tiny(task: str, out: Path, *flags: str, settings: tuple[str, ...] = (), steps: int = STEPS) -> list[str]:
    """Arguments of a tiny run."""
    budget = ["--steps", str(steps), "--labels", str(LABELS)]
    return ["train", task, "--out", str(out), *budget, *flags, "--set", *SETTINGS, *settings]


def prefrl(*args: str | Path) -> Result:
    """The command, in this process: anything that escapes as an exception is a traceback on a user's screen."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["prefrl", *map(str, args)]),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
    return Result(code, out.getvalue(), err.getvalue())


def environment(**changes: str) -> dict[str, str]:
    """This process's environment for a child that must not fight for cores."""
    return os.environ | {"OMP_NUM_THREADS": "1"} | changes


def spawned(*args: str | Path, timeout: float = DEADLINE, **variables: str) -> Result:
    """The installed command in a process of its own, from its start."""
    done = subprocess.run(
        [PREFRL, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(**variables),
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def apart(*args: str | Path, **variables: str) -> Result:
    """The installed command in a process of its own that has the libraries from its start."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        forked = fork([PREFRL, *map(str, args)], environment(**variables), (out, err))
        if forked is None:
            return spawned(*args, **variables)
        try:
            code = forked.wait(DEADLINE)
        finally:
            forked.kill()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return Result(code, *said)


class Live:
    """The installed command at work, in a process group of its own."""

    def __init__(self, process: subprocess.Popen[str] | Forked, log: Path) -> None:
        self.process, self.log = process, log

    @property
    def err(self) -> str:
        return self.log.read_text()

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def family(self) -> list[psutil.Process]:
        """Every process that it has started."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def learner(self) -> psutil.Process:
        """The reward learner's process."""
        found = until(lambda: learners(self.family()) or self.ended(), "a learner process")
        assert isinstance(found, list), self.err
        return found[0]  # found once: one that is just being forked changes its parent

    def wait(self, timeout: float = DEADLINE) -> int:
        return self.process.wait(timeout)

    def until_step(self, root: Path, step: int) -> None:
        """Wait until the run says that it is this far."""
        until(lambda: self.ended() or progress(root).get("step", 0) >= step, f"step {step}: {self.err}")
        assert not self.ended(), self.err

    def until_state(self, root: Path, state: str) -> None:
        """Wait until the run says that it is in this state."""
        until(lambda: self.ended() or state in progress(root).get("state", ""), f"state {state}: {self.err}")
        assert not self.ended(), self.err

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far, its children's aside."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def ended(self) -> bool:
        return self.process.poll() is not None


def learners(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that are reward learners."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.name() == NAME or any("spawn_main" in word for word in process.cmdline()):
                found.append(process)
    return found


def start(log: Path, *args: str | Path, loaded: bool = True, **variables: str) -> subprocess.Popen[str] | Forked:
    """Start the command; what it says is appended to a file.

    Args:
        log: The file.
        args: The command's arguments.
        loaded: Whether its process has the libraries from the start.
        variables: Of its environment.
    """
    words = [PREFRL, *map(str, args)]
    with log.open("ab") as file:
        if loaded and (forked := fork(words, environment(**variables), (file, file))):
            return forked
        return subprocess.Popen(
            words, stdout=file, stderr=file, text=True, start_new_session=True, env=environment(**variables)
        )


@contextlib.contextmanager
def live(log: Path, *args: str | Path, loaded: bool = True, **variables: str) -> Iterator[Live]:
    """Start the command as `start` does, with an empty file; whatever of it is left at the end is killed."""
    log.unlink(missing_ok=True)
    process = start(log, *args, loaded=loaded, **variables)
    command = Live(process, log)
    family: list[psutil.Process] = []
    try:
        yield command
    finally:
        family = command.family()
        for one in [*family, process]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                one.kill()
        process.wait(DEADLINE)


def until(probe: Callable[[], _T], what: str, timeout: float = DEADLINE, *, every: float = 0.01) -> _T:
    """Poll until the probe gives something true; a probe that costs more should be made less often."""
    deadline = time.monotonic() + timeout
    while not (found := probe()):
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s for {what}"
        time.sleep(every)
    return found


def gone(processes: list[psutil.Process]) -> bool:
    """Whether every process has ended (a zombie has)."""
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def progress(root: Path) -> dict[str, Any]:
    """What a run last said of itself, and `state` in words; empty before it did."""
    said = read_progress(root)
    return said.to_json() | {"state": in_words(said)} if said else {}


def summary(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / "summary.json").read_text()))


def error_line(result: Result) -> str:
    """The one line that tells what is wrong."""
    assert "Traceback" not in result.err, result.err
    lines = [line for line in result.err.splitlines() if line.startswith("prefrl: ")]
    assert len(lines) == 1, result.err
    return lines[0]


def refused(result: Result, code: int) -> str:
    """The one line with which a command refuses, there being nothing else on the screen."""
    assert result.code == code, result
    assert len(result.err.splitlines()) == 1, result.err
    return error_line(result)


def stored_labels(root: Path) -> list[tuple[Any, ...]]:
    """Every answer of the history with what it was about, as committed."""
    query = (
        "SELECT given.id, round, rank, one.segment_id, other.segment_id, substr(value, 2, length(value) - 2), teacher, "
        "given.agent_step FROM answers AS given JOIN queries AS asked ON asked.id = given.query_id "
        "JOIN query_segments AS one ON one.query_id = asked.id AND one.place = 0 "
        "JOIN query_segments AS other ON other.query_id = asked.id AND other.place = 1 ORDER BY given.id"
    )
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite", timeout=30)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'").fetchone():
            return []
        return connection.execute(query).fetchall()


def label_counts(root: Path) -> tuple[int, int]:
    """Answers that stand, and queries that they are about."""
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite", timeout=30)) as connection:
        return connection.execute("SELECT count(*), count(DISTINCT query_id) FROM labels").fetchone()  # type: ignore[no-any-return]


def figures(root: Path) -> list[tuple[str, ...]]:
    """`metrics.csv` as written, but for the columns that depend on the clock."""
    with (root / "metrics.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    kept = [index for index, name in enumerate(header) if not name.startswith("time_")]
    return [tuple(row[index] for index in kept) for row in [header, *rows]]


def trained(root: Path, request: Request, stop: int = 10**9) -> list[list[str]]:
    """Train a run that is stopped once at a report of its progress, and its metrics without clocks."""
    from prefrl.api import create_run  # with torch, which most helpers here do without
    from prefrl.runs.control import Control
    from prefrl.training import train_run

    run, control = create_run(dataclasses.replace(request, out=root)), Control()
    reports: list[Progress] = []

    def told(progress: Progress) -> None:
        reports.append(progress)
        control.stop = len(reports) == stop

    control.report = told
    while train_run(run, control) is None:
        control.stop = False
    return [list(row) for row in figures(root)]


def checkpoints(root: Path) -> list[Path]:
    """A run's checkpoints, oldest first."""
    return sorted((root / "checkpoints").glob("[0-9]*.safetensors"))


def policy(root: Path) -> dict[str, np.ndarray]:
    """The policy's tensors in the newest checkpoint."""
    return dict(load_tree(checkpoints(root)[-1])["agent"]["policy"])


def assert_equal_runs(one: Path, other: Path) -> None:
    """Figures, labels and final policy are the same to the last bit."""
    assert figures(one) == figures(other)
    if (one / "labels.sqlite").exists() or (other / "labels.sqlite").exists():
        assert stored_labels(one) == stored_labels(other)
    left, right = policy(one), policy(other)
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


def content(root: Path) -> dict[str, str]:
    """A checksum of every file of a folder, locks and SQLite's own side files aside."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    passing = (".lock", "-wal", "-shm")
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if not path.name.endswith(passing)
    }


def truncate(path: Path) -> None:
    """Cut half of a file off."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Change one bit in the middle of a file's data."""
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 0x10
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    """Leave nothing of a file."""
    path.write_bytes(b"")


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and content, links and all."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def assert_all_refuse(root: Path, *commands: str, word: str = "") -> None:
    """Every command quickly prints one line and changes neither the run nor other files."""
    before = everything(root.parent)
    for command in commands or ("status", "resume", "labels report", "play"):
        started = time.process_time()
        done = prefrl(*command.split(), root)
        assert done.code in {1, 2}, done
        assert word in refused(done, done.code)
        if command == "status":
            assert time.process_time() - started < 1.0
    assert everything(root.parent) == before
