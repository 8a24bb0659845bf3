"""The report: CSV tables, figures, and a self-contained HTML page."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2

from prefrl.errors import UsageError
from prefrl.storage.files import write_atomically
from prefrl_benchmarks.random_baseline import random_returns
from prefrl_benchmarks.report.analysis import Aggregate, Group, TaskScore, aggregates, groups, task_scores
from prefrl_benchmarks.report.families import COLUMNS, Comparison, draws, families
from prefrl_benchmarks.report.figures import (
    draw_budget,
    draw_curves,
    draw_gains,
    draw_profiles,
    draw_scores,
    learned_variants,
)
from prefrl_benchmarks.report.games import game_rows, games_markdown, games_notes, games_table
from prefrl_benchmarks.report.methods import method_markdown, method_notes, method_rows, method_table
from prefrl_benchmarks.report.style import Draw, panel, write_figure
from prefrl_benchmarks.report.tables import Row, aggregate_rows, cell_rows, curve_rows, task_rows, write_table
from prefrl_benchmarks.report.texts import number_text, ranged, summary_table
from prefrl_benchmarks.results import Results, read_results

_TEMPLATE = Path(__file__).parent / "report.html.jinja"


@dataclass(frozen=True)
class Analysis:
    """Results with the scores computed from them."""

    results: Results
    groups: list[Group]
    scores: list[TaskScore]
    aggregates: list[Aggregate]
    problems: list[str]
    """Notes for readers of the results, one line each."""
    games: dict[str, list[Row]]
    """Rows of `game_rows` for each suite that has Atari games."""
    methods: dict[str, list[Row]]
    """Rows of `method_rows` for each suite that has tasks with published results of other methods."""


def analyse(folders: Sequence[Path], random_baselines: Mapping[str, float] | None = None) -> Analysis:
    """Read folders of results and compute their scores.

    Args:
        folders: Folders of suites.
        random_baselines: Mean return of a random policy for each task. If omitted, it is measured and stored in the
            first folder.

    Raises:
        UsageError: if a folder holds no suite's results.
        PrefrlError: if no cell is finished, or a manifest is damaged.
    """
    results = read_results(folders)
    found = groups(results)
    measured = random_baselines or random_returns(
        dict.fromkeys(group.task for group in found if group.results), folders
    )
    scores, lacking = task_scores(found, measured)
    whole = aggregates(scores, found)
    partial_lines = [f"{each.variant}: aggregates are over {each.missing}" for each in whole if each.missing]
    suites = dict.fromkeys(group.suite for group in found)
    games = {suite: rows for suite in suites if (rows := game_rows(results, suite, measured))}
    methods = {suite: rows for suite in suites if (rows := method_rows(results, suite, measured))}
    return Analysis(results, found, scores, whole, [*results.problems, *lacking, *partial_lines], games, methods)


def write_report(folders: Sequence[Path], out: Path, beside: Path | None = None) -> Analysis:
    """Write the report of one or more folders.

    Args:
        folders: Folders of suites; the runs of one suite may be spread over several.
        out: Folder for `report.html`, the tables (CSV, the main one also as Markdown) and the figures.
        beside: Folder of another suite with the same tasks, which the figure `families` compares with; None for none.

    Returns:
        The reported results.

    Raises:
        UsageError: if the folder cannot be written, and as for `analyse`.
        PrefrlError: as for `analyse`.
    """
    found = analyse(folders)
    compared = families(found.results, read_results([beside])) if beside else None
    try:
        out.mkdir(parents=True, exist_ok=True)
        tables = {
            "cells": cell_rows(found.results),
            "scores": task_rows(found.scores),
            "aggregates": aggregate_rows(found.aggregates),
            "curves": curve_rows(found.groups),
        }
        tables |= {"games": [row for rows in found.games.values() for row in rows]} if found.games else {}
        tables |= {"methods": [row for rows in found.methods.values() for row in rows]} if found.methods else {}
        for name, rows in tables.items():
            write_table(out / f"{name}.csv", rows)
        figures = _figures(found)
        for name, panels in figures.items():
            write_figure(out / name, panels)
        if compared:
            figures["families"] = draws(compared)
            write_figure(out / "families", figures["families"], COLUMNS)
        for name, table in _summaries(found).items():
            write_atomically(out / f"{name}.md", table.encode())
        write_atomically(out / "report.html", _page(found, tables, figures, compared).encode())
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    return found


def _prefixes(found: Analysis) -> dict[str, str]:
    """File name prefix of each suite; empty if there is only one suite."""
    suites = dict.fromkeys(group.suite for group in found.groups)
    return {suite: f"{suite}-" if len(suites) > 1 else "" for suite in suites}


def _summaries(found: Analysis) -> dict[str, str]:
    """The main table of each suite that has scores, and its table of games, by file name."""
    prefixes = _prefixes(found)
    written = {f"{prefixes[suite]}games": games_markdown(rows) for suite, rows in found.games.items()}
    written |= {f"{prefixes[suite]}methods": method_markdown(rows) for suite, rows in found.methods.items()}
    return written | {
        f"{prefix}summary": summary_table(
            [score for score in found.scores if score.group.suite == suite],
            [each for each in found.aggregates if each.suite == suite],
            found.results.returns_text(suite),
        )
        for suite, prefix in prefixes.items()
        if any(each.suite == suite for each in found.aggregates)
    }


def _figures(found: Analysis) -> dict[str, list[Draw]]:
    """The panels of each figure, by figure name."""
    figures: dict[str, list[Draw]] = {}
    for suite, name in _prefixes(found).items():
        scores = [score for score in found.scores if score.group.suite == suite]
        whole = [each for each in found.aggregates if each.suite == suite]
        curves = [group for group in found.groups if group.suite == suite and group.results]
        if whole:
            figures[f"{name}scores"] = [partial(draw_scores, found=whole), partial(draw_profiles, found=whole)]
            figures[f"{name}returns"] = [
                partial(draw_budget, title=task, scores=[score for score in scores if score.group.task == task])
                for task in dict.fromkeys(score.group.task for score in scores)
            ]
        if any(row["gain"] is not None for row in found.games.get(suite, ())):
            figures[f"{name}gains"] = [partial(draw_gains, rows=found.games[suite])]
        figures[f"{name}curves"] = [
            partial(
                draw_curves,
                title=task,
                found=[group for group in curves if group.task == task],
                variants=learned_variants(curves),
            )
            for task in dict.fromkeys(group.task for group in curves)
        ]
    return figures


def _published(found: Analysis) -> list[tuple[str, list[list[str]], list[str]]]:
    """Heading, table and notes of what stands next to published results."""
    prefix = {suite: f"{suite}: " if name else "" for suite, name in _prefixes(found).items()}
    shown = [
        (f"{prefix[suite]}Scores of the games", games_table(rows), games_notes(rows))
        for suite, rows in found.games.items()
    ]
    return shown + [
        (f"{prefix[suite]}Other methods", method_table(rows), method_notes(rows))
        for suite, rows in found.methods.items()
    ]


def _page(
    found: Analysis,
    tables: Mapping[str, Any],
    figures: Mapping[str, Sequence[Draw]],
    compared: Comparison | None,
) -> str:
    """The HTML page with all images inlined."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"number": number_text, "ranged": ranged, "quote": shlex.quote, "zip": zip}
    images = {name: [_data_uri(panel(draw)) for draw in draws] for name, draws in figures.items()}
    # Read as text, without a package loader: the template is installed next to this file.
    template = environment.from_string(_TEMPLATE.read_text())
    suites = dict.fromkeys(group.suite for group in found.groups)
    returns = {suite: found.results.returns_text(suite) for suite in suites}
    shown: dict[str, Any] = {"found": found, "tables": tables, "images": images, "manifests": found.results.manifests}
    shown |= {"published": _published(found), "clock": compared.hours if compared else ""}
    shown["beside"] = f" --beside {shlex.quote(str(compared.beside))}" if compared else ""
    shown["successes"] = any("success rate" in row for row in tables["scores"])
    return template.render(shown, returns=returns)


def _data_uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
