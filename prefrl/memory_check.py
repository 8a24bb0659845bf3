"""Estimate a run's memory from the sizes of its arrays, and refuse a run that does not fit, before it starts."""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_action_dim

from prefrl.agents.image_policy import IMAGE_NETWORKS
from prefrl.config import RunConfig
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import LARGEST_CLIP, LARGEST_FRAMES, too_large_clip
from prefrl.experience.environments import recorded_step
from prefrl.experience.frames import make_render_env, render
from prefrl.experience.inputs import feature_inputs, inputs_of
from prefrl.experience.make_env import run_env
from prefrl.feedback.kinds import kinds_of
from prefrl.registry import ALGORITHMS
from prefrl.reward.image_networks import StackedCNN

_BASE = 600 * 2**20
"""Bytes for the libraries, the agent's process and the learner's process."""
_FLOAT = 4
_KEPT_ACTIVATIONS = 4
"""Copies of a convolution's output during a gradient step: the output, normalised, rectified, and its gradient."""


def memory_use(config: RunConfig) -> dict[str, int]:
    """Estimate the memory of the large parts of a run.

    Returns:
        Bytes by part; the name of a part includes the settings that reduce it.

    Raises:
        UsageError: if the environment cannot be made.
    """
    env = run_env(config)
    space = env.observation_transform.target
    env.close()
    agent, queries, reward = config.agent, config.queries, config.reward
    step = math.prod(space.shape) * space.dtype.itemsize
    rollout = agent.n_envs * agent.n_steps
    replays = ALGORITHMS[config.algo].family.replays
    drawn = agent.batch_size if replays else min(agent.batch_size, rollout)
    replayed = {"the replay memory (off_policy.memory)": replay_memory(config, space, env.action_space)}
    needs = (replayed if replays else {}) | {
        "a rollout (agent.n_steps, agent.n_envs)": 3 * rollout * step,
        "minibatches of the policy (agent.batch_size)": drawn * _policy_step(config, space),
    }
    if config.learns_reward:
        recorded = recorded_step(config)
        shapes = config, recorded.observation, math.prod(recorded.action)
        inputs, kept = inputs_of(*shapes), feature_inputs(*shapes)
        segment = math.prod(inputs.segment(queries.segment_length)) * inputs.dtype.itemsize
        pool = math.prod(kept.segment(queries.segment_length)) * inputs.dtype.itemsize
        labels, arity = min(queries.labels, reward.buffer), max(kind.arity for kind in kinds_of(config).values())
        steps = reward.batch_size * arity * queries.segment_length * reward.members
        pool += 0 if reward.pseudo_threshold is None else segment
        steps *= 1 if reward.pseudo_threshold is None else 1 + reward.pseudo_ratio
        needs |= {
            "clips to choose from (queries.pool, queries.segment_length)": queries.pool * pool,
            f"{labels} labels (--labels, reward.buffer)": arity * labels * segment,
            "gradient steps of the reward model (reward.batch_size, reward.members)": steps * _reward_step(inputs.step),
        }
    return needs


def replay_memory(config: RunConfig, observations: spaces.Box, actions: spaces.Space[Any]) -> int:
    """Return the bytes of an off-policy agent's replay memory: two observations, an action and three numbers a step."""
    number = min(observations.dtype.itemsize, _FLOAT)  # vectors are stored in single precision
    step = 2 * math.prod(observations.shape) * number + _FLOAT * (get_action_dim(actions) + 3)
    return config.memory_steps * step


def check_memory(config: RunConfig) -> None:
    """Refuse a run that needs more memory than is free on this machine.

    Raises:
        UsageError: if it does not fit; the message names the settings that reduce its memory.
    """
    needs, left = memory_use(config), available()
    total = _BASE + sum(needs.values())
    if total <= left:
        return
    largest = sorted(needs.items(), key=lambda item: -item[1])[:2]
    parts = ", ".join(f"{_size(bytes_)} for {what}" for what, bytes_ in largest)
    raise UsageError(
        f"{config.task} needs {_size(total)} of memory, but only {_size(left)} is free: {parts}; lower these, or make "
        "observations smaller with gymnasium.wrappers.ResizeObservation"
    )


def check_clips(config: RunConfig) -> None:
    """Refuse a run whose clips would exceed the size limits for reading.

    Raises:
        UsageError: if they would; the message names the settings that reduce their size.
    """
    if not config.takes_labels:
        return
    length = config.queries.segment_length
    segment = recorded_step(config).nbytes(length, config.frame_stack)
    if segment > LARGEST_CLIP:
        raise UsageError(
            f"a clip of {length} steps of {config.task} has {_size(segment)}, and the limit is {_size(LARGEST_CLIP)}: "
            "lower queries.segment_length, or make observations smaller"
        )
    if config.asks_people and (size := _shown(config)) and math.prod(size) * 3 * length > LARGEST_FRAMES:
        raise UsageError(f"{config.task}: {too_large_clip(size, length)}")


def _shown(config: RunConfig) -> tuple[int, int] | None:
    """Return (height, width) of rendered frames, or None if rendering fails; the renderer reports why."""
    with _quiet_destructors():
        return _picture_size(config)


@contextmanager
def _quiet_destructors() -> Iterator[None]:
    """Silence the exception that a viewer raises in its destructor if it could not be created."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = before


def _picture_size(config: RunConfig) -> tuple[int, int] | None:
    try:
        env = make_render_env(config.env_id, config.env_kwargs)
    except PrefrlError:
        return None
    try:
        env.reset(seed=0)
        height, width, _ = render(env).shape
    except PrefrlError:
        return None
    finally:
        env.close()
    return height, width


def available() -> int:
    """Return the free memory in bytes, as limited by the machine and the process's control group."""
    left = int(psutil.virtual_memory().available)
    for limit, used in _CONTROL_GROUPS:
        try:
            left = min(left, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no such group or no limit
            continue
    return left


_CONTROL_GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def _policy_step(config: RunConfig, space: spaces.Box) -> int:
    """Return the bytes per observation in a gradient step of the policy: the observation and the activations."""
    numbers = math.prod(space.shape)
    if not config.images:
        return _FLOAT * (numbers + 8 * sum(config.agent.net_arch))
    _, height, width = sorted(space.shape)
    kernels, _ = IMAGE_NETWORKS[config.agent.image_network]
    outputs = _convolved(height, width, [(size, stride, filters) for filters, size, stride in kernels])
    return _FLOAT * (2 * numbers + 2 * outputs)


def _reward_step(step: tuple[int, ...]) -> int:
    """Return the bytes per step of a segment in a gradient step of the reward model."""
    if len(step) == 1:
        return 3 * _FLOAT * step[0]
    _, height, width = step
    layers = [(size, stride, filters) for filters, size, stride in StackedCNN.LAYERS]  # small-cnn needs less
    return _FLOAT * (2 * math.prod(step) + _KEPT_ACTIVATIONS * _convolved(height, width, layers))


def _convolved(height: int, width: int, layers: list[tuple[int, int, int]]) -> int:
    """Return the total number of outputs of convolutions, given as (size, stride, filters)."""
    total = 0
    for size, stride, filters in layers:
        height, width = (max(1, (pixels - size) // stride + 1) for pixels in (height, width))
        total += filters * height * width
    return total


def _size(bytes_: int) -> str:
    return f"{bytes_ / 2**30:.1f} GB" if bytes_ >= 2**29 else f"{bytes_ / 2**20:.0f} MB"
