"""One cell of a benchmark: a run in a process of its own, skipped where it is finished and resumed where it is not."""

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

from prefrl.config import EvaluationConfig, RunConfig
from prefrl.errors import PrefrlError
from prefrl.experience.tasks import find_task
from prefrl.recipes import resolve
from prefrl.runs.directory import is_finished, read_summary
from prefrl.safety.trust import module_of
from prefrl.storage.files import read_json

_NOT_COMPUTED = {"playback_fps", "instruction", "checkpoint_seconds", "device"}
"""Settings that decide nothing of what a run with a synthetic teacher computes."""

YOUNGER: dict[str, Any] = {
    "evaluation": dataclasses.asdict(EvaluationConfig()),
    "env_kwargs": {},
    "true_reward": True,
    "reward.normalise_over": "comparisons",
}
"""Settings that are younger than published results, by their path ("reward.name"), with the value at which a run
computes what it computed before there were such settings. At this value they are left out of the hash."""


@dataclass(frozen=True)
class Cell:
    """The arguments of one `prefrl train`."""

    task: str
    algo: str
    teacher: str
    mode: str
    seed: int
    steps: int
    labels: int
    ablation: str | None = None
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    recipe: str = "default"
    variant: str = ""
    """What its suite calls this way to train."""

    @property
    def name(self) -> str:
        """Its id: a folder name that says what is in it."""
        what = "none" if self.teacher == "none" else f"{self.teacher}-{self.mode}-{self.labels}"
        what += f"-{self.ablation}" if self.ablation else ""
        what += f"-{self.variant}" if self.settings and self.variant else ""
        return f"{self.task.replace('/', '-').replace(':', '-')}_{self.algo}_{what}_s{self.seed}"

    @property
    def config(self) -> RunConfig:
        """What `prefrl train` makes of the arguments on this machine.

        Raises:
            UsageError: for arguments that it would refuse.
        """
        chosen: dict[str, Any] = {"steps": self.steps, "seed": self.seed, "mode": self.mode}
        if self.teacher != "none":
            chosen["queries.labels"] = self.labels
        gpu = find_task(self.task).images and _has_gpu()
        return resolve(
            self.task,
            teacher=self.teacher,
            algo=self.algo,
            recipe=self.recipe,
            ablation=self.ablation,
            settings=chosen | self.settings,
            gpu=gpu,
        )

    def arguments(self, root: Path) -> list[str]:
        """The command's arguments."""
        flags = {"teacher": self.teacher, "algo": self.algo, "mode": self.mode, "seed": self.seed, "steps": self.steps}
        words = ["train", self.task, "--out", str(root)]
        for flag, value in flags.items():
            words += [f"--{flag}", str(value)]
        if self.teacher != "none":
            words += ["--labels", str(self.labels)]
        if self.ablation:
            words += ["--ablation", self.ablation]
        if self.recipe != "default":
            words += ["--recipe", self.recipe]
        if self.settings:
            words += ["--set", *(f"{key}={json.dumps(value)}" for key, value in self.settings.items())]
        return words


def fingerprint(config: RunConfig) -> str:
    """A hash of what a run computes: of its own task's resolved recipe alone, so that others' may change.

    A run on the true reward has neither reward model nor queries, so that changes of theirs do not touch it. A setting
    that is younger than published results counts only where it differs from its default (`YOUNGER`), so that adding one
    leaves the hashes in their manifests as they are.
    """
    left_out = _NOT_COMPUTED if config.learns_reward else _NOT_COMPUTED | {"reward", "queries"}
    kept = {name: value for name, value in config.to_json().items() if name not in left_out}
    for path, default in YOUNGER.items():
        _leave_out(kept, path.split("."), default)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _leave_out(settings: dict[str, Any], path: list[str], default: Any) -> None:
    """Take a setting out where it has this value."""
    for part in path[:-1]:
        settings = settings.get(part, {})
    if settings.get(path[-1]) == default:
        del settings[path[-1]]


def fingerprint_of(root: Path) -> str | None:
    """The hash of a run on disk; None where this version cannot read its configuration.

    A setting that the run's configuration lacks has its default.
    """
    try:
        return fingerprint(RunConfig.from_json(read_json(root / "config.json")["config"]))
    except (PrefrlError, OSError, KeyError, TypeError):
        return None


def start_cell(cell: Cell, folder: Path, *, threads: int | None = None) -> subprocess.Popen[bytes]:
    """Start or resume a cell in a process that ends with this one, however this one ends.

    Args:
        cell: The cell.
        folder: Where its run directory lies, or is to lie; what it says goes to `NAME.log` there.
        threads: That its process may use; None leaves that to it.
    """
    root = folder / cell.name
    words = _resumed(cell, root) if (root / "config.json").exists() else cell.arguments(root)
    log: IO[bytes]
    with (folder / f"{cell.name}.log").open("ab") as log:
        # In a group of its own: Ctrl-C on the terminal reaches it through the runner alone, once.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "prefrl_benchmarks.executors.child", *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment(threads),
            process_group=0,
        )


def _resumed(cell: Cell, root: Path) -> list[str]:
    """A cell's module is the word of whoever runs the suite, be the run directory from another machine."""
    module = module_of(cell.task)
    return ["resume", str(root), *(["--trust", module] if module else [])]


def environment(threads: int | None) -> dict[str, str]:
    """A process's environment, in which it may use so many threads; None leaves that to it."""
    pinned = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return os.environ | pinned


def run_cell(cell: Cell, folder: Path, *, threads: int | None = None) -> dict[str, Any] | None:
    """Run a cell to its end; arguments as for `start_cell`.

    Returns:
        Its summary; None if it failed, with the reason in its log.
    """
    root = folder / cell.name
    if is_finished(root):
        return read_summary(root)
    with start_cell(cell, folder, threads=threads) as process:
        return read_summary(root) if process.wait() == 0 else None


def _has_gpu() -> bool:
    from prefrl.machine.devices import choose_device  # noqa: PLC0415 - torch takes seconds, and only images ask

    return choose_device("auto") == "cuda"
