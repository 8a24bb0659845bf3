"""Scores of Atari games: what was measured, the gain over a random policy, and what others have published.

Scores are those of the last 100 training games, like the curves of the paper. In a deterministic emulator, the mean
action of an evaluation can repeat itself forever, so the evaluation is only in the CSV file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prefrl_benchmarks.report.analysis import Group, TaskScore, groups, task_scores
from prefrl_benchmarks.report.published import JUDGED_OTHERWISE, game_of, published_scores
from prefrl_benchmarks.report.tables import Row
from prefrl_benchmarks.report.texts import number_text
from prefrl_benchmarks.results import Results
from prefrl_benchmarks.run_statistics import interval, mean

GOOD = 0.8
"""A gain over the random policy, relative to that of the true-reward agent, that counts as close to it."""


def game_rows(results: Results, suite: str, random_baselines: Mapping[str, float]) -> list[Row]:
    """The score of each variant on each game of a suite; empty for suites without games.

    Args:
        results: The results.
        suite: Name of the suite.
        random_baselines: Mean return of a random policy for each task.
    """
    found = [group for group in groups(results.with_returns(suite, "training")) if group.suite == suite]
    played = [group for group in found if group.results and game_of(group.task)]
    scores = {(each.group.task, each.group.variant): each for each in task_scores(played, random_baselines)[0]}
    return [_row(group, random_baselines[group.task], scores.get((group.task, group.variant))) for group in played]


def _row(group: Group, random_baseline: float, score: TaskScore | None) -> Row:
    low, high = interval(mean, group.returns[:, None])
    return {
        **group.facts,
        "random": random_baseline,
        "score": float(group.returns.mean()),
        "score low": low,
        "score high": high,
        "gain": None if score is None else float(score.scores.mean()),
        "evaluation": float(np.mean(group.metric("evaluation_return_mean"))),
        **published_scores(group.task),
    }


def good_games(rows: Sequence[Row], variant: str) -> tuple[int, int]:
    """How many games a variant learns nearly as well as the true-reward agent.

    Returns:
        Number of games with a gain of `GOOD` or more, and number of games with a gain. Tasks in which teachers do not
        judge the score do not count.
    """
    gains = [row["gain"] for row in rows if row["variant"] == variant and row["task"] not in JUDGED_OTHERWISE]
    known = [gain for gain in gains if gain is not None]
    return sum(gain >= GOOD for gain in known), len(known)


def games_table(rows: Sequence[Row]) -> list[list[str]]:
    """The rows as one table of texts with a line for each game, its header first."""
    cells = {(row["task"], row["variant"]): row for row in rows}
    tasks = {row["task"]: row for row in rows}
    steps = {task: sorted({row["steps"] for row in rows if row["task"] == task}) for task in tasks}
    labels = {row["variant"]: row["labels"] for row in rows}
    variants = sorted(labels, key=lambda variant: labels[variant] != 0)
    columns = list(published_scores(rows[0]["task"]))
    table = [["game", "agent steps", "random policy", *map(_title, variants), *columns]]
    for task, row in tasks.items():
        measured = [_text(cells.get((task, variant))) for variant in variants]
        published = [number_text(row[column]) for column in columns]
        trained = " to ".join(f"{count:,}" for count in (steps[task][0], steps[task][-1])[: len(steps[task])])
        table.append([task, trained, number_text(row["random"]), *measured, *published])
    counts = [_count(rows, variant) if labels[variant] else "" for variant in variants]
    return [*table, [f"gain of {GOOD} or more", "", "", *counts, *([""] * len(columns))]]


def games_notes(rows: Sequence[Row]) -> list[str]:
    """What a reader of the table has to know, one sentence each."""
    notes = [
        "Scores are raw, of the last 100 training games.",
        "In brackets: the gain, (score − random policy) / (true reward − random policy) at equal seeds.",
        "The paper's scores are read off its figure 3; those of RL Baselines3 Zoo are of one agent per game.",
    ]
    baselines = {row["task"]: row["steps"] for row in rows if not row["labels"]}
    unequal = [row for row in rows if row["labels"] and row["steps"] != baselines.get(row["task"], row["steps"])]
    for task in dict.fromkeys(row["task"] for row in unequal):
        notes.append(f"{task}: the true reward's agent was trained for {baselines[task]:,} steps, unlike the others.")
    if tasks := [task for task in JUDGED_OTHERWISE if any(row["task"] == task for row in rows)]:
        line = f"{', '.join(tasks)}: teachers judge effort, and its true-reward agent is trained on effort; the scores "
        notes.append(f"{line}are the game's. It is not counted among the games.")
    lacking = [row["task"] for row in rows if row["labels"] and row["gain"] is None]
    if lacking:
        why = "there, no true-reward run is finished, or it is no better than a random policy"
        notes.append(f"No gain for {', '.join(dict.fromkeys(lacking))}: {why}.")
    return notes


def games_markdown(rows: Sequence[Row]) -> str:
    """The table with its notes in Markdown."""
    header, *lines = games_table(rows)
    table = "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *lines])
    return f"{table}\n{' '.join(games_notes(rows))}\n"


def _title(variant: str) -> str:
    return f"{variant} labels" if variant.isdigit() else {"true": "true reward"}.get(variant, variant)


def _text(row: Row | None) -> str:
    if row is None:
        return "–"
    more: list[Any] = [] if row["gain"] is None or not row["labels"] else [f"{row['gain']:.2f}".replace("-", "−")]
    more += [f"{row['runs']} of {row['planned']} runs"] if row["planned"] > 1 else []
    return f"{number_text(row['score'])} ({'; '.join(more)})" if more else number_text(row["score"])


def _count(rows: Sequence[Row], variant: str) -> str:
    good, known = good_games(rows, variant)
    return f"{good} of {known} games" if known else "–"
