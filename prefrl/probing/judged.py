"""Play a policy, and judge it by the task and by a reward model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from prefrl.agents.distributions import divergence
from prefrl.agents.reference import Reference
from prefrl.agents.state_statistics import knn_divergence, state_features
from prefrl.arrays import Array, Floats
from prefrl.config import RunConfig, replace
from prefrl.experience.environments import make_stack
from prefrl.experience.evaluation import undisturbed
from prefrl.experience.recorder import Experience
from prefrl.experience.segment import Segment
from prefrl.probing.results import Outcome
from prefrl.reward.ensemble import RewardEnsemble

_LONGEST = 1000
"""Maximum number of steps of an episode."""
_STATES = 1000
"""Number of states that are compared with those of the reference, at most."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What a policy does in some episodes."""

    predicted: Floats
    """(E,) sum of the predicted rewards of each episode."""
    true: Floats
    """(E,) true return of each episode."""
    kl: float
    """Mean divergence from the reference per step, in nats."""
    occupancy: float | None
    """Divergence of the states from those of the reference, in nats."""
    segments: tuple[Segment, ...]
    """The clips that the episodes consist of, with what is needed to show them if that was asked for."""


def judge(
    policy: Reference,
    reference: Reference,
    ensemble: RewardEnsemble,
    config: RunConfig,
    *,
    episodes: int,
    seed: int,
    shown: bool,
) -> Judged:
    """Play whole episodes of a policy, with sampled actions, and judge them.

    Args:
        policy: The policy.
        reference: The policy that it is compared with.
        ensemble: The reward model.
        config: The run whose environments are used.
        episodes: E, played at once.
        seed: Seed of the environments and of the actions.
        shown: Whether the clips can be shown. It takes time, and the environments that run in a native engine cannot.

    Raises:
        UsageError: if the environments cannot be created.
    """
    experience, segments = _played(policy, config, episodes, seed, shown=shown)
    seen = experience.observations.reshape(-1, *experience.observations.shape[2:])
    features = experience.features.reshape(-1, *experience.features.shape[2:])
    predicted = ensemble.score(np.ascontiguousarray(features)).reshape(experience.rewards.shape)
    counted = first_episodes(experience.dones)
    with torch.no_grad():
        apart = divergence(policy.distribution(seen), reference.distribution(seen)).cpu().numpy()
    visited = seen[counted.ravel()]
    visited = visited[:: max(1, len(visited) // _STATES)]
    return Judged(
        (predicted * counted).sum(axis=0),
        (experience.rewards * counted).sum(axis=0),
        float(apart[counted.ravel()].mean()),
        knn_divergence(state_features(visited), reference.states),
        segments,
    )


def first_episodes(dones: Array) -> Array:
    """Return which steps belong to the first episode of their environment: (T, E) of (T, E) ends."""
    ended = np.cumsum(dones, axis=0) - dones
    return np.asarray(ended == 0)


def outcome(agent: str, beta: float | None, seed: int | None, judged: Judged) -> Outcome:
    """Summarise the episodes of a policy."""
    return Outcome(
        agent,
        beta,
        seed,
        judged.kl,
        predicted_return=float(judged.predicted.mean()),
        predicted_return_std=float(judged.predicted.std()),
        true_return=float(judged.true.mean()),
        true_return_std=float(judged.true.std()),
        occupancy_divergence=judged.occupancy,
    )


def _played(
    policy: Reference, config: RunConfig, episodes: int, seed: int, *, shown: bool
) -> tuple[Experience, tuple[Segment, ...]]:
    steps = min(config.horizon or _LONGEST, config.evaluation.max_steps, _LONGEST)
    pool = episodes * (steps // config.queries.segment_length + 1) * 2
    settings = {"agent.n_envs": episodes, "queries.pool": pool, "native_engine": config.native_engine and not shown}
    with undisturbed(seed):
        stack = make_stack(replace(config, settings), shown=shown)
        recorder = stack.recorder
        assert recorder is not None
        try:
            recorder.seed(seed)
            observations = np.asarray(recorder.reset())
            for _ in range(steps):
                observations = np.asarray(recorder.step(policy.act(observations))[0])
            experience = recorder.take()
            recorder.cut(experience)
        finally:
            stack.top.close()
    return experience, tuple(recorder.pool)
