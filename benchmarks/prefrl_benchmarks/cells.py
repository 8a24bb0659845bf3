"""One cell of a suite: a run in its own process, which is skipped if finished and resumed otherwise."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import IO, Any

from prefrl.config import RunConfig, replace
from prefrl.config.demonstration_config import MINARI
from prefrl.config.migrations import downgraded
from prefrl.config.request import Request
from prefrl.config.schema import NO_TEACHER
from prefrl.errors import PrefrlError
from prefrl.experience.find_task import find_task
from prefrl.feedback.terms import JUDGE
from prefrl.recipes import resolve
from prefrl.runs.directory import is_finished, read_config, read_summary
from prefrl.safety.trust import module_of

TAKEN = {
    "reference": "kl.reference",
    "reward": "reward_model",
    "demonstrations": "demonstrations.source",
    JUDGE: "judge.source",
}
"""What a run can take from another one, as options of `prefrl train` or its teacher, with the setting that names it."""
_NOT_COMPUTED = {"playback_fps", "instruction", "aim", "checkpoint_seconds", "device"}
"""Settings that do not affect the results of a run with a synthetic teacher."""


@dataclass(frozen=True)
class Cell(Request):
    """What a suite asks of one `prefrl train`."""

    variant: str = field(default="", kw_only=True)
    """Name of the variant in its suite."""
    named: bool = field(default=False, kw_only=True)
    """Whether the name of the variant is part of the cell's, as it always is if the cell has settings."""
    uses: dict[str, str] = field(default_factory=dict, kw_only=True, hash=False)
    """Names of the cells from whose runs it takes something, by what it takes: a name in `TAKEN`."""

    @property
    def is_baseline(self) -> bool:
        """Whether it trains on the true reward alone."""
        return self.teacher == NO_TEACHER and not self.uses

    @property
    def name(self) -> str:
        """The cell's id, used as folder name."""
        asked = self.teacher != NO_TEACHER
        what = f"{self.teacher}-{self.mode}-{self.labels}" if asked else NO_TEACHER
        kinds = self.feedback.replace(",", "+").replace(":", "")
        what += f"-{kinds}" if self.feedback != Request.feedback and asked else ""
        what += f"-{self.learner}" if self.learner != Request.learner and asked else ""
        what += f"-{self.ablation}" if self.ablation else ""
        what += f"-{self.variant}" if (self.settings or self.named) and self.variant else ""
        return f"{self.task.replace('/', '-').replace(':', '-')}_{self.algo}_{what}_s{self.seed}"

    @property
    def seedless(self) -> Cell:
        """The same for all seeds: with seed 0, and with runs of that seed if it uses any."""
        used = {what: f"{name.removesuffix(str(self.seed))}0" for what, name in self.uses.items()}
        return dataclasses.replace(self, seed=0, uses=used)

    @property
    def request(self) -> Request:
        """The same, without labels where none are asked for, and with names of cells for the runs that it uses."""
        named = {TAKEN[what]: name for what, name in self.uses.items()}
        labels = self.labels if self.teacher != NO_TEACHER else None
        return dataclasses.replace(self, labels=labels, settings=self.settings | named)

    def request_in(self, folder: Path) -> Request:
        """The request for its run in the folder of a suite, where the runs that it uses are."""
        given: dict[str, Any] = {what: folder / name for what, name in self.uses.items()}
        if JUDGE in given:
            given["teacher"] = f"{JUDGE}:{given.pop(JUDGE)}{self.teacher.removeprefix(JUDGE)}"
        if "demonstrations" in given:
            given["demonstrations"] = str(given["demonstrations"])
        return dataclasses.replace(self.request, settings=self.settings, out=folder / self.name, **given)

    @cached_property
    def config(self) -> RunConfig:
        """The configuration that `prefrl train` resolves from the arguments on this machine.

        Raises:
            UsageError: for arguments that `prefrl train` would refuse.
        """
        return resolve(self.request, gpu=self.device != "cpu" and find_task(self.task).images and _has_gpu())

    def arguments(self, folder: Path) -> list[str]:
        """The arguments of `prefrl` that start this cell in the folder of a suite."""
        return ["train", *self.request_in(folder).words()]

    def lacks(self, folder: Path) -> list[str]:
        """The names of the cells that it uses whose runs are not finished."""
        return [name for name in self.uses.values() if not is_finished(folder / name)]


def fingerprint(config: RunConfig) -> str:
    """Hash the settings that affect a run's results. Changes to the recipes of other tasks do not affect it.

    For runs on the true reward, settings of the reward model and the queries are ignored. The hash is of the
    configuration as format 1 would state it, so that renaming a setting, or adding one, does not change the hashes in
    published manifests. Of other runs that a run has taken something from, only their names count.
    """
    left_out = _NOT_COMPUTED if config.takes_labels else _NOT_COMPUTED | {"reward", "queries"}
    named = replace(config, names) if (names := _names(config)) else config
    data = downgraded("config", named.to_json())
    kept = {name: value for name, value in data.items() if name not in left_out}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _names(config: RunConfig) -> dict[str, str]:
    """The settings that are paths of other runs, as their names."""
    paths = {name: attrgetter(name)(config) for name in TAKEN.values()}
    return {name: Path(path).name for name, path in paths.items() if path and not path.startswith(MINARI)}


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
    words = _resumed(cell, root) if (root / "config.json").exists() else cell.arguments(folder)
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
