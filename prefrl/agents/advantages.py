"""The true advantage of each step over a run's reference policy, by which the teacher `advantage` judges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from prefrl.agents.reference import Reference, load_reference
from prefrl.arrays import Floats
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.environments import observed_space
from prefrl.experience.make_env import run_env
from prefrl.experience.segment import Segment
from prefrl.teachers import Setting

_REWARD_CLIP = 10.0
"""As of Stable-Baselines3's `VecNormalize`, by which the reference's rewards were scaled."""


def true_advantages(reference: Reference, segment: Segment) -> Floats:
    """Return r + gamma V(s') - V(s) for each step, with the value function V of the reference.

    This is the one-step estimate of the advantage (Schulman et al., 2016, lambda = 0).

    Args:
        reference: A policy with a value function of the task's reward.
        segment: L steps.

    Returns:
        (L,) in units of the reference's scaled reward. The last step is 0 unless the environment terminated the episode
        there, because the observation after it is not recorded.
    """
    assert reference.reward_scale is not None
    rewards = np.clip(segment.true_rewards / reference.reward_scale, -_REWARD_CLIP, _REWARD_CLIP)
    values = reference.values(segment.observations)
    following = np.append(values[1:], 0.0)
    found = rewards + reference.config.agent.gamma * following - values
    if not segment.terminated[-1]:
        found[-1] = 0.0
    return found.astype(np.float32)


def check_values(reference: Reference, named: str) -> None:
    """Check that a teacher can judge by a reference's values.

    Args:
        reference: The reference.
        named: Its run, as the user named it.

    Raises:
        UsageError: if it has no value function of the task's reward.
    """
    if reference.reward_scale is None:
        raise UsageError(
            f"--teacher advantage needs a value function of the task's own reward, which --reference {named} lacks: "
            "train one with --teacher none and an on-policy algorithm"
        )


def advantages_of(setting: Setting) -> Callable[[Segment], Floats]:
    """Return `true_advantages` by the reference of a teacher's run."""
    run = setting.run
    if run is None:
        raise UsageError("the teacher `advantage` answers in runs only")
    env = run_env(run.config)
    env.close()
    space = observed_space(run.config, env.observation_space)
    reference = load_reference(run, space, env.action_space, "cpu")
    if reference.reward_scale is None:
        raise PrefrlError(f"the reference policy of {run.root} has no value function of the task's reward")
    return partial(true_advantages, reference)
