"""The run directory: all state of one training, in files that ordinary tools read.

Opening a directory that somebody else made executes nothing of it: JSON, SQLite, CSV, and arrays in safetensors files.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

import psutil
from filelock import FileLock

from prefrl.config import RunConfig
from prefrl.config.migrations import check_format, opened, present, stamped, upgraded
from prefrl.config.typed import conform
from prefrl.errors import PrefrlError, UsageError
from prefrl.printable import command, printable
from prefrl.runs import progress
from prefrl.runs.admission import admit_run
from prefrl.runs.progress import Progress
from prefrl.safety import store_schema, trust
from prefrl.storage import locks
from prefrl.storage.durable import make_folder
from prefrl.storage.files import (
    DamagedFileError,
    Tree,
    check_tree,
    load_parts,
    load_tree,
    read_json,
    save_tree,
    write_json,
)

_PACKAGES = ("gymnasium", "mujoco", "ale-py", "numpy", "safetensors", "sqlalchemy", "stable-baselines3", "torch")
_CHECKPOINTS_KEPT = 2
_ACTING = ("agent/policy/", "env/normaliser/")
"""Parts of a checkpoint that acting needs."""
_WHOLE = "run"
"""The lock of whoever trains, or changes a run as only one process may at a time."""


class _Finished(TypedDict):
    steps: int


class Summary(_Finished, total=False):
    """What a finished run leaves in `summary.json`, as far as others rely on it."""

    task: str
    algo: str
    teacher: str
    mode: str
    seed: int
    labels_requested: int
    labels_answered: int
    labels_equal: int
    labels_incomparable: int
    labels_unusable: int
    true_return_mean: float | None
    true_return_std: float | None
    evaluation_return_mean: float | None
    evaluation_return_std: float | None
    evaluation_episodes: int
    reward_correlation: float | None
    reward_updates: int
    warnings: list[str]
    steps_per_second: float
    wall_seconds: float
    peak_rss_mb: float
    version: str
    commit: str | None


class RunDirectory:
    """One run's files. Its parts (agent, learner, viewer) share nothing else."""

    def __init__(self, root: Path, config: RunConfig, origin: trust.Origin | None = None) -> None:
        """Name the files; use `create` or `open`."""
        self.root, self.config, self._origin = root, config, origin
        self.labels = root / "labels.sqlite"
        self.clips = root / "clips"
        self.weights = root / "reward_model" / "weights.safetensors"
        self.checkpoints = root / "checkpoints"
        self.recording = self.checkpoints / "recording.safetensors"
        self.learner_state = self.checkpoints / "learner.safetensors"
        self.metrics = root / "metrics.csv"
        self.progress = root / "progress.json"
        self.summary = root / "summary.json"
        self.tensorboard = root / "tensorboard"

    @classmethod
    def create(
        cls, root: Path, config: RunConfig, fill: Callable[[RunDirectory], object] = lambda run: None
    ) -> RunDirectory:
        """Make a run's directory.

        Args:
            root: The folder.
            config: The run.
            fill: Puts in what the run is to have from the start. The folder becomes a run only once that is there; what
                a beginning left that was cut off is cleared away by the next.

        Raises:
            UsageError: if the folder is a run already, holds something else, or cannot be written.
        """
        config.validate()
        _check_path(root)
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, not a folder")
        if (root / "config.json").exists():
            held = cls.open(root)
            state, more = ("a finished run", ("--steps", "N")) if held.finished else ("an unfinished run", ())
            hint = f"`{command('resume', root, *more)}` goes on with it, or choose another --out"
            raise UsageError(f"{root} is {state}; {hint}")
        run, beginning = cls(root, config), root / ".beginning"
        try:
            for path in root.iterdir() if beginning.exists() else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if root.exists() and any(root.iterdir()):
                raise UsageError(f"{root} holds files that are not a run's; choose another --out")
            make_folder(root)
            beginning.touch()
            run.clips.mkdir(mode=0o700)  # what people saw is not for everybody
            for folder in (run.weights.parent, run.checkpoints):
                folder.mkdir()
            fill(run)
            run.write_config()
            beginning.unlink()
        except OSError as error:
            raise UsageError(f"{root} cannot be written: {error.strerror}") from None
        return run

    @classmethod
    def open(cls, root: Path) -> RunDirectory:
        """Open an existing run.

        Raises:
            UsageError: if it is none, or was made by a newer version.
            PrefrlError: if its configuration is damaged, or it holds what no run does: its labels' database included,
                whether it is needed or not.
        """
        _check_path(root)
        path = root / "config.json"
        if not path.exists():
            raise UsageError(f"{root} is not a run: it has no config.json")
        admit_run(root)
        if (root / "labels.sqlite").exists():
            store_schema.admit(root / "labels.sqlite")
        config, origin = read_config(path)
        return cls(root, config, origin)

    def admit(self, trusted: Sequence[str] = ()) -> RunDirectory:
        """Let the run's environment be made in this process; returns self.

        Args:
            trusted: Modules that the person trusts.

        Raises:
            UsageError: if making it would import what is neither this person's own nor trusted.
        """
        trust.admit(self.root, self.config, self._origin, trusted)
        return self

    def write_config(self) -> None:
        """Write `config.json`."""
        packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
        content = {
            "format": present("config"),
            "prefrl": version(),
            "commit": commit(),
            "seed": self.config.seed,
            "packages": packages,
            "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "config": self.config.to_json(),
            "origin": trust.sign(self.config),
        }
        write_json(self.root / "config.json", content, durable=True)

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint, so that labels must be there too."""
        return bool(self._checkpoint_files())

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end; one whose summary is damaged is resumed, to write it anew."""
        return is_finished(self.root)

    def lock(self, name: str = _WHOLE, timeout: float = 0) -> FileLock:
        """Take the run for this process; given back when the process ends, however it ends.

        Raises:
            UsageError: if another process has it.
        """
        if not self.root.is_dir():  # moved away, and not to be made anew for a lock
            raise UsageError(f"{self.root} is gone")
        try:
            lock = locks.take(self._lock_file(name), timeout)
        except locks.HeldError:
            raise UsageError(f"{self.root} is in use by another process") from None
        if name == _WHOLE:
            self._clear_away()
        return lock

    @property
    def running(self) -> bool:
        """Whether a process is at work on it now; asking keeps none from beginning."""
        return locks.is_held(self._lock_file(_WHOLE))

    def _lock_file(self, name: str) -> Path:
        return self.root / f".{name}.lock"

    def _clear_away(self) -> None:
        """Delete what processes were writing that were killed meanwhile."""
        for folder in (self.root, self.clips, self.checkpoints, self.weights.parent):
            for path in folder.glob(".*.tmp*"):
                if (number := re.search(r"\.([0-9]+)\.tmp", path.name)) and not psutil.pid_exists(int(number[1])):
                    path.unlink(missing_ok=True)

    def read_progress(self) -> Progress | None:
        """What the run last said of itself; None before it said anything."""
        return read_progress(self.root)

    def write_progress(self, said: Progress) -> None:
        """Say where the run is, for `prefrl status` and the viewer."""
        write_json(self.progress, said.to_json())

    def save_checkpoint(self, step: int, tree: Tree) -> None:
        """Write a checkpoint; older ones go, but for the last but one."""
        save_tree(self.checkpoints / f"{step:012d}.safetensors", stamped("checkpoint", tree), durable=True)
        for path in self._checkpoint_files()[:-_CHECKPOINTS_KEPT]:
            path.unlink()
        self.recording.unlink(missing_ok=True)

    def save_recording(self, tree: Tree) -> None:
        """Write what there is to go on with before the first checkpoint, which takes its place."""
        save_tree(self.recording, stamped("checkpoint", tree), durable=True)

    def load_recording(self, warn: Callable[[str], None]) -> Tree | None:
        """What `save_recording` has written; None where there is none, or it is damaged, of which `warn` is told."""
        try:
            return opened("checkpoint", load_tree(self.recording), self.recording)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            warn(f"{error}; the untrained policy is recorded anew")
            return None

    def check_checkpoints(self) -> RunDirectory:
        """Look whether there is something to go on with, before anything slow is imported for it; returns self.

        Raises:
            PrefrlError: if there are checkpoints, and all are damaged.
        """
        files = self._checkpoint_files()
        if files and not any(map(_is_whole, reversed(files))):
            raise self._no_checkpoint()
        return self

    def load_checkpoint(self, warn: Callable[[str], None]) -> Tree | None:
        """The newest checkpoint that is whole; None before the first.

        Args:
            warn: Told of each damaged one that is passed over.

        Raises:
            PrefrlError: if there are some, and all are damaged.
        """
        files = self._checkpoint_files()
        for path in reversed(files):
            try:
                return opened("checkpoint", load_tree(path), path)
            except DamagedFileError as error:
                warn(str(error))
        if files:
            raise self._no_checkpoint()
        return None

    def load_policy(self, most: int) -> Tree | None:
        """What acting needs of the newest checkpoint that is whole; None before the first.

        Args:
            most: Bytes that the policy and the normalisation of its observations may have.

        Raises:
            PrefrlError: if there are some, and all are damaged.
        """
        files = self._checkpoint_files()
        for path in reversed(files):
            with contextlib.suppress(DamagedFileError):
                return opened("checkpoint", load_parts(path, _ACTING, most), path)
        if files:
            raise self._no_checkpoint()
        return None

    def _no_checkpoint(self) -> PrefrlError:
        root = printable(self.root)
        return PrefrlError(f"no checkpoint of {root} is whole; the labels are: `labels.sqlite` and `clips/`")

    def _checkpoint_files(self) -> list[Path]:
        return sorted(self.checkpoints.glob("[0-9]*.safetensors"))


def _is_whole(path: Path) -> bool:
    try:
        check_tree(path)
    except DamagedFileError:
        return False
    return True


def read_config(path: Path) -> tuple[RunConfig, trust.Origin | None]:
    """What a `config.json` of this or an older version says: the configuration, and where it comes from.

    Raises:
        UsageError: if it was made by a newer version.
        DamagedFileError: if it is damaged, or cannot be brought up to date.
    """
    data = read_json(path)
    said = data if isinstance(data, dict) else {}
    found = check_format("config", said.get("format"), path, said.get("prefrl"))
    upgraded_config = upgraded("config", said.get("config"), found, path)
    try:
        config = RunConfig.from_json(upgraded_config)
        return config, conform(trust.Origin | None, said.get("origin"), "origin")
    except UsageError as error:
        raise DamagedFileError(f"{printable(path)} is damaged: {error}") from None


def _check_path(root: Path) -> None:
    """SQLite, TensorBoard and JSON all take paths as text."""
    try:
        str(root).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the path {printable(root)} is not UTF-8, which a run's must be; rename the folder") from None


def read_progress(root: Path) -> Progress | None:
    """What a run last said of itself; None before it said anything, and where it cannot be taken at its word."""
    try:
        return progress.from_json(read_json(root / "progress.json"))
    except (OSError, DamagedFileError, UsageError):
        return None  # the next round writes it again


def read_summary(root: Path) -> dict[str, Any]:
    """A finished run's `summary.json`.

    Raises:
        FileNotFoundError: if the run is not finished.
        DamagedFileError: if it is cut off, or holds something else.
    """
    path = root / "summary.json"
    try:
        return {"true_return_mean": None} | dict(conform(Summary, read_json(path), ""))
    except UsageError as error:
        raise DamagedFileError(f"{printable(path)} is damaged: {error}") from None


def is_finished(root: Path) -> bool:
    """Whether a run has a summary that can be taken at its word."""
    try:
        read_summary(root)
    except (FileNotFoundError, DamagedFileError):
        return False
    return True


def version() -> str:
    """The version of this package."""
    return importlib.metadata.version("prefrl")


def commit() -> str | None:
    """The commit of the checkout that this package runs from; None where it was installed otherwise."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
