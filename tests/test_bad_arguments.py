"""Invalid arguments and settings: one clear line, exit status 2, and no files created."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from runs import (
    prefrl,
    refused,
)

from prefrl.commands.arguments import gathered

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
        (["reacher", "--algo", "a3c"], "algo", "a2c"),
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
        ("queries.selection=best", "variance, entropy, random"),
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
        (["--set", "agent.gamma=-0.1"], "agent.gamma"),
        (["--set", "agent.gae_lambda=-0.1"], "gae_lambda"),
        (["--set", "agent.clip_range=0"], "agent.clip_range"),
        (["--set", "agent.clip_range=-0.2"], "agent.clip_range"),
        (["--set", "agent.target_kl=0"], "agent.target_kl"),
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


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("train a --seed 1", "train a --seed 1"),
        ("train a --set x=1 y=2 --seed 1 --set z=3", "train a --set x=1 y=2 z=3 --seed 1"),
        (
            "train a --set x=1 --env-kwargs p=1 --set y=2 --env-kwargs q=2 -v",
            "train a --set x=1 y=2 --env-kwargs p=1 q=2 -v",
        ),
        ("train --set=x=1 --set=y=a=b a", "train --set x=1 y=a=b a"),
        ("train --seed 1 --seed 2", "train --seed 1 --seed 2"),
        ("--set x=1 --set --set y=2", "--set x=1 y=2"),
        ("", ""),
    ],
)
def test_an_option_for_several_values_can_be_repeated(given: str, read: str) -> None:
    assert gathered(given.split()) == read.split()


def test_every_setting_counts_of_a_repeated_option(tmp_path: Path) -> None:
    done = prefrl("train", "reacher", "--out", tmp_path / "run", "--set", "reward.members=0", "--set", "round_steps=64")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "reward.members" in done.err
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


# -- what the parser cannot take ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "a command is missing"),
        (["labels"], "report, finish, export, import"),
        (["trian"], "did you mean train?"),
        (["labels", "reprot", "x"], "did you mean report?"),
        (["bench", "spead"], "did you mean speed?"),
        (["train"], "TASK is missing"),
        (["bench", "run"], "SUITE and --out are missing"),
        (["train", "cheetah", "hopper"], "hopper"),
        (["train", "cheetah", "--lables", "5"], "did you mean --labels?"),
        (["train", "cheetah", "--labels"], "--labels needs a value"),
        (["train", "cheetah", "--labels", "many"], "--labels: 'many' is not a whole number"),
        (["train", "cheetah", "--seed", "1.5"], "--seed: '1.5' is not a whole number"),
        (["train", "cheetah", "--mode", "asink"], "async, sync"),
        (["reward", "fit", "x", "--holdout", "half"], "--holdout: 'half' is not a number"),
        (["bench", "growth", "--labels", "a"], "--labels: 'a' cannot be read"),
    ],
)
def test_arguments_that_the_parser_cannot_take(arguments: list[str], told: str) -> None:
    line = refused(prefrl(*arguments), 2)
    assert told in line
    assert "--help" in line


def test_a_parser_without_that_hook_keeps_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefrl.commands.cli import _run

    monkeypatch.setitem(sys.modules, "tyro._errors", types.ModuleType("tyro._errors"))
    with pytest.raises(SystemExit, match="2"):
        _run(["train"])
