"""One cell of a benchmark: a run in a process of its own, skipped where it is finished and resumed where it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A folder name that says what is in it."""
        what = "none" if self.teacher == "none" else f"{self.teacher}-{self.mode}-{self.labels}"
        what += f"-{self.ablation}" if self.ablation else ""
        return f"{self.task}_{self.algo}_{what}_s{self.seed}"

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
        if self.settings:
            words += ["--set", *(f"{key}={json.dumps(value)}" for key, value in self.settings.items())]
        return words


def run_cell(cell: Cell, folder: Path, *, threads: int | None = None) -> dict[str, Any] | None:
    """Run a cell to its end.

    Args:
        cell: The cell.
        folder: Where its run directory lies, or is to lie.
        threads: That its process may use; None leaves that to it.

    Returns:
        Its summary; None if it failed, with the reason in the folder's `NAME.log`.
    """
    root = folder / cell.name
    if (root / "summary.json").exists():
        return read_summary(root)
    words = ["resume", str(root)] if (root / "config.json").exists() else cell.arguments(root)
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with (folder / f"{cell.name}.log").open("a") as log:
        command = [sys.executable, "-m", "prefrl", *words]
        done = subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, check=False)
    return read_summary(root) if done.returncode == 0 else None


def run_cells(cells: Iterable[Cell], folder: Path, jobs: int) -> list[dict[str, Any] | None]:
    """Run cells, some at a time; their summaries in the same order."""
    folder.mkdir(parents=True, exist_ok=True)

    def run(cell: Cell) -> dict[str, Any] | None:
        summary = run_cell(cell, folder, threads=1)
        told = f"true return {summary['true_return_mean']:.1f}" if summary else f"failed: {folder / cell.name}.log"
        print(f"{cell.name}: {told}", flush=True)
        return summary

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(run, cells))


def read_summary(root: Path) -> dict[str, Any]:
    """A finished run's `summary.json`."""
    return dict(json.loads((root / "summary.json").read_text()))
