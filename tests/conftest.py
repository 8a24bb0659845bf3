"""Runs that many tests of what can go wrong under a run start from."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import forked_workers
import forking
import psutil
import pytest
import torch
from asking import make_run as make_asking_run
from isolation import unchanged_process
from labelled import LABELS as IN_FILE
from labelled import People, add_labels, make_run, people
from prefrl_benchmarks import cells
from prefrl_benchmarks.measure import speed
from prefrl_benchmarks.report import style
from runs import LABELS, OLD, SETTINGS, STEPS, checkpoints, content, environment, prefrl, tiny

from clip_viewer.session import Session
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.store import LabelStore
from prefrl.feedback.transfer import export_labels
from prefrl.runs.directory import RunDirectory
from prefrl.safety import trust

MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30
"""Bytes that must be free for the folders of tests; the suite was seen to take 0.6 GB at a time."""


def pytest_configure() -> None:
    """Keep the tests' folders in memory if there is ample room: waiting for a disk takes half of a test's time."""
    with contextlib.suppress(OSError, AttributeError):
        state = os.statvfs(MEMORY)
        room = min(state.f_bavail * state.f_frsize, psutil.virtual_memory().available // 2)
        if room > ROOM and not state.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the slow tests evenly to the workers, which start with them: none is left alone with one at the end.

    Each worker of pytest-xdist begins with an equal part of the list, in order.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    fast = [item for item in items if not item.get_closest_marker("slow")]
    ends = [len(fast) * (worker + 1) // workers for worker in range(workers)]
    items[:] = [
        item
        for worker, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
        for item in (*slow[worker::workers], *fast[start:end])
    ]


if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # in a shell's background job; processes that tests start inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # as in the processes that tests start: several workers must not fight for cores


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Signatures are made with a key of the tests' own, also by the processes that they start; and what
    Stable-Baselines3 would leave in the system's temporary folder goes with the rest."""
    folder = tmp_path_factory.mktemp("state")
    with mock.patch.dict(os.environ, {"XDG_STATE_HOME": str(folder), "SB3_LOGDIR": str(folder)}):
        forking.USUAL.update(environment())
        yield folder


@pytest.fixture(scope="session")
def helper() -> Iterator[forked_workers.Helper]:
    """Forks worker processes."""
    started = forked_workers.Helper(loaded=False)
    yield started
    started.close()


@pytest.fixture(autouse=True)
def workers(request: pytest.FixtureRequest, helper: forked_workers.Helper) -> Iterator[None]:
    """Worker processes that tests start in this process are forked, unless a test is marked `spawned`."""
    forked_workers.use(None if request.node.get_closest_marker("spawned") else helper)
    yield
    forked_workers.use(None)


@pytest.fixture(autouse=True)
def modules(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of suites and modules that are measured are forked too, unless a test is marked `spawned`."""
    if request.node.get_closest_marker("spawned") is None:
        for module in (cells, speed):
            monkeypatch.setattr(module, "subprocess", forking.SUBPROCESS)


@pytest.fixture(autouse=True)
def as_a_new_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test passes because of another before it: none trusts anything yet, and what it changed is changed back."""
    with unchanged_process(tmp_path_factory.getbasetemp()):
        trust._folders.clear()
        trust._calls.clear()
        yield


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, but not turned into pictures, which takes most of a report's time."""
    monkeypatch.setattr(style, "_render", lambda figure, kind: b"<svg/>" if kind == "svg" else b"")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where `store` is."""
    return tmp_path / "labels.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[LabelStore]:
    """A label store with nothing in it."""
    opened = LabelStore(path, create=True)
    yield opened
    opened.close()


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A run with labels, as its maker left it."""
    made = make_run(tmp_path / "run")
    add_labels(made, 6)
    (made.root / "progress.json").write_text("{}")
    return made.root


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with what an older version made: four runs, `labels.zip`, and results that were `published`."""
    folder = tmp_path / "old"
    with tarfile.open(OLD) as file:
        file.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished synchronous run; not to be changed."""
    root = tmp_path_factory.mktemp("finished") / "run"
    done = prefrl(*tiny("reacher", root, "--mode", "sync"))
    assert done.code == 0, done.err
    yield from unchanged(root)


@pytest.fixture(scope="session")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A synchronous run that was stopped half-way, with two checkpoints; not to be changed."""
    yield from unchanged(stopped(tmp_path_factory.mktemp("halfway") / "run", "sync"))


@pytest.fixture(scope="session")
def halfway_async(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An asynchronous one."""
    yield from unchanged(stopped(tmp_path_factory.mktemp("halfway") / "run", "async"))


def unchanged(root: Path) -> Iterator[Path]:
    """Give a run to all tests; none may have changed it."""
    before = content(root)
    yield root
    assert content(root) == before


@pytest.fixture
def unfinished(halfway: Path, tmp_path: Path) -> Path:
    """A copy of the synchronous run."""
    return Path(shutil.copytree(halfway, tmp_path / "unfinished"))


@pytest.fixture
def unfinished_async(halfway_async: Path, tmp_path: Path) -> Path:
    """A copy of the asynchronous run."""
    return Path(shutil.copytree(halfway_async, tmp_path / "unfinished"))


def stopped(root: Path, mode: str) -> Path:
    from prefrl.api import resume
    from prefrl.recipes import resolve
    from prefrl.runs.control import Control

    chosen = {name: json.loads(value) for name, value in (pair.split("=") for pair in SETTINGS)}
    chosen |= {"steps": STEPS, "queries.labels": LABELS, "mode": mode, "checkpoint_seconds": 0.0}
    RunDirectory.create(root, resolve("reacher", settings=chosen))
    control = Control()

    def report(progress: dict[str, object]) -> None:
        control.stop = progress.step >= STEPS // 2

    control.report = report
    assert resume(root, control=control).summary is None
    assert len(checkpoints(root)) == 2
    return root


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with labels of every kind, and two videos; not to be changed."""
    run = make_run(tmp_path_factory.mktemp("source") / "run")
    judgements = iter([Judgement.EQUAL, Judgement.INCOMPARABLE, *[Judgement.LEFT, Judgement.RIGHT] * IN_FILE])
    add_labels(run, IN_FILE, videos=2, judge=lambda left, right: next(judgements))
    return run


@pytest.fixture(scope="session")
def file(source: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its labels; not to be changed."""
    path = tmp_path_factory.mktemp("file") / "labels.zip"
    export_labels(source.root, path)
    return path


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[People]:
    """A run that people have labelled."""
    made = people(tmp_path / "ours")
    yield made
    made.store.close()


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[People]:
    """Another, without labels."""
    made = people(tmp_path / "theirs", labels=0)
    yield made
    made.store.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[RunDirectory, LabelStore]]:
    """A run that asks people, and its store."""
    made, store = make_asking_run(tmp_path)
    yield made, store
    store.close()


@pytest.fixture
def session(run: tuple[RunDirectory, LabelStore]) -> Iterator[Session]:
    """Ann's, who labels it."""
    opened = Session(run[0].root, "ann")
    yield opened
    opened.close()


@pytest.fixture
def window(session: Session, qtbot: Any) -> Iterator[Any]:
    """The viewer's window on it, offscreen, with pairs to show."""
    from clip_viewer.fetcher import Fetcher  # Qt is not everywhere
    from clip_viewer.window import LabelWindow

    opened = LabelWindow(session, Fetcher(session))
    qtbot.addWidget(opened)
    opened.show()
    qtbot.waitUntil(lambda: len(opened.pairs) >= 2, timeout=5000)
    yield opened
    opened.close()
