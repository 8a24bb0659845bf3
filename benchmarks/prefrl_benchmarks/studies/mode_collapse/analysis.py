"""Entropy of the policy and of the states, and the spread of returns, by what the agent learned from."""

from __future__ import annotations

import numpy as np

from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged
from prefrl_benchmarks.studies.trained import Trained, bars, score_rows, spread

VARIANTS = ("true", "learned", "learned-kl", "imitation")
FIGURES = {"policy_entropy": "policy entropy", "state_entropy": "state entropy", "true_return_std": "spread of returns"}


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained, last = Trained(measured), measured.settings["last"]
    found = {
        (task, name, column): trained.late(task, name, column, last)
        for task in trained.tasks
        for name in (*VARIANTS, "reference")
        for column in FIGURES
    }
    entropy = {(task, name): float(np.mean(found[task, name, "policy_entropy"])) for task, name, _ in found}
    lowest = [min(VARIANTS, key=lambda name: entropy[task, name]) == "learned" for task in trained.tasks]
    collapsed = [entropy[task, "imitation"] < entropy[task, "true"] for task in trained.tasks]
    kept = [
        abs(entropy[task, "learned-kl"] - entropy[task, "reference"])
        < abs(entropy[task, "learned"] - entropy[task, "reference"])
        for task in trained.tasks
    ]
    said = "; ".join(
        f"{task}: {', '.join(f'{name} {entropy[task, name]:.2f}' for name in (*VARIANTS, 'reference'))}"
        for task in trained.tasks
    )
    findings = f"Policy entropy in nats over the last {last:.0%} of the steps, means of the seeds: {said}."

    def more(task: str, variant: str) -> Row:
        return {title: spread(found[task, variant, column]) for column, title in FIGURES.items()}

    panels = [
        bars(f"{task}: {title}", title, {name: found[task, name, column] for name in VARIANTS})
        for task in trained.tasks
        for column, title in list(FIGURES.items())[:2]
    ]
    return Outcome(judged(*lowest, *collapsed, *kept), findings, score_rows(trained, VARIANTS, more), panels)
