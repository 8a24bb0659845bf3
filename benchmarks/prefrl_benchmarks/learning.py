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
class Variant:
    """One way to train, which a study compares with others."""

    name: str
    teacher: str = "oracle"
    mode: str = "sync"
    ablation: str | None = None


TRUE = Variant("true", teacher="none")
"""The yardstick: the task's own reward."""


@dataclass(frozen=True)
class Study:
    """What to compare, and where its runs lie."""

    name: str
    out: Path
    tasks: tuple[str, ...]
    algo: str
    variants: tuple[Variant, ...]
    """Beside `TRUE`, which always is there."""
    seeds: int
    steps: int
    labels: int

    def cells(self, task: str, variant: Variant) -> list[Cell]:
        """The runs of a task in one way; one a seed."""
        how = (variant.teacher, variant.mode)
        return [
            Cell(task, self.algo, *how, seed, self.steps, self.labels, variant.ablation) for seed in range(self.seeds)
        ]

    def columns(self) -> list[list[Cell]]:
        """The runs of each task in each way."""
        return [self.cells(task, variant) for task in self.tasks for variant in (TRUE, *self.variants)]

    def run(self, jobs: int) -> None:
        """Run what is not finished yet, seed by seed, so that early results cover everything."""
        run_cells([cell for cells in zip(*self.columns(), strict=True) for cell in cells], self.out, jobs)

    def write_csv(self) -> Path:
        """Write the summaries of the finished runs to one file, a row each."""
        rows = [
            read_summary(self.out / cell.name) | {"ablation": cell.ablation or ""}
            for cells in self.columns()
            for cell in cells
            if (self.out / cell.name / "summary.json").exists()
        ]
        path = self.out / f"{self.name}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0] if rows else (), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        return path

    def figures(self, task: str, variant: Variant, name: str) -> np.ndarray[Any, Any]:
        """One figure of the finished runs' summaries, a value a seed."""
        roots = [self.out / cell.name for cell in self.cells(task, variant)]
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
    """A table: each task's returns and scores, and each variant's score over the tasks."""
    width = 2 + max(len(variant.name) for variant in study.variants)
    lines = [
        f"{'task':<16}{'':<{width}}{'runs':>5}{'random':>9}{'true':>9}{'labels':>9}{'score':>7}{'corr':>6}{'steps/s':>9}"
    ]
    floors = {task: random_return(task) for task in study.tasks}
    for variant in study.variants:
        scores = []
        for task, floor in floors.items():
            baseline = study.figures(task, TRUE, "true_return_mean")
            ours = study.figures(task, variant, "true_return_mean")
            if not len(baseline) or not len(ours):
                lines.append(f"{task:<16}{variant.name:<{width}} no finished runs")
                continue
            scores.append((ours.mean() - floor) / (baseline.mean() - floor))
            correlation = np.nanmean(study.figures(task, variant, "reward_correlation"))
            rate = np.median(study.figures(task, variant, "steps_per_second"))
            lines.append(
                f"{task:<16}{variant.name:<{width}}{len(ours):>5}{floor:>9.1f}{baseline.mean():>9.1f}{ours.mean():>9.1f}"
                f"{scores[-1]:>7.2f}{correlation:>6.2f}{rate:>9.0f}"
            )
        if scores:
            lines.append(f"{'together':<16}{variant.name:<{width}}{'':>32}{np.mean(scores):>7.3f}")
    return lines


def report(study: Study, jobs: int) -> None:
    """Run a study, some runs at a time, and print what came out."""
    study.run(jobs)
    print("\n".join([*score_lines(study), f"all figures: {study.write_csv()}"]))
