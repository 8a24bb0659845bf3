"""What a user can get wrong, and what can go wrong under a run: one clear line, and nothing stored is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from runs import (
    LABELS,
    SETTINGS,
    assert_equal_runs,
    checkpoints,
    content,
    error_line,
    label_counts,
    live,
    prefrl,
    refused,
    spawned,
    stored_labels,
    tiny,
)

import prefrl as package
from prefrl.errors import PrefrlError, UsageError

Damage = Callable[[Path], None]


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "kind", "near"),
    [
        (["hoper"], "task", "hopper"),
        (["cheeta"], "task", "cheetah"),
        (["double_pendulum"], "task", "double-pendulum"),
        (["zzzz"], "task", "reacher"),
        (["prefrl/Hoper-v0"], "task", "prefrl/Hopper-v0"),
        (["Pendulm-v1"], "task", "endulum"),
        (["reacher", "--teacher", "orcale"], "teacher", "oracle"),
        (["reacher", "--teacher", "nobody-known"], "teacher", "none"),
        (["reacher", "--ablation", "random-query"], "ablation", "random-queries"),
        (["reacher", "--ablation", "no-ensembles"], "ablation", "no-ensemble"),
        (["reacher", "--recipe", "papper"], "recipe", "paper"),
        (["reacher", "--algo", "pppo"], "algo", "ppo"),
        (["reacher", "--algo", "sac"], "algo", "a2c"),
    ],
)
def test_an_unknown_name_offers_the_nearest(flags: list[str], kind: str, near: str, tmp_path: Path) -> None:
    line = refused(prefrl("train", *flags, "--out", tmp_path / "run"), 2)
    assert f"unknown {kind}" in line
    assert near in line.partition(";")[2]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("agent.n_step=4", "agent.n_step"),
        ("nonsense=4", "nonsense"),
        ("agent=4", "agent"),
        ("agent.n_steps", "KEY=VALUE"),
        ("agent.n_steps=many", "agent.n_steps"),
        ("agent.n_steps=2.5", "agent.n_steps"),
        ("agent.n_steps=true", "agent.n_steps"),
        ("agent.n_steps=null", "agent.n_steps"),
        ("agent.activation=gelu", "tanh, relu"),
        ("queries.selection=best", "variance, random"),
        ("reward.loss=mse", "bradley-terry"),
        ('reward.hidden="wide"', "reward.hidden"),
        ("reward.hidden=[64,0]", "reward.hidden"),
        ("teacher=nobody", "teacher"),
    ],
)
def test_a_setting_that_cannot_be(setting: str, told: str, tmp_path: Path) -> None:
    budget = ("--steps", "600", "--labels", "2", "--mode", "sync")
    assert told in refused(prefrl("train", "reacher", "--out", tmp_path / "run", *budget, "--set", setting), 2)
    assert not (tmp_path / "run").exists()


# -- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--steps", "0"], "--steps"),
        (["--steps", "-5"], "--steps"),
        (["--labels", "0"], "labels"),
        (["--labels", "-1"], "labels"),
        (["--seed", "-1"], "--seed"),
        (["--seed", "4294967296"], "--seed"),
        (["--set", "agent.n_envs=0"], "agent.n_envs"),
        (["--set", "agent.n_steps=-1"], "agent.n_steps"),
        (["--set", "agent.batch_size=0"], "agent.batch_size"),
        (["--set", "agent.batch_size=1"], "agent.batch_size"),
        (["--set", "agent.n_envs=1", "agent.n_steps=1"], "agent.n_steps"),
        (["--set", "agent.n_epochs=0"], "agent.n_epochs"),
        (["--set", "agent.learning_rate=0"], "agent.learning_rate"),
        (["--set", "agent.learning_rate=-1e-3"], "agent.learning_rate"),
        (["--set", "agent.learning_rate=NaN"], "agent.learning_rate"),
        (["--set", "agent.learning_rate=1e999"], "agent.learning_rate"),
        (["--set", "agent.gamma=1.5"], "agent.gamma"),
        (["--set", "agent.gamma=0"], "agent.gamma"),
        (["--set", "agent.gae_lambda=-0.1"], "gae_lambda"),
        (["--set", "agent.clip_range=0"], "agent.clip_range"),
        (["--set", "agent.clip_range=-0.2"], "agent.clip_range"),
        (["--set", "agent.max_grad_norm=-1"], "agent.max_grad_norm"),
        (["--set", "agent.net_arch=[0]"], "agent.net_arch"),
        (["--set", "reward.members=0"], "reward.members"),
        (["--set", "reward.members=-3"], "reward.members"),
        (["--set", "reward.batch_size=0"], "reward.batch_size"),
        (["--set", "reward.buffer=15"], "reward.buffer"),
        (["--set", "reward.buffer=3000", "reward.batch_size=3001"], "reward.buffer"),
        (["--set", "reward.pretrain_comparisons=0"], "reward.pretrain_comparisons"),
        (["--set", "reward.error=1"], "reward.error"),
        (["--set", "reward.error=-0.1"], "reward.error"),
        (["--set", "reward.learning_rate=0"], "reward.learning_rate"),
        (["--set", "reward.target_std=0"], "reward.target_std"),
        (["--set", "reward.comparisons_per_step=-1"], "reward.comparisons_per_step"),
        (["--set", "reward.l2=-1"], "reward.l2"),
        (["--set", "reward.validation_low=2"], "reward.validation_low"),
        (["--set", "queries.segment_length=0"], "queries.segment_length"),
        (["--set", "queries.segment_length=-15"], "queries.segment_length"),
        (["--set", "queries.candidate_factor=0"], "queries.candidate_factor"),
        (["--set", "queries.initial_fraction=0"], "queries.initial_fraction"),
        (["--set", "queries.initial_fraction=1.1"], "queries.initial_fraction"),
        (["--set", "queries.schedule_constant=0"], "queries.schedule_constant"),
        (["--set", "queries.schedule_constant=-1.0"], "queries.schedule_constant"),
        (["--set", "queries.schedule_bins=-1"], "queries.schedule_bins"),
        (["--set", "queries.pool=1"], "queries.pool"),
        (["--set", "round_steps=0"], "round_steps"),
        (["--set", "checkpoint_seconds=-1"], "checkpoint_seconds"),
    ],
)
def test_an_impossible_number(flags: list[str], told: str, tmp_path: Path) -> None:
    budget = [] if {"--steps", "--labels"} & {*flags} else ["--steps", "600", "--labels", "2", "--mode", "sync"]
    assert told in refused(prefrl("train", "reacher", "--out", tmp_path / "run", *budget, *flags), 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", [["--steps", "many"], ["--labels", "1.5"], ["--mode", "both"], ["--device", "tpu"]])
def test_a_flag_of_the_wrong_type(flags: list[str], tmp_path: Path) -> None:
    done = prefrl("train", "reacher", "--out", tmp_path / "run", *flags)
    assert done.code == 2
    assert flags[0] in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "run").exists()


def test_more_labels_than_distinct_pairs(tmp_path: Path) -> None:
    # 8 environments x 75 steps: one episode of 50 (3 clips of 15) and a rest of 25 (1 clip): 32 segments, 496 pairs.
    flags = ("--out", tmp_path / "run", "--steps", "600", "--labels")
    assert "496 distinct pairs" in refused(prefrl("train", "reacher", *flags, "497"), 2)
    assert not (tmp_path / "run").exists()
    few = ("--set", "agent.n_steps=64", "reward.pretrain_comparisons=64")
    assert prefrl("train", "reacher", *flags, "20", "--mode", "sync", *few).code == 0


def test_a_clip_longer_than_an_episode(tmp_path: Path) -> None:
    flags = ("--steps", "600", "--labels", "2", "--out", tmp_path / "run", "--set", "queries.segment_length=51")
    line = refused(prefrl("train", "reacher", *flags), 2)
    assert "51" in line
    assert "50 steps" in line
    assert not (tmp_path / "run").exists()


# -- the output folder ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished synchronous run; not to be changed."""
    root = tmp_path_factory.mktemp("finished") / "run"
    done = prefrl(*tiny("reacher", root, "--mode", "sync"))
    assert done.code == 0, done.err
    return root


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synchronous run that was stopped half-way, with two checkpoints; not to be changed."""
    return stopped(tmp_path_factory.mktemp("halfway") / "run", "sync")


@pytest.fixture(scope="module")
def halfway_async(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An asynchronous one."""
    return stopped(tmp_path_factory.mktemp("halfway") / "run", "async")


@pytest.fixture
def unfinished(halfway: Path, tmp_path: Path) -> Path:
    """A copy of the synchronous run."""
    return Path(shutil.copytree(halfway, tmp_path / "unfinished"))


@pytest.fixture
def unfinished_async(halfway_async: Path, tmp_path: Path) -> Path:
    """A copy of the asynchronous run."""
    return Path(shutil.copytree(halfway_async, tmp_path / "unfinished"))


def stopped(root: Path, mode: str) -> Path:
    from prefrl.api import resume
    from prefrl.callback import Control
    from prefrl.recipes import resolve
    from prefrl.run import RunDirectory

    chosen = {name: json.loads(value) for name, value in (pair.split("=") for pair in SETTINGS)}
    chosen |= {"steps": 6000, "queries.labels": LABELS, "mode": mode, "checkpoint_seconds": 0.0}
    RunDirectory.create(root, resolve("reacher", settings=chosen))
    control = Control()

    def report(progress: dict[str, object]) -> None:
        control.stop = int(str(progress["step"])) >= 3000

    control.report = report
    assert resume(root, control=control).summary is None
    assert len(checkpoints(root)) == 2
    return root


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


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 0x10
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


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


@pytest.mark.parametrize(("name", "value"), [("steps", "many"), ("steps", -1), ("algo", "sac"), ("novelty", 1)])
def test_a_config_with_a_bad_value(name: str, value: object, unfinished: Path) -> None:
    path = unfinished / "config.json"
    data = json.loads(path.read_text())
    data["config"][name] = value
    path.write_text(json.dumps(data))
    line = refused(prefrl("resume", unfinished), 1)
    assert "config.json is damaged" in line
    assert name in line


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
    """Whichever page it is, a run that goes on has every label that it had, and otherwise says what is damaged."""
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
def test_a_damaged_clip(damage: Damage, unfinished: Path) -> None:
    clip = min((unfinished / "clips").iterdir())
    damage(clip)
    labels = stored_labels(unfinished)
    done = prefrl("resume", unfinished)
    assert done.code == 1
    assert clip.name in error_line(done)
    assert stored_labels(unfinished) == labels


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
    done = spawned("resume", root)
    assert stored_labels(root)[: len(labels)] == labels
    assert done.code == 0, done.err  # labels and clips are whole: the learner can fit anew
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
    done = spawned("resume", root)
    assert done.code == 0, done.err
    assert label_counts(root) == (LABELS, LABELS)


@pytest.mark.parametrize("damage", [truncate, empty, garbage])
def test_damaged_metrics_do_not_stop_a_run(damage: Damage, unfinished: Path) -> None:
    damage(unfinished / "metrics.csv")
    done = prefrl("resume", unfinished)
    assert done.code == 0, done.err
    assert label_counts(unfinished) == (LABELS, LABELS)


@pytest.mark.parametrize("command", ["resume", "status"])
@pytest.mark.parametrize("damage", [truncate, garbage])
def test_a_damaged_summary(damage: Damage, command: str, finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    damage(root / "summary.json")
    assert "summary.json is damaged" in refused(prefrl(command, root), 1)


# -- environments ---------------------------------------------------------------------------------------------------

ODD_ENVS = '''
import gymnasium
import numpy as np
from gymnasium import spaces


class Odd(gymnasium.Env):
    """Gives a value that is not finite at a step, once that many steps were taken."""

    action_space = spaces.Box(-1, 1, (1,))
    observation_space = spaces.Box(-np.inf, np.inf, (2,))

    def __init__(self, where="reward", value=np.nan, after=200):
        self.where, self.value, self.after, self.steps = where, value, after, 0

    def observation(self):
        seen = self.np_random.normal(size=2).astype(np.float32)
        if self.where == "observation" and self.steps == self.after:
            seen[1] = self.value
        return seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation(), {}

    def step(self, action):
        self.steps += 1
        reward = self.value if self.where == "reward" and self.steps == self.after else float(action[0])
        return self.observation(), reward, False, False, {}


class Short(Odd):
    """Ends after five steps, and does not say so beforehand."""

    def __init__(self):
        super().__init__("nowhere")

    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, self.steps % 5 == 0, truncated, info


class Broken(Odd):
    def __init__(self):
        raise gymnasium.error.DependencyNotInstalled("it needs a licence server")


def spaced(observation, action):
    class Spaced(Odd):
        def __init__(self):
            super().__init__("nowhere")
            self.observation_space, self.action_space = observation, action

    return Spaced


BOX = spaces.Box(-1, 1, (2,))
for where in ("reward", "observation"):
    for name, value in (("NaN", np.nan), ("Inf", np.inf), ("MinusInf", -np.inf)):
        for when, after in (("First", 3), ("Early", 30), ("Late", 400)):
            keywords = {"where": where, "value": value, "after": after}
            gymnasium.register(f"{name}{where.title()}{when}-v0", Odd, max_episode_steps=50, kwargs=keywords)
gymnasium.register("NaNObservationReset-v0", Odd, 50, kwargs={"where": "observation", "after": 0})
gymnasium.register("Short-v0", Short)
gymnasium.register("Ten-v0", Short, max_episode_steps=10)
gymnasium.register("Broken-v0", Broken)
gymnasium.register("Image-v0", spaced(spaces.Box(0, 1, (64, 64, 3), np.float32), BOX), max_episode_steps=50)
gymnasium.register("Small-v0", spaced(spaces.Box(0, 255, (32, 64, 3), np.uint8), BOX), max_episode_steps=50)
gymnasium.register("DictObservation-v0", spaced(spaces.Dict(a=BOX), BOX), max_episode_steps=50)
gymnasium.register("TupleAction-v0", spaced(BOX, spaces.Tuple((BOX, BOX))), max_episode_steps=50)
gymnasium.register("MultiBinaryAction-v0", spaced(BOX, spaces.MultiBinary(3)), max_episode_steps=50)
gymnasium.register("FromOne-v0", spaced(BOX, spaces.Discrete(3, start=1)), max_episode_steps=50)
'''


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of environments on the path, of this process and of those that it starts."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "oddenvs.py").write_text(ODD_ENVS)
    (folder / "stumbles.py").write_text("raise RuntimeError('a bug at import')\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))


SMALL = ("--set", "agent.n_envs=2", "agent.n_steps=64", "round_steps=128", "checkpoint_seconds=0.0")
SMALLER = (*SMALL, "reward.pretrain_comparisons=64", "queries.segment_length=10")


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("when", ["First", "Early", "Late"])
@pytest.mark.parametrize("where", ["Reward", "Observation"])
@pytest.mark.parametrize("value", ["NaN", "Inf", "MinusInf"])
def test_a_value_from_the_environment_that_is_not_finite(value: str, where: str, when: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    flags = ("--steps", "1500", "--labels", "10", "--mode", "sync", "--out", root, *SMALLER)
    done = prefrl("train", f"oddenvs:{value}{where}{when}-v0", *flags)
    assert done.code == 1
    line = error_line(done)
    assert "environment" in line
    assert ("nan" if value == "NaN" else "inf") in line
    if when == "Late":  # well after the first labels: they are there, and so is a checkpoint from before
        assert len(stored_labels(root)) >= 2
        assert checkpoints(root)
        assert b"nan" not in b"".join(path.read_bytes() for path in (root / "metrics.csv",))
    assert "prefrl resume" in prefrl("status", root).out


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("teacher", ["oracle", "none"])
def test_a_first_observation_that_is_not_finite(teacher: str, tmp_path: Path) -> None:
    flags = ("--teacher", teacher, "--steps", "600", "--labels", "2", "--mode", "sync", "--out", tmp_path / "run")
    done = prefrl("train", "oddenvs:NaNObservationReset-v0", *flags, *SMALLER)
    assert done.code == 1
    assert "environment" in error_line(done)


@pytest.mark.usefixtures("odd")
def test_a_value_that_is_not_finite_in_an_asynchronous_run(tmp_path: Path) -> None:
    root = tmp_path / "run"
    flags = ("--steps", "1500", "--labels", "10", "--mode", "async", "--out", root, *SMALLER)
    done = spawned("train", "oddenvs:NaNRewardLate-v0", *flags)
    assert done.code == 1
    assert "nan" in error_line(done)
    assert stored_labels(root)


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("FrozenLake-v1", "Discrete"),
        ("Blackjack-v1", "Tuple"),
        ("oddenvs:Image-v0", "images"),
        ("oddenvs:Small-v0", "too small"),
        ("oddenvs:DictObservation-v0", "Dict"),
        ("oddenvs:TupleAction-v0", "Tuple"),
        ("oddenvs:MultiBinaryAction-v0", "MultiBinary"),
        ("oddenvs:FromOne-v0", "start"),
        ("oddenvs:Broken-v0", "licence server"),
        ("oddenvs:Nonsense-v0", "Nonsense-v0"),
        ("nowhere:Nonsense-v0", "nowhere"),
        ("stumbles:Nonsense-v0", "a bug at import"),
    ],
)
def test_an_unsuitable_environment_is_refused_with_the_reason(task: str, reason: str, tmp_path: Path) -> None:
    assert reason in refused(prefrl("train", task, "--out", tmp_path / "run"), 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("odd")
def test_a_clip_longer_than_any_episode_there_was(tmp_path: Path) -> None:
    flags = ("--steps", "600", "--labels", "2", "--mode", "sync", "--out", tmp_path / "run", *SMALL)
    done = prefrl("train", "oddenvs:Short-v0", *flags, "queries.segment_length=6")
    assert done.code in {1, 2}
    assert "queries.segment_length" in error_line(done)


@pytest.mark.usefixtures("odd")
def test_a_clip_longer_than_a_time_limit(tmp_path: Path) -> None:
    flags = ("--steps", "600", "--labels", "2", "--out", tmp_path / "run", "--set", "queries.segment_length=11")
    assert "10 steps" in refused(prefrl("train", "oddenvs:Ten-v0", *flags), 2)


# -- devices --------------------------------------------------------------------------------------------------------


def test_a_gpu_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    root = tmp_path / "run"
    assert "GPU" in refused(prefrl(*tiny("reacher", root, "--device", "cuda", "--mode", "sync")), 2)
    # The same command without the GPU must not meet a half-made run.
    assert prefrl(*tiny("reacher", root, "--device", "cpu", "--mode", "sync")).code == 0


# -- a full disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill a file system but for so many bytes, while others write on it; the file to remove."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (state := os.statvfs(disk)).f_bavail * state.f_frsize > leave:
            file.write(b"x" * min(1 << 16, max(1, state.f_bavail * state.f_frsize - leave)))
    return filler


@pytest.mark.parametrize(
    ("mode", "leave"),
    [
        pytest.param("sync", 400_000, id="checkpoint-sync"),
        pytest.param("async", 0, id="everything-async"),
        pytest.param("sync", 0, id="everything-sync", marks=pytest.mark.slow),
        pytest.param("async", 400_000, id="checkpoint-async", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_loses_nothing(mode: str, leave: int, small_disk: Path, finished: Path, tmp_path: Path) -> None:
    root = small_disk / "run"
    settings = ("checkpoint_seconds=0.0",) if leave else ()
    with live(tmp_path / "log", *tiny("reacher", root, "--mode", mode, settings=settings)) as command:
        command.until_step(root, 1500)
        filler = fill(small_disk, leave)
        code = command.wait()
        err = command.err
    if code == 0:
        pytest.fail(f"the run was over before the disk was full; {err}")
    assert code == 1
    assert "Traceback" not in err
    assert "disk is full" in err
    assert f"prefrl resume {root}" in err
    before = stored_labels(tmp_copy(root, tmp_path))
    assert len(before) >= LABELS // 4
    filler.unlink()
    done = spawned("resume", root)
    assert done.code == 0, done.err
    assert stored_labels(root)[: len(before)] == before
    assert label_counts(root) == (LABELS, LABELS)
    if mode == "sync":
        assert_equal_runs(finished, root)


def tmp_copy(root: Path, tmp_path: Path) -> Path:
    """The run on a disk with room, for SQLite to open."""
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    return copy


def test_resuming_while_the_disk_is_full_says_so(small_disk: Path, halfway: Path) -> None:
    root = small_disk / "run"
    shutil.copytree(halfway, root)
    labels = stored_labels(root)
    filler = fill(small_disk, 0)
    done = prefrl("resume", root)
    assert done.code == 1
    assert "disk is full" in error_line(done)
    filler.unlink()
    assert prefrl("resume", root).code == 0
    assert stored_labels(root)[: len(labels)] == labels


def test_training_on_a_full_disk_is_refused(small_disk: Path) -> None:
    fill(small_disk, 0)
    done = prefrl(*tiny("reacher", small_disk / "run", "--mode", "sync"))
    assert done.code in {1, 2}
    line = error_line(done)
    assert "No space left" in line or "disk is full" in line


@pytest.mark.parametrize("command", ["resume", "status", "play"])
def test_a_run_on_a_read_only_disk(command: str, small_disk: Path, halfway: Path) -> None:
    root = small_disk / "run"
    shutil.copytree(halfway, root)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = prefrl(command, root)
    if command == "resume":
        assert done.code in {1, 2}
        error_line(done)
    else:  # looking at a run changes nothing of it
        assert done.code == 0, done.err


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
