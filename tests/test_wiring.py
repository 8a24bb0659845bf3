"""Settings reach the parts of a run: each value is recomputed from the recorded data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from runs import prefrl, summary, tiny

from prefrl import assembly
from prefrl.agents.predicted_reward import PredictedReward
from prefrl.agents.reward_terms import AgentReward
from prefrl.experience.environments import make_stack
from prefrl.experience.episodes import Episodes
from prefrl.experience.recorder import SegmentRecorder
from prefrl.recipes import resolve
from prefrl.runs.metrics import read_metrics

GAMMA, ENTROPY = 0.5, 0.2
DEAR = ("agent.normalise_reward=false",)
"""A run in which the reward that the agent gets is what the model predicts, and the entropy bonus."""


class Seen(NamedTuple):
    """What the parts of a run handed each other, whole rollouts at a time, once rollouts are scored."""

    log_probs: np.ndarray[Any, Any]
    predicted: np.ndarray[Any, Any]
    paid: np.ndarray[Any, Any]
    true: np.ndarray[Any, Any]
    dones: np.ndarray[Any, Any]
    unscored: int
    """Rollouts before the first that was scored."""
    usual: Episodes | None
    """What the teacher is told of the newest episodes when the run has ended."""
    summary: dict[str, Any]

    def returns(self) -> list[float]:
        """Of the episodes in the order in which they ended: all eight environments' end together, after fifty steps."""
        steps = self.true.reshape(-1, 8)
        assert np.flatnonzero(self.dones.reshape(-1, 8)[:, 0]).tolist() == list(range(49, len(steps), 50))
        whole = range(len(steps) // 50)
        return [float(steps[50 * n : 50 * (n + 1), env].sum()) for n, env in itertools.product(whole, range(8))]


def watched(root: Path, algo: str, *settings: str) -> Seen:
    """Train a little, and keep what passes between recorder, reward model and agent."""
    calls: dict[str, list[Any]] = {"rollouts": [], "scores": [], "paid": [], "episodes": []}
    patch = pytest.MonkeyPatch()
    take, pay = SegmentRecorder.take, AgentReward.__call__
    teacher = assembly.make_teacher

    def kept(name: str, value: Any) -> Any:
        calls[name].append(value)
        return value

    patch.setattr(SegmentRecorder, "take", lambda self: kept("rollouts", take(self)))

    def paid_for(self: AgentReward, experience: Any, logs: Any) -> Any:
        before = len(self.source._pairs)
        rewards = kept("paid", (logs.copy(), pay(self, experience, logs)))[1]
        calls["scores"] += [predicted.copy() for predicted, _ in self.source._pairs[before:]]
        return rewards

    def make(name: str, seed: int, episodes: Any, *more: Any, **named: Any) -> Any:
        return teacher(name, seed, kept("episodes", episodes), *more, **named)

    patch.setattr(AgentReward, "__call__", paid_for)
    patch.setattr(assembly, "make_teacher", make)
    try:
        flags = ("--mode", "sync", "--algo", algo)
        done = prefrl(*tiny("reacher", root, *flags, settings=(f"agent.gamma={GAMMA}", *settings), steps=6000))
        assert done.code == 0, done.err
        usual = calls["episodes"][0]()
    finally:
        patch.undo()
    before = len(calls["rollouts"]) - len(calls["scores"])
    logs, paid = (np.stack(each) for each in zip(*calls["paid"], strict=True))
    true, dones = (np.stack([getattr(each, name) for each in calls["rollouts"]]) for name in ("rewards", "dones"))
    return Seen(logs, np.stack(calls["scores"]), paid, true, dones, before, usual, summary(root))


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return watched(tmp_path_factory.mktemp("wiring") / "run", "ppo", "agent.ent_coef=0.2")


@pytest.fixture(scope="module")
def trpo(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return watched(tmp_path_factory.mktemp("wiring") / "run", "trpo", f"agent.ent_coef={ENTROPY}", *DEAR)


def discounted_sums(rewards: Any, dones: Any, gamma: float) -> Iterator[float]:
    """Of rewards and ends of (rollouts, T, E), in no order: each step's sum of what an episode has paid so far."""
    for env in range(rewards.shape[2]):
        total = 0.0
        for reward, done in zip(rewards[..., env].ravel(), dones[..., env].ravel(), strict=True):
            total = total * gamma + reward
            yield total
            total = 0.0 if done else total


def test_the_agent_is_paid_what_is_predicted_over_the_deviation_of_its_discounted_sums(ppo: Seen) -> None:
    assert len(ppo.paid) >= 3
    for count in range(1, len(ppo.paid) + 1):
        dones = ppo.dones[ppo.unscored : ppo.unscored + count]
        sums = np.fromiter(discounted_sums(ppo.predicted[:count], dones, GAMMA), float)
        expected = ppo.predicted[count - 1] / sums.std()
        np.testing.assert_allclose(ppo.paid[count - 1], expected, rtol=2e-3, atol=1e-4)
        other = np.fromiter(discounted_sums(ppo.predicted[:count], dones, 0.99), float)
        assert other.std() > 1.1 * sums.std()  # another discount would show


def test_an_algorithm_without_a_bonus_of_its_own_is_paid_for_entropy(trpo: Seen) -> None:
    np.testing.assert_allclose(trpo.paid, trpo.predicted - ENTROPY * trpo.log_probs, rtol=1e-4, atol=1e-5)
    assert np.abs(trpo.log_probs).min() > 0


def test_a_bonus_that_is_in_the_objective_is_not_paid_twice(tmp_path: Path) -> None:
    seen = watched(tmp_path / "run", "ppo", f"agent.ent_coef={ENTROPY}", *DEAR)
    np.testing.assert_array_equal(seen.paid, seen.predicted)


def test_thresholds_are_relative_to_the_last_ten_episodes(ppo: Seen) -> None:
    """Eight environments whose episodes end together: the last ten are eight of one time, and two of the one before."""
    assert ppo.usual is not None
    returns = ppo.returns()
    assert ppo.usual.mean_return == pytest.approx(np.mean(returns[-10:]), rel=1e-4)
    assert ppo.usual.mean_length == 50
    assert abs(np.mean(returns[-10:]) - np.mean(returns)) > 1e-3 * abs(np.mean(returns))


def test_the_true_return_is_that_of_the_last_hundred_training_episodes(ppo: Seen) -> None:
    returns = ppo.returns()
    assert len(returns) > 110
    assert ppo.summary["true_return_mean"] == pytest.approx(np.mean(returns[-100:]), rel=1e-4)
    assert ppo.summary["true_return_std"] == pytest.approx(np.std(returns[-100:]), rel=1e-3)


def test_metrics_are_of_predicted_against_true_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = np.array([1.0, 2.0, 3.0, 6.0]), np.array([2.0, 1.0, 4.0, 3.0])
    monkeypatch.setattr(PredictedReward, "take", lambda self: rewards)
    assert prefrl(*tiny("reacher", tmp_path / "run", "--mode", "sync", steps=2500)).code == 0
    for row in read_metrics(tmp_path / "run/metrics.csv"):
        # deviations -2, -1, 0, 3 and -0.5, -1.5, 1.5, 0.5: 4 / sqrt(14 * 5)
        assert row["reward_correlation"] == pytest.approx(4 / 70**0.5, rel=1e-6)
        assert row["predicted_reward_mean"] == 3.0
        assert row["predicted_reward_std"] == pytest.approx(3.5**0.5, rel=1e-6)


# -- the agent's own normalisation ------------------------------------------------------------------------------------


def stepped(steps: int = 60, **settings: Any) -> tuple[Any, list[Any], list[Any]]:
    """A stack for the true reward after some steps of one action, what it gave, and what its environments gave."""
    chosen = {"agent.n_envs": 2, "steps": 1000} | {f"agent.{name}": value for name, value in settings.items()}
    stack = make_stack(resolve("reacher", teacher="none", settings=chosen))
    below: list[Any] = []
    inner = stack.monitor.step_wait

    def step_wait() -> Any:
        below.append(inner())
        return below[-1]

    stack.monitor.step_wait = step_wait  # type: ignore[method-assign]
    first = stack.top.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 2, 2)).astype(np.float32)
    given = [stack.top.step(action) for action in actions]
    return stack, [first, *(step[0] for step in given)], [given, below]


def test_observations_are_normalised_if_configured() -> None:
    stack, given, (_, below) = stepped(normalise_observations=True)
    raw = np.concatenate([observations for observations, *_ in below])
    expected = (below[-1][0] - raw.mean(axis=0)) / raw.std(axis=0)
    np.testing.assert_allclose(given[-1], expected, atol=0.15)
    assert np.abs(given[-1] - below[-1][0]).max() > 0.5
    stack.top.close()


def test_observations_are_left_alone_where_it_does_not() -> None:
    stack, given, (_, below) = stepped(normalise_observations=False, normalise_reward=True)
    for observations, raw in zip(given[1:], below, strict=True):
        np.testing.assert_array_equal(observations, raw[0])
    stack.top.close()


def test_there_is_no_normaliser_where_nothing_is_normalised() -> None:
    stack, _, (steps, below) = stepped(normalise_observations=False, normalise_reward=False)
    assert stack.normaliser is None
    for (observations, rewards, *_), (raw, paid, *_) in zip(steps, below, strict=True):
        np.testing.assert_array_equal(observations, raw)
        np.testing.assert_array_equal(rewards, paid)
    stack.top.close()


@pytest.mark.parametrize("gamma", [0.3, 0.9])
def test_true_rewards_are_divided_by_the_deviation_of_sums_with_the_agent_s_discount(gamma: float) -> None:
    stack, _, (steps, below) = stepped(49, normalise_observations=False, normalise_reward=True, gamma=gamma)
    paid = np.stack([rewards for _, rewards, *_ in below])[None]
    sums = np.fromiter(discounted_sums(paid, np.zeros(paid.shape, bool), gamma), float)
    np.testing.assert_allclose(steps[-1][1], paid[0, -1] / sums.std(), rtol=2e-3)
    stack.top.close()
