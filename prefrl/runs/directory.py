"""The run directory: the complete state of a training, in standard formats.

The formats are JSON, SQLite, CSV and safetensors. Opening a directory that someone else made executes none of its
content.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import psutil
from filelock import FileLock

from prefrl.config import RunConfig
from prefrl.config.migrations import check_format, current_format, upgraded
from prefrl.config.typed import conform
from prefrl.errors import UnknownNameError, UsageError
from prefrl.printable import command, printable
from prefrl.runs import progress
from prefrl.runs.admission import admit_run
from prefrl.runs.checkpoints import Checkpoints
from prefrl.runs.progress import Progress
from prefrl.safety import store_schema, trust
from prefrl.storage import locks
from prefrl.storage.durable import make_folder
from prefrl.storage.files import (
    DamagedFileError,
    read_json,
    write_json,
)

_PACKAGES = ("gymnasium", "mujoco", "ale-py", "numpy", "safetensors", "sqlalchemy", "stable-baselines3", "torch")
_WHOLE = "run"
"""Name of the lock for training and for other exclusive changes to a run."""


class _Finished(TypedDict):
    steps: int


class Summary(_Finished, total=False):
    """The documented fields of `summary.json`."""

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
    labels_by_teacher: dict[str, int]
    true_return_mean: float | None
    true_return_std: float | None
    success_rate: float | None
    policy_entropy: float | None
    state_entropy: float | None
    kl_to_reference: float | None
    kl_beta: float | None
    occupancy_divergence: float | None
    evaluation_return_mean: float | None
    evaluation_return_std: float | None
    evaluation_success_rate: float | None
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
    """The files of a run. The agent, the learner and the viewer share no other state."""

    def __init__(self, root: Path, config: RunConfig, origin: trust.Origin | None = None) -> None:
        """Set the paths of the files. Use `create` or `open` instead of the constructor."""
        self.root, self.config, self._origin = root, config, origin
        self.labels = root / "labels.sqlite"
        self.clips = root / "clips"
        self.weights = root / "reward_model" / "weights.safetensors"
        self.judge = root / "reward_model" / "judge.safetensors"
        self.unlabelled = root / "reward_model" / "unlabelled.safetensors"
        self.checkpoints = root / "checkpoints"
        self.saved = Checkpoints(self.checkpoints)
        self.demonstrations = root / "demonstrations.safetensors"
        self.learner_state = self.checkpoints / "learner.safetensors"
        self.reference = root / "reference"
        self.metrics = root / "metrics.csv"
        self.progress = root / "progress.json"
        self.summary = root / "summary.json"
        self.tensorboard = root / "tensorboard"

    @classmethod
    def create(
        cls, root: Path, config: RunConfig, fill: Callable[[RunDirectory], object] = lambda run: None
    ) -> RunDirectory:
        """Create a run directory.

        Args:
            root: The folder.
            config: The run's configuration.
            fill: Adds initial content, e.g. imported labels. The folder becomes a run only after this; if creation is
                interrupted, the next attempt removes what is left.

        Raises:
            UsageError: if the folder is a run already, contains other files, or cannot be written.
        """
        config.validate()
        _check_path(root)
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is a file, not a folder")
        if (root / "config.json").exists():
            held = cls.open(root)
            state, more = ("a finished run", ("--steps", "N")) if held.finished else ("an unfinished run", ())
            hint = f"`{command('resume', root, *more)}` resumes it; or choose another --out"
            raise UsageError(f"{root} is {state}; {hint}")
        run, beginning = cls(root, config), root / ".beginning"
        try:
            for path in root.iterdir() if beginning.exists() else ():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if root.exists() and any(root.iterdir()):
                raise UsageError(f"{root} holds files that are not a run's; choose another --out")
            make_folder(root)
            beginning.touch()
            run.clips.mkdir(mode=0o700)  # private: clips show what people labelled
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
            UsageError: if the folder is not a run, or was made by a newer version.
            PrefrlError: if its configuration is damaged, or its files or its label database are not those of a run.
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
        """Allow this process to create the run's environment.

        Args:
            trusted: Modules that the user trusts.

        Returns:
            This run.

        Raises:
            UsageError: if the run was made by someone else and needs a module that is not trusted.
        """
        trust.admit(self.root, self.config, self._origin, trusted)
        return self

    def write_config(self) -> None:
        """Write `config.json`."""
        packages = {name: _installed(name) for name in _PACKAGES}
        content = {
            "format": current_format("config"),
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
        """Whether there is a checkpoint; the label database must then exist too."""
        return bool(self.saved.files())

    @property
    def finished(self) -> bool:
        """Whether the run has a valid summary. A run with a damaged summary counts as unfinished and can be resumed."""
        return is_finished(self.root)

    def lock(self, name: str = _WHOLE, timeout: float = 0) -> FileLock:
        """Lock the run for this process. The lock is released when the process ends, even if it is killed.

        Args:
            name: Name of the lock.
            timeout: Seconds to wait for another process.

        Raises:
            UsageError: if another process holds the lock.
        """
        if not self.root.is_dir():  # moved away; locking must not create the folder again
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
        """Whether a process holds the run's lock. This check does not block other processes."""
        return locks.is_held(self._lock_file(_WHOLE))

    def _lock_file(self, name: str) -> Path:
        return self.root / f".{name}.lock"

    def _clear_away(self) -> None:
        """Delete temporary files of killed processes."""
        for folder in (self.root, self.clips, self.checkpoints, self.weights.parent):
            for path in folder.glob(".*.tmp*"):
                if (number := re.search(r"\.([0-9]+)\.tmp", path.name)) and not psutil.pid_exists(int(number[1])):
                    path.unlink(missing_ok=True)

    def read_progress(self) -> Progress | None:
        """Return the run's last progress; see `read_progress`."""
        return read_progress(self.root)

    def write_progress(self, said: Progress) -> None:
        """Write the run's progress, for `prefrl status` and the viewer."""
        write_json(self.progress, said.to_json())


def read_config(path: Path) -> tuple[RunConfig, trust.Origin | None]:
    """Read a `config.json` of this or an older version.

    Returns:
        The configuration, and the run's origin if it is signed.

    Raises:
        UsageError: if it was made by a newer version, or names something that is not installed.
        DamagedFileError: if it is damaged or cannot be migrated.
    """
    data = read_json(path)
    said = data if isinstance(data, dict) else {}
    found = check_format("config", said.get("format"), path, said.get("prefrl"))
    upgraded_config = upgraded("config", said.get("config"), found, path)
    try:
        config = RunConfig.from_json(upgraded_config)
        return config, conform(trust.Origin | None, said.get("origin"), "origin")
    except UnknownNameError as error:  # of another package's, for example a feedback kind
        raise UsageError(f"{printable(path)} contains an {error}") from None
    except UsageError as error:
        raise DamagedFileError(f"{printable(path)} is damaged: {error}") from None


def _check_path(root: Path) -> None:
    """Refuse paths that are not UTF-8, because SQLite, TensorBoard and JSON need text."""
    try:
        str(root).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the path {printable(root)} is not UTF-8, which a run's must be; rename the folder") from None


def read_progress(root: Path) -> Progress | None:
    """Return a run's last progress, or None if there is none or it is damaged."""
    try:
        return progress.from_json(read_json(root / "progress.json"))
    except (OSError, DamagedFileError, UsageError):
        return None  # the next round writes it again


def read_summary(root: Path) -> dict[str, Any]:
    """Read a finished run's `summary.json`.

    Raises:
        FileNotFoundError: if the run is not finished.
        DamagedFileError: if the file is truncated or has other content.
    """
    path = root / "summary.json"
    try:
        return {"true_return_mean": None} | dict(conform(Summary, read_json(path), ""))
    except UsageError as error:
        raise DamagedFileError(f"{printable(path)} is damaged: {error}") from None


def is_finished(root: Path) -> bool:
    """Return whether a run has a valid summary."""
    try:
        read_summary(root)
    except (FileNotFoundError, DamagedFileError):
        return False
    return True


def version() -> str:
    """Return the version of this package."""
    return _installed("prefrl")


@cache
def _installed(package: str) -> str:
    """Return the version of an installed package; parsing its metadata takes milliseconds."""
    return importlib.metadata.version(package)


@cache
def commit() -> str | None:
    """Return the Git commit of this package's checkout, or None if it does not run from a checkout."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
