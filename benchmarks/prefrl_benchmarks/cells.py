"""One cell of a suite: a run in its own process, which is skipped if finished and resumed otherwise."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from prefrl.config import RunConfig
from prefrl.config.migrations import downgraded
from prefrl.config.request import Request
from prefrl.errors import PrefrlError
from prefrl.experience.find_task import find_task
from prefrl.recipes import resolve
from prefrl.runs.directory import is_finished, read_config, read_summary
from prefrl.safety.trust import module_of

_NOT_COMPUTED = {"playback_fps", "instruction", "checkpoint_seconds", "device"}
"""Settings that do not affect the results of a run with a synthetic teacher."""


@dataclass(frozen=True)
class Cell(Request):
    """What a suite asks of one `prefrl train`."""

    variant: str = field(default="", kw_only=True)
    """Name of the variant in its suite."""
    named: bool = field(default=False, kw_only=True)
    """Whether the name of the variant is part of the cell's, as it always is if the cell has settings."""

    @property
    def is_baseline(self) -> bool:
        """Whether it trains on the true reward."""
        return self.teacher == "none"

    @property
    def name(self) -> str:
        """The cell's id, used as folder name."""
        what = "none" if self.is_baseline else f"{self.teacher}-{self.mode}-{self.labels}"
        kinds = self.feedback.replace(",", "+").replace(":", "")
        what += f"-{kinds}" if self.feedback != Request.feedback and not self.is_baseline else ""
        what += f"-{self.learner}" if self.learner != Request.learner and not self.is_baseline else ""
        what += f"-{self.ablation}" if self.ablation else ""
        what += f"-{self.variant}" if (self.settings or self.named) and self.variant else ""
        return f"{self.task.replace('/', '-').replace(':', '-')}_{self.algo}_{what}_s{self.seed}"

    @property
    def request(self) -> Request:
        """The same, without labels where none are used: there a suite says 0."""
        return dataclasses.replace(self, labels=None) if self.is_baseline else self

    @property
    def config(self) -> RunConfig:
        """The configuration that `prefrl train` resolves from the arguments on this machine.

        Raises:
            UsageError: for arguments that `prefrl train` would refuse.
        """
        return resolve(self.request, gpu=self.device != "cpu" and find_task(self.task).images and _has_gpu())

    def arguments(self, root: Path) -> list[str]:
        """The arguments of `prefrl` that start this cell in the run directory `root`."""
        return ["train", *dataclasses.replace(self.request, out=root).words()]


def fingerprint(config: RunConfig) -> str:
    """Hash the settings that affect a run's results. Changes to the recipes of other tasks do not affect it.

    For runs on the true reward, settings of the reward model and the queries are ignored. The hash is of the
    configuration as format 1 would state it, so that renaming a setting, or adding one, does not change the hashes in
    published manifests.
    """
    left_out = _NOT_COMPUTED if config.takes_labels else _NOT_COMPUTED | {"reward", "queries"}
    kept = {name: value for name, value in downgraded("config", config.to_json()).items() if name not in left_out}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint_of(root: Path) -> str | None:
    """The hash of a run on disk; None where this version cannot read its configuration."""
    try:
        return fingerprint(read_config(root / "config.json")[0])
    except (PrefrlError, OSError):
        return None


def start_cell(cell: Cell, folder: Path, *, threads: int | None = None) -> subprocess.Popen[bytes]:
    """Start or resume a cell in a process that ends whenever this process ends.

    Args:
        cell: The cell.
        folder: Parent of the run directory; output is appended to `NAME.log` in it.
        threads: Number of threads that the process may use; None does not limit it.

    Returns:
        The process, which leads its own process group.
    """
    root = folder / cell.name
    words = _resumed(cell, root) if (root / "config.json").exists() else cell.arguments(root)
    log: IO[bytes]
    with (folder / f"{cell.name}.log").open("ab") as log:
        # With its own process group, Ctrl-C on the terminal reaches the cell once, through the runner.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "prefrl_benchmarks.executors.child", *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment(threads),
            process_group=0,
        )


def _resumed(cell: Cell, root: Path) -> list[str]:
    """Trust the module of the cell's task: whoever runs the suite named it, even if the run is from another machine."""
    module = module_of(cell.task)
    return ["resume", str(root), *(["--trust", module] if module else [])]


def environment(threads: int | None) -> dict[str, str]:
    """Environment variables that limit a process to a number of threads; None does not limit it."""
    pinned = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return os.environ | pinned


def run_cell(cell: Cell, folder: Path, *, threads: int | None = None) -> dict[str, Any] | None:
    """Run a cell to completion. Arguments as for `start_cell`.

    Returns:
        Its summary; None if it failed, in which case the log states the reason.
    """
    root = folder / cell.name
    if is_finished(root):
        return read_summary(root)
    with start_cell(cell, folder, threads=threads) as process:
        return read_summary(root) if process.wait() == 0 else None


def _has_gpu() -> bool:
    from prefrl.machine.devices import choose_device  # noqa: PLC0415 - importing torch takes seconds

    return choose_device("auto") == "cuda"
