"""What a run takes from another: a reference policy, and a frozen reward model. It keeps copies of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import figures, policy, prefrl, refused, summary, truncate

from prefrl import load_reward, resume
from prefrl.agents.predicted_reward import PredictedReward
from prefrl.agents.state_statistics import state_features
from prefrl.api import create_run
from prefrl.config.request import Request, parse_settings
from prefrl.recipes import resolve
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import read_metrics
from prefrl.storage.files import load_tree
from prefrl.trained.borrowing import borrow_reference

SMALL = ("agent.n_steps=64", "round_steps=512", "evaluation.episodes=1", "checkpoint_seconds=0", "agent.n_envs=4")


def borrowing(root: Path, *flags: str | Path, steps: int = 1536, settings: tuple[str, ...] = ()) -> list[str | Path]:
    """`prefrl train` of a run on the true reward, unless flags say otherwise."""
    return [
        "train",
        "reacher",
        "--out",
        root,
        "--steps",
        str(steps),
        "--mode",
        "sync",
        *flags,
        "--set",
        *SMALL,
        *settings,
    ]


def trained(root: Path, *flags: str | Path, **more: object) -> Path:
    done = prefrl(*borrowing(root, *flags, **more))  # type: ignore[arg-type]
    assert done.code == 0, done.err
    return root


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--kl", "0.1"], "need --reference RUN"),
        (["--kl", "0"], "need --reference RUN"),
        (["--kl-target", "0.1"], "need --reference RUN"),
        (["--kl", "0.1", "--kl-target", "0.1", "--reference", "RUN"], "leave one of them out"),
        (["--kl", "-0.1", "--reference", "RUN"], "--kl must not be negative"),
        (["--kl-target", "-0.1", "--reference", "RUN"], "--kl-target must be positive"),
        (["--kl-target", "0", "--reference", "RUN"], "--kl-target must be positive"),
        (["--kl", "much", "--reference", "RUN"], "is not a number"),
        (["--kl", "1", "--reference", "OTHER"], "is a run of cheetah, and a run of reacher needs one of its own task"),
        (["--kl", "1", "--reference", "NOTHING"], "is not a run"),
        (["--kl", "1", "--reference", "EMPTY"], "has no policy yet"),
        (["--kl", "1", "--reference", "RUN", "--algo", "tqc"], "--kl needs --algo ppo, a2c, trpo, sac"),
        (["--kl", "1", "--reference", "VALUES"], "dqn has no distribution of actions"),
        (["--reward", "RUN", "--teacher", "human"], "trains without labels"),
        (["--reward", "RUN", "--labels", "9"], "trains without labels"),
        (["--reward", "TRUE"], "learns from no labels: it has learned no reward model"),
        (["--reward", "EMPTY"], "there is no learned reward"),
        (["--reward", "OTHER"], "is a run of cheetah"),
    ],
)
def test_what_cannot_be_borrowed_is_refused_in_one_line(
    flags: list[str], told: str, finished: Path, tmp_path: Path
) -> None:
    def empty(name: str, task: str = "reacher", **settings: str) -> None:
        RunDirectory.create(tmp_path / name, resolve(task, **settings))  # type: ignore[arg-type]

    empty("EMPTY")
    empty("OTHER", "cheetah")
    empty("VALUES", "CartPole-v1", algo="dqn")
    empty("TRUE", teacher="none")
    named = {"RUN": finished} | {name: tmp_path / name for name in ("EMPTY", "OTHER", "VALUES", "TRUE", "NOTHING")}
    words = [named.get(word, word) for word in flags]
    line = refused(
        prefrl("train", "reacher", "--out", tmp_path / "run", "--steps", "2000", *words),
        1 if told in ("has no policy yet", "there is no learned reward") else 2,
    )
    assert told in line
    assert not (tmp_path / "run").exists()


def test_a_reference_is_a_copy_that_visits_states_of_its_own(finished: Path, tmp_path: Path) -> None:
    source = shutil.copytree(finished, tmp_path / "source")
    root = trained(tmp_path / "run", "--teacher", "none", "--kl", "0.5", "--reference", source)
    kept = load_tree(root / "reference" / "policy.safetensors")
    assert {name: array.tobytes() for name, array in kept["policy"].items()} == {
        name: array.tobytes() for name, array in policy(finished).items()
    }
    config = RunDirectory.open(finished).config
    reference = borrow_reference(finished, config)
    assert kept["states"].shape == (1000, 10)
    again = borrow_reference(finished, config)
    np.testing.assert_array_equal(reference.states, again.states)
    assert reference.entropy == again.entropy == pytest.approx(kept["entropy"], abs=0.5)
    assert not any(each.requires_grad for each in reference.network.parameters())
    state = torch.get_rng_state()
    borrow_reference(finished, config)
    assert torch.equal(state, torch.get_rng_state())
    shutil.rmtree(source)
    done = prefrl("resume", root, "--steps", "2048")
    assert done.code == 0, done.err
    shutil.rmtree(root / "reference")
    assert "has lost its reference policy" in refused(prefrl("resume", root, "--steps", "2560"), 1)


LIGHT_SAC = ("off_policy.random_steps=64", "agent.n_steps=8", "agent.net_arch=[16]", "agent.batch_size=32")


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_run_with_an_adaptive_penalty_resumes_exactly(algo: str, finished: Path, tmp_path: Path) -> None:
    settings = ("kl.horizon=500", *(LIGHT_SAC if algo == "sac" else ()))
    flags = ("--algo", algo, "--teacher", "none", "--kl-target", "0.2", "--reference", finished)
    whole = trained(tmp_path / "whole", *flags, settings=settings)
    stopped, control = tmp_path / "stopped", Control()
    own = parse_settings("set", [*SMALL, *settings])
    create_run(
        Request(
            "reacher",
            algo=algo,
            teacher="none",
            kl_target=0.2,
            reference=finished,
            steps=1536,
            mode="sync",
            out=stopped,
            settings=own,
        )
    )
    control.report = lambda progress: setattr(control, "stop", control.stop or progress.step >= 700)
    assert resume(stopped, control=control).summary is None
    assert resume(stopped).summary is not None
    assert figures(stopped) == figures(whole)
    rows = read_metrics(whole / "metrics.csv")
    assert len({row["kl_beta"] for row in rows}) == len(rows) > 2
    for name in ("policy_entropy", "state_entropy", "kl_to_reference", "kl_beta", "occupancy_divergence"):
        assert summary(whole)[name] == pytest.approx(rows[-1][name], rel=1e-6), name


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_frozen_reward_model_is_the_reward_and_never_changes(algo: str, finished: Path, tmp_path: Path) -> None:
    root = trained(tmp_path / "run", "--reward", finished, "--algo", algo)
    assert (root / "reward_model" / "weights.safetensors").exists()
    seen, taken = np.random.default_rng(0).normal(size=(5, 10)), np.zeros((5, 2))
    np.testing.assert_array_equal(load_reward(root)(seen, taken), load_reward(finished)(seen, taken))
    told, rows = summary(root), read_metrics(root / "metrics.csv")
    assert (told["teacher"], told["labels_answered"], told["learner"]) == ("none", 0, None)
    assert all(row["predicted_reward_std"] > 0 and -1 <= row["reward_correlation"] <= 1 for row in rows)
    assert not (root / "labels.sqlite").exists()
    config = RunDirectory.open(root).config
    assert config.reward.hidden == RunDirectory.open(finished).config.reward.hidden
    assert config.reward.normalise_over == "comparisons"


def test_the_reward_that_the_agent_gets_is_the_published_one(finished: Path, tmp_path: Path) -> None:
    """Without the scaling for the value function, the mean of a row is that of what `load_reward` predicts."""
    seen = []
    patch = pytest.MonkeyPatch()
    call = PredictedReward.__call__
    patch.setattr(
        PredictedReward,
        "__call__",
        lambda self, experience, logs: seen.append((experience, call(self, experience, logs))) or seen[-1][1],
    )
    try:
        trained(tmp_path / "run", "--reward", finished, steps=512)
    finally:
        patch.undo()
    experience, rewards = seen[0]
    expected = load_reward(finished)(experience.observations.reshape(-1, 10), experience.actions.reshape(-1, 2))
    np.testing.assert_allclose(rewards.ravel(), expected, rtol=1e-4, atol=1e-5)


def test_features_of_visited_states_are_the_observations() -> None:
    states = np.random.default_rng(0).normal(size=(4, 10))
    np.testing.assert_allclose(state_features(states), states, rtol=1e-6)


@pytest.mark.parametrize("name", ["config.json", "policy.safetensors"])
def test_a_damaged_reference_is_reported_in_one_line(name: str, finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    create_run(Request("reacher", teacher="none", kl=0.1, reference=finished, out=root))
    truncate(root / "reference" / name)
    assert "is damaged" in refused(prefrl("resume", root), 1)
    (root / "reference" / name).unlink()
    (root / "reference" / name).symlink_to(finished / "config.json")
    assert "symbolic link" in refused(prefrl("resume", root), 1)


QUICK = (
    "evaluation.episodes=0",
    "checkpoint_seconds=0",
    "round_steps=128",
    "agent.n_envs=2",
    "agent.n_steps=64",
)


@pytest.mark.parametrize(("task", "algo"), [("CartPole-v1", "ppo"), ("CartPole-v1", "trpo"), ("moving-dot", "a2c")])
def test_discrete_actions_and_images_have_a_penalty_too(task: str, algo: str, tmp_path: Path) -> None:
    budget = ("--steps", "256", "--teacher", "none", "--mode", "sync", "--algo", algo)
    batches = () if algo == "a2c" else ("agent.batch_size=64",)
    for name, flags in (("reference", ()), ("run", ("--kl", "5", "--reference", tmp_path / "reference"))):
        done = prefrl("train", task, "--out", tmp_path / name, *budget, *flags, "--set", *QUICK, *batches)
        assert done.code == 0, done.err
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    for row in rows:
        assert 0 < row["policy_entropy"] < 2  # nats, of two or five actions
        assert 0 < row["kl_to_reference"] < 5
        assert row["kl_beta"] == 5
        assert np.isfinite([row["state_entropy"], row["occupancy_divergence"]]).all()
