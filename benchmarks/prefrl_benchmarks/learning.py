"""Does it learn? Preference training against training on the true reward, with the same seeds.

The normalised score of a task is (return from labels - return of random actions) / (return of the true-reward agent -
return of random actions), each a mean over seeds; the score over several tasks is the mean of theirs.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.tasks import find_task, make_env
from prefrl_benchmarks.cells import Cell, read_summary, run_cells

RANDOM_EPISODES = 30


@dataclass(frozen=True)
class Study:
    """What to compare, and where its runs lie."""

    out: Path
    tasks: tuple[str, ...]
    algo: str
    modes: tuple[str, ...]
    seeds: int
    steps: int
    labels: int

    def cells(self, task: str, mode: str | None) -> list[Cell]:
        """The runs of a task from labels in a mode, or on the true reward (None); one a seed."""
        teacher, where = ("none", "sync") if mode is None else ("oracle", mode)
        return [Cell(task, self.algo, teacher, where, seed, self.steps, self.labels) for seed in range(self.seeds)]

    def run(self, jobs: int) -> None:
        """Run what is not finished yet, seed by seed, so that early results cover everything."""
        by_seed = zip(*(self.cells(task, mode) for task in self.tasks for mode in (None, *self.modes)), strict=True)
        run_cells([cell for cells in by_seed for cell in cells], self.out, jobs)

    def write_csv(self) -> Path:
        """Write the summaries of the finished runs to one file, a row each."""
        cells = [cell for task in self.tasks for mode in (None, *self.modes) for cell in self.cells(task, mode)]
        roots = [self.out / cell.name for cell in cells]
        rows = [read_summary(root) for root in roots if (root / "summary.json").exists()]
        path = self.out / f"learning-{self.algo}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0] if rows else (), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return path

    def figures(self, task: str, mode: str | None, name: str) -> np.ndarray[Any, Any]:
        """One figure of the finished runs' summaries, a value a seed."""
        roots = [self.out / cell.name for cell in self.cells(task, mode)]
        values = [read_summary(root)[name] for root in roots if (root / "summary.json").exists()]
        return np.array([np.nan if value is None else value for value in values], dtype=float)


def random_return(task: str, episodes: int = RANDOM_EPISODES, seed: int = 0) -> float:
    """Mean true return of uniformly random actions."""
    env = make_env(find_task(task).env_id)
    env.action_space.seed(seed)
    returns = []
    for episode in range(episodes):
        env.reset(seed=seed + episode)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    env.close()
    return float(np.mean(returns))


def score_lines(study: Study) -> list[str]:
    """A table: each task's returns and scores, and each mode's score over the tasks."""
    lines = [
        f"{'task':<16}{'mode':<8}{'runs':>5}{'random':>9}{'true':>9}{'labels':>9}{'score':>7}{'corr':>6}{'steps/s':>9}"
    ]
    for mode in study.modes:
        scores = []
        for task in study.tasks:
            floor = random_return(task)
            baseline = study.figures(task, None, "true_return_mean")
            ours = study.figures(task, mode, "true_return_mean")
            if not len(baseline) or not len(ours):
                lines.append(f"{task:<16}{mode:<8} no finished runs")
                continue
            scores.append((ours.mean() - floor) / (baseline.mean() - floor))
            correlation = np.nanmean(study.figures(task, mode, "reward_correlation"))
            rate = np.median(study.figures(task, mode, "steps_per_second"))
            lines.append(
                f"{task:<16}{mode:<8}{len(ours):>5}{floor:>9.1f}{baseline.mean():>9.1f}{ours.mean():>9.1f}"
                f"{scores[-1]:>7.2f}{correlation:>6.2f}{rate:>9.0f}"
            )
        if scores:
            lines.append(f"{'together':<16}{mode:<8}{'':>32}{np.mean(scores):>7.2f}")
    return lines
