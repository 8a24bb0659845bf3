"""Folders that are not runs, and runs that are newer or damaged: one clear line, and stored data is kept."""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import (
    LABELS,
    assert_equal_runs,
    checkpoints,
    content,
    empty,
    error_line,
    flip,
    label_counts,
    prefrl,
    refused,
    stored_labels,
    tiny,
    truncate,
)

import prefrl as package
from prefrl.errors import PrefrlError, UsageError

Damage = Callable[[Path], None]


# -- the output folder ----------------------------------------------------------------------------------------------


def test_out_is_a_finished_run(finished: Path) -> None:
    before = content(finished)
    line = refused(prefrl("train", "reacher", "--out", finished), 2)
    assert "finished run" in line
    assert "--out" in line
    assert content(finished) == before


def test_out_is_an_unfinished_run(unfinished: Path) -> None:
    before = content(unfinished)
    assert f"prefrl resume {unfinished}" in refused(prefrl("train", "reacher", "--out", unfinished), 2)
    assert content(unfinished) == before


def test_out_is_another_programs_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert "--out" in refused(prefrl("train", "reacher", "--out", tmp_path), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_out_is_another_programs_folder_with_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"theme": "dark"}')
    done = prefrl("train", "reacher", "--out", tmp_path)
    assert done.code in {1, 2}
    error_line(done)
    assert (tmp_path / "config.json").read_text() == '{"theme": "dark"}'
    assert len(list(tmp_path.iterdir())) == 1


def test_out_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    assert "is a file" in refused(prefrl("train", "reacher", "--out", file), 2)
    assert file.read_text() == "mine"


def test_out_is_under_a_file(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    assert "cannot be written" in refused(prefrl("train", "reacher", "--out", file / "run"), 2)
    assert file.read_text() == "mine"


def test_out_cannot_be_written() -> None:
    assert "cannot be written" in refused(prefrl("train", "reacher", "--out", "/proc/prefrl-run"), 2)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    assert prefrl(*tiny("reacher", root, "--mode", "sync")).code == 0


@pytest.mark.parametrize("command", ["resume", "status", "play"])
@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_no_run(command: str, kind: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    if kind == "empty":
        root.mkdir()
    elif kind == "file":
        root.write_text("mine")
    assert "not a run" in refused(prefrl(command, root), 2)


# -- made by a newer version ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["resume", "status", "play", "train"])
def test_a_newer_run_format(command: str, finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    config = json.loads((root / "config.json").read_text())
    (root / "config.json").write_text(json.dumps(config | {"format": config["format"] + 1, "prefrl": "9.9"}))
    before = content(root)
    arguments = ["train", "reacher", "--out", root] if command == "train" else [command, root]
    line = refused(prefrl(*arguments), 2)
    assert "newer version" in line
    assert "9.9" in line
    assert content(root) == before


@pytest.mark.parametrize("command", ["resume", "status"])
def test_a_newer_store(command: str, unfinished: Path) -> None:
    with contextlib.closing(sqlite3.connect(unfinished / "labels.sqlite")) as connection:
        connection.execute("UPDATE meta SET value = '999' WHERE key = 'version'")
        connection.commit()
    labels = stored_labels(unfinished)
    done = prefrl(command, unfinished)
    assert done.code == 2
    assert "newer version" in error_line(done)
    assert stored_labels(unfinished) == labels


# -- damaged files --------------------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    """As many bytes as there were, none of them right, nor UTF-8."""
    path.write_bytes(b"\xff\xfe\x00garbage" * (path.stat().st_size // 10 + 1))


def remove(path: Path) -> None:
    path.unlink()


def _no_side_files(root: Path) -> None:
    """Fold SQLite's log into the database, so that damage to the database is damage to the labels."""
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        (root / f"labels.sqlite{suffix}").unlink(missing_ok=True)


def test_the_reports_name_the_file_that_is_damaged(unfinished: Path) -> None:
    truncate(unfinished / "config.json")
    for command in ("resume", "status", "play"):
        line = refused(prefrl(command, unfinished), 1)
        assert "config.json is damaged" in line


@pytest.mark.parametrize("damage", [empty, garbage])
def test_a_damaged_config(damage: Damage, unfinished: Path) -> None:
    damage(unfinished / "config.json")
    labels = stored_labels(unfinished)
    assert "config.json is damaged" in refused(prefrl("resume", unfinished), 1)
    assert stored_labels(unfinished) == labels


@pytest.mark.parametrize(
    "change",
    [
        {"config": None},
        {"config": []},
        {"config": {}},
        {"format": "one"},
        {"format": None},
    ],
)
def test_a_config_with_something_else_in_it(change: dict[str, object], unfinished: Path) -> None:
    path = unfinished / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "config.json is damaged" in refused(prefrl("resume", unfinished), 1)


@pytest.mark.parametrize(("name", "value"), [("steps", "many"), ("steps", -1), ("algo", 3), ("novelty", 1)])
def test_a_config_with_a_bad_value(name: str, value: object, unfinished: Path) -> None:
    path = unfinished / "config.json"
    data = json.loads(path.read_text())
    data["config"][name] = value
    path.write_text(json.dumps(data))
    line = refused(prefrl("resume", unfinished), 1)
    assert "config.json is damaged" in line
    assert name in line


@pytest.mark.parametrize(
    ("name", "value", "nearest"),
    [("algo", "trop", "trpo"), ("reward.network", "mlpp", "mlp"), ("feedback", "comparisn", "comparison")],
)
def test_a_config_with_a_name_of_a_package_that_is_not_installed(
    name: str, value: str, nearest: str, unfinished: Path
) -> None:
    path = unfinished / "config.json"
    data = json.loads(path.read_text())
    *sections, last = name.split(".")
    functools.reduce(operator.getitem, sections, data["config"])[last] = value
    path.write_text(json.dumps(data))
    before = content(unfinished)
    line = refused(prefrl("resume", unfinished), 2)
    assert f"'{value}'; did you mean {nearest}" in line
    assert "damaged" not in line
    assert content(unfinished) == before


@pytest.mark.parametrize("name", ["teacher", "env_id"])
def test_a_config_that_names_something_unknown(name: str, unfinished: Path) -> None:
    path = unfinished / "config.json"
    data = json.loads(path.read_text())
    data["config"][name] = "Nobody-v0"
    path.write_text(json.dumps(data))
    labels = stored_labels(unfinished)
    done = prefrl("resume", unfinished)
    assert done.code in {1, 2}
    assert "Nobody-v0" in error_line(done)
    assert stored_labels(unfinished) == labels


@pytest.mark.parametrize("command", ["resume", "status"])
@pytest.mark.parametrize("damage", [truncate, empty, garbage, remove])
def test_a_damaged_database(damage: Damage, command: str, unfinished: Path) -> None:
    path = unfinished / "labels.sqlite"
    _no_side_files(unfinished)
    damage(path)
    before = {name: sum_ for name, sum_ in content(unfinished).items() if name != "progress.json"}
    done = prefrl(command, unfinished)
    assert done.code in {1, 2}, done
    assert "labels.sqlite" in error_line(done)
    after = {name: sum_ for name, sum_ in content(unfinished).items() if name != "progress.json"}
    assert after == before


@pytest.mark.parametrize("page", range(1, 10, 2))
def test_a_damaged_page_of_the_database(page: int, unfinished: Path) -> None:
    """Whichever page is damaged, the run either resumes with all its labels or reports the damage."""
    path = unfinished / "labels.sqlite"
    labels = stored_labels(unfinished)
    _no_side_files(unfinished)
    data = bytearray(path.read_bytes())
    size = 4096
    assert len(data) >= page * size + size
    data[page * size : page * size + size] = b"\xa5" * size
    path.write_bytes(bytes(data))
    done = prefrl("resume", unfinished)
    if done.code == 0:
        assert stored_labels(unfinished)[: len(labels)] == labels
    else:
        assert done.code == 1
        assert "labels.sqlite is damaged" in error_line(done)


@pytest.mark.parametrize("damage", [truncate, flip, empty, garbage])
def test_every_checkpoint_damaged(damage: Damage, unfinished: Path) -> None:
    labels = stored_labels(unfinished)
    for path in checkpoints(unfinished):
        damage(path)
    for command in ("resume", "play"):
        done = prefrl(command, unfinished)
        assert done.code == 1
        assert "checkpoint" in error_line(done)
    assert stored_labels(unfinished) == labels


@pytest.mark.parametrize("damage", [truncate, flip, empty, garbage, remove])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_damaged_clip_costs_its_own_labels_and_stops_nothing(
    mode: str, damage: Damage, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    root = request.getfixturevalue("unfinished" if mode == "sync" else "unfinished_async")
    clip = min((root / "clips").iterdir())
    damage(clip)
    labels = stored_labels(root)
    done = prefrl("resume", root)
    assert done.code == 0, done.err
    learner = capfd.readouterr().err  # where it has a process of its own
    said = [line for line in (done.err + learner).splitlines() if "left out" in line]
    assert len(set(said)) == len(said) >= 1
    assert all(clip.name in line for line in said)
    assert stored_labels(root)[: len(labels)] == labels
    assert label_counts(root) == (LABELS, LABELS)


@pytest.mark.parametrize("damage", [truncate, flip, remove])
def test_damaged_weights(damage: Damage, finished: Path, unfinished: Path) -> None:
    damage(unfinished / "reward_model" / "weights.safetensors")
    with pytest.raises(PrefrlError, match=r"weights|no learned reward"):
        package.load_reward(unfinished)
    assert prefrl("resume", unfinished).code == 0  # they can be made again from the checkpoint
    assert package.load_reward(unfinished)
    assert_equal_runs(finished, unfinished)


@pytest.mark.parametrize("name", ["reward_model/weights.safetensors", "checkpoints/learner.safetensors"])
@pytest.mark.parametrize("damage", [truncate])
def test_what_the_learner_wrote_is_damaged(damage: Damage, name: str, unfinished_async: Path) -> None:
    root = unfinished_async
    labels = stored_labels(root)
    damage(root / name)
    done = prefrl("resume", root)
    assert stored_labels(root)[: len(labels)] == labels
    assert done.code == 0, done.err  # labels and clips are intact: the learner can fit again
    assert label_counts(root) == (LABELS, LABELS)


@pytest.mark.parametrize("damage", [truncate, garbage, remove])
def test_damaged_progress_does_not_matter(damage: Damage, finished: Path, unfinished: Path) -> None:
    damage(unfinished / "progress.json")
    done = prefrl("status", unfinished)
    assert done.code == 0, done.err
    assert "prefrl resume" in done.out
    assert prefrl("resume", unfinished).code == 0
    assert_equal_runs(finished, unfinished)


def test_damaged_progress_of_an_asynchronous_run_does_not_matter(unfinished_async: Path) -> None:
    root = unfinished_async
    empty(root / "progress.json")
    done = prefrl("resume", root)
    assert done.code == 0, done.err
    assert label_counts(root) == (LABELS, LABELS)


@pytest.mark.parametrize("damage", [truncate, empty, garbage])
def test_damaged_metrics_do_not_stop_a_run(damage: Damage, unfinished: Path) -> None:
    damage(unfinished / "metrics.csv")
    done = prefrl("resume", unfinished)
    assert done.code == 0, done.err
    assert label_counts(unfinished) == (LABELS, LABELS)


def other_json(path: Path) -> None:
    path.write_text('{"true_return_mean": "much"}')


@pytest.mark.parametrize("damage", [truncate, garbage, other_json])
def test_a_damaged_summary_is_reported_and_written_again(damage: Damage, finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    path = root / "summary.json"
    before = json.loads(path.read_text())
    damage(path)
    assert f"its summary.json is damaged; `prefrl resume {root}` rewrites it" in prefrl("status", root).out
    assert prefrl("resume", root).code == 0
    after = json.loads(path.read_text())
    clock = {"wall_seconds", "steps_per_second", "peak_rss_mb"}
    assert {name: after[name] for name in after.keys() - clock} == {
        name: before[name] for name in before.keys() - clock
    }


# -- looking at a run -----------------------------------------------------------------------------------------------


def test_play_with_numbers_that_cannot_be(finished: Path) -> None:
    assert "--episodes" in refused(prefrl("play", finished, "--episodes", "0"), 2)
    assert "--seed" in refused(prefrl("play", finished, "--seed", "-1"), 2)


def test_loading_what_is_not_there(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run"):
        package.load_policy(tmp_path)
    with pytest.raises(UsageError, match="not a run"):
        package.load_reward(tmp_path / "nothing")
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    shutil.rmtree(root / "checkpoints")
    with pytest.raises(PrefrlError, match="no policy yet"):
        package.load_policy(root)
