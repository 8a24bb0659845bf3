"""The report's table of games: real scores, gains worked by hand, and what others have published."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from bench_runs import finish
from matplotlib.figure import Figure
from prefrl_benchmarks.report.analysis import Group
from prefrl_benchmarks.report.figures import draw_curves
from prefrl_benchmarks.report.games import GOOD, game_rows, games_markdown, games_table, good_games
from prefrl_benchmarks.report.page import analyse, write_report
from prefrl_benchmarks.report.published import GAMES, SOURCES, game_of, published_scores
from prefrl_benchmarks.report.style import COLOURS
from prefrl_benchmarks.results import read_results, write_manifest
from prefrl_benchmarks.suites import Suite, Variant

BASELINES = {"pong": -20.0, "breakout": 2.0, "enduro": 0.0, "enduro-effort": 0.0, "reacher": -10.0}
SCORES = {
    ("pong", "true"): [20.0],
    ("pong", "5500"): [12.0],
    ("pong", "mistake"): [0.0],
    ("breakout", "true"): [102.0, 202.0],
    ("breakout", "5500"): [22.0, 92.0],
    ("enduro", "true"): [0.0],
    ("enduro", "5500"): [0.0],
    ("enduro-effort", "true"): [200.0],
    ("enduro-effort", "5500"): [180.0],
    ("enduro-effort", "mistake"): [150.0],
    ("reacher", "true"): [-2.0],
}
"""Gains: Pong 32/40 and 20/40; Breakout 20/150 and 90/150, together 55/150; effort 0.9 and 0.75."""


@pytest.fixture
def folder(tmp_path):
    """A suite of which some cells are finished; evaluations are twice the training returns."""
    variants = (
        Variant("true", "none"),
        Variant("5500", labels=5500),
        Variant("mistake", "mistake", 5500, tasks=("enduro-effort", "pong")),
    )
    tasks = tuple(BASELINES)
    ours = Suite("games", tasks, (0,), 200_000, variants, task_seeds={"breakout": (0, 1, 2)}).validate()
    out = tmp_path / "games"
    out.mkdir()
    write_manifest(ours, out)
    for cell in ours.cells():
        scores = SCORES.get((cell.task, cell.variant), [])
        if cell.seed < len(scores):
            finish(cell, out, scores[cell.seed], evaluation=2 * scores[cell.seed])
    (out / "random.json").write_text(json.dumps({"episodes": 30, "returns": BASELINES}))
    return out


@pytest.fixture
def rows(folder):
    return game_rows(read_results([folder]), "games", BASELINES)


def row_of(rows, task, variant):
    (found,) = (row for row in rows if (row["task"], row["variant"]) == (task, variant))
    return found


def test_gains_worked_by_hand(rows):
    assert row_of(rows, "pong", "5500")["gain"] == pytest.approx(0.8)
    breakout = row_of(rows, "breakout", "5500")
    assert breakout["gain"] == pytest.approx(55 / 150)
    assert (breakout["score"], breakout["runs"], breakout["planned"]) == (57.0, 2, 3)
    assert breakout["score low"] < 57 < breakout["score high"]
    assert row_of(rows, "pong", "true")["gain"] == 1
    assert row_of(rows, "enduro", "5500")["gain"] is None
    assert row_of(rows, "enduro-effort", "mistake")["gain"] == pytest.approx(0.75)
    assert {row["steps"] for row in rows} == {200_000}


def test_scores_are_of_training_games_and_the_evaluation_stands_apart(rows):
    pong = row_of(rows, "pong", "5500")
    assert (pong["score"], pong["evaluation"], pong["random"]) == (12.0, 24.0, -20.0)


def test_other_tasks_are_no_games(rows):
    assert {row["task"] for row in rows} == set(BASELINES) - {"reacher"}
    assert game_of("reacher") is None
    assert published_scores("reacher") == {}


def test_games_with_a_good_gain_are_counted_and_enduro_judged_otherwise_is_not(rows):
    assert GOOD == 0.8
    assert good_games(rows, "5500") == (1, 2)  # Pong just so, Breakout not; Enduro has no gain
    assert good_games(rows, "mistake") == (0, 1)


def test_tasks_that_teachers_judge_otherwise_are_in_no_aggregate(folder):
    found = {each.variant: each for each in analyse([folder], BASELINES).aggregates}
    assert found["mistake"].tasks == ("pong",)
    assert found["5500"].tasks == ("pong", "breakout")
    assert found["5500"].scores == pytest.approx(np.array([[44 / 60, 42 / 302]]))  # of evaluations, of seed 0
    assert found["5500"].missing == "2 of 4 tasks"


def test_the_table_a_person_reads(rows):
    header, *lines = games_table(rows)
    assert header[:6] == ["game", "agent steps", "random policy", "true reward", "5500 labels", "mistake"]
    assert header[6:] == [
        "PPO of RL Baselines3 Zoo, 10 M steps",
        "the paper's RL, 50 M steps",
        "the paper's 5,600 labels, 50 M steps",
        "the paper's 3,300 labels, 50 M steps",
        "the paper's people, 50 M steps",
    ]
    assert {len(line) for line in lines} == {len(header)}
    texts = {line[0]: line[1:] for line in lines}
    assert texts["pong"][:5] == ["200,000", "−20.0", "20.0", "12.0 (0.80)", "0.00 (0.50)"]
    assert texts["breakout"][2:4] == ["152 (2 of 3 runs)", "57.0 (0.37; 2 of 3 runs)"]
    assert texts["enduro"][2:4] == ["0.00", "0.00"]
    assert texts["enduro-effort"][3:5] == ["180 (0.90)", "150 (0.75)"]
    assert texts["enduro-effort"][5:] == texts["enduro"][5:] == ["996", "0.00", "0.00", "0.00", "690"]
    assert texts["gain of 0.8 or more"][2:5] == ["", "1 of 2 games", "0 of 1 games"]
    *_, effort = games_table([row for row in rows if row["task"] == "enduro-effort"])
    assert effort[3:6] == ["", "–", "–"]


def test_what_a_reader_has_to_know_is_below_the_table(rows):
    text = games_markdown(rows)
    assert "No gain for enduro: " in text
    assert "enduro-effort: teachers judge effort" in text
    assert "last 100 training games" in text
    without = games_markdown([row for row in rows if row["task"] == "pong"])
    assert "enduro" not in without


def test_published_scores_are_complete_and_of_the_right_games():
    assert all(set(source.scores) == set(GAMES) for source in SOURCES)
    zoo, paper_rl, labels, fewer, people = (source.scores for source in SOURCES)
    assert (zoo["breakout"], zoo["seaquest"], zoo["pong"]) == (398.033, 1783.636, 20.989)
    assert (paper_rl["qbert"], labels["qbert"], fewer["qbert"], people["qbert"]) == (16_000, 12_300, 4500, 850)
    assert people["enduro"] == 690


def test_the_report_of_games_has_their_table_and_figure(folder, tmp_path):
    found = write_report([folder], tmp_path / "report")
    assert {"games.md", "games.csv", "gains.svg", "gains.png"} <= {
        path.name for path in (tmp_path / "report").iterdir()
    }
    written = list(csv.DictReader((tmp_path / "report" / "games.csv").read_text().splitlines()))
    assert [row["task"] for row in written] == [row["task"] for row in found.games["games"]]
    drawn = {name: (tmp_path / "report" / f"{name}.svg").read_text() for name in ("gains", "scores", "curves")}
    assert "5500 labels" in drawn["gains"]
    assert "5500 (tasks: 2)" in drawn["scores"]  # which averages over fewer tasks than others
    assert "mistake (tasks: 1)" in drawn["scores"]
    assert "mistake (1)" in drawn["curves"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "57.0 (0.37; 2 of 3 runs)" in page
    assert "Scores of the games" in page
    assert '<td class="name">breakout</td>' in page


def test_more_seeds_of_one_task_do_not_make_the_others_partial(folder):
    (labels,) = (each for each in analyse([folder]).aggregates if each.variant == "5500")
    assert labels.seeds == (0,)
    assert labels.missing == "2 of 4 tasks"


def test_a_variant_has_its_colour_in_every_panel():
    groups = [Group("s", "pong", name, labels, (), 1) for name, labels in (("true", 0), ("mistake", 50))]
    axes = Figure().add_subplot()
    drawn = [dataclasses.replace(group, results=(Curve(),)) for group in groups]
    draw_curves(axes, "pong", drawn, ["few", "mistake"])
    assert [line.get_color() for line in axes.lines] == ["black", COLOURS[1]]


class Curve:
    """A run with a learning curve."""

    flaw = ""
    metrics = ({"step": 1, "true_return_mean": 0.0}, {"step": 2, "true_return_mean": 1.0})


def test_unequal_steps_are_said(rows):
    longer = [row | {"steps": 300_000} if (row["task"], row["variant"]) == ("pong", "true") else row for row in rows]
    text = games_markdown(longer)
    assert "| pong | 200,000 to 300,000 |" in text
    assert "| breakout | 200,000 |" in text
    assert "pong: the true reward's agent was trained for 300,000 steps, unlike the others." in text
    assert "unlike the others" not in games_markdown(rows)
