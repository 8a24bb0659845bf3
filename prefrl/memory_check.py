"""How much memory a run takes, told before it begins; an estimate from the sizes of what it keeps."""

from __future__ import annotations

import math
from pathlib import Path

import psutil
from gymnasium import spaces

from prefrl.agents.vision import NETWORKS
from prefrl.config import RunConfig
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import LARGEST_CLIP, LARGEST_FRAMES
from prefrl.experience.environments import reward_inputs
from prefrl.experience.frames import render, make_render_env
from prefrl.experience.make_env import run_env
from prefrl.rendering.clip_video import too_large_clip
from prefrl.reward.networks import StackedCNN

_BASE = 600 * 2**20
"""Bytes of the libraries, of the agent's process and of the learner's."""
_FLOAT = 4
_KEPT_ACTIVATIONS = 4
"""Copies of a convolution's output that a gradient step keeps: itself, normalised, rectified, and its gradient."""


def memory_use(config: RunConfig) -> dict[str, int]:
    """Bytes that the large parts of a run take, by what they are; each with the settings that make it smaller.

    Raises:
        UsageError: if the environment cannot be made.
    """
    env = run_env(config)
    space = env.observation_transform.target
    env.close()
    agent, queries, reward = config.agent, config.queries, config.reward
    step = math.prod(space.shape) * space.dtype.itemsize
    rollout = agent.n_envs * agent.n_steps
    needs = {
        "a rollout (agent.n_steps, agent.n_envs)": 3 * rollout * step,
        "minibatches of the policy (agent.batch_size)": min(agent.batch_size, rollout) * _policy_step(config, space),
    }
    if config.learns_reward:
        inputs = reward_inputs(config)
        segment = math.prod(inputs.segment(queries.segment_length)) * inputs.dtype.itemsize
        comparisons = min(queries.labels, reward.buffer)
        pairs = reward.batch_size * 2 * queries.segment_length * reward.members
        needs |= {
            "clips to choose from (queries.pool, queries.segment_length)": queries.pool * segment,
            f"{comparisons} comparisons (--labels, reward.buffer)": 2 * comparisons * segment,
            "gradient steps of the reward model (reward.batch_size, reward.members)": pairs * _reward_step(inputs.step),
        }
    return needs


def check_memory(config: RunConfig) -> None:
    """Refuse a run that needs more memory than this machine has left.

    Raises:
        UsageError: with what it would take, and what makes it less.
    """
    needs, left = memory_use(config), available()
    total = _BASE + sum(needs.values())
    if total <= left:
        return
    largest = sorted(needs.items(), key=lambda item: -item[1])[:2]
    parts = ", ".join(f"{_size(bytes_)} for {what}" for what, bytes_ in largest)
    raise UsageError(
        f"{config.task} would take {_size(total)} of memory, and {_size(left)} are free: {parts}; lower these, or make "
        "observations smaller with gymnasium.wrappers.ResizeObservation"
    )


def check_clips(config: RunConfig) -> None:
    """Refuse a run whose clips would be larger than what is read back.

    Raises:
        UsageError: with what makes them smaller.
    """
    if not config.learns_reward:
        return
    inputs, length = reward_inputs(config), config.queries.segment_length
    segment = math.prod(inputs.segment(length)) * inputs.dtype.itemsize
    if segment > LARGEST_CLIP:
        raise UsageError(
            f"a clip of {length} steps of {config.task} has {_size(segment)}, and the most is {_size(LARGEST_CLIP)}: "
            "lower queries.segment_length, or make observations smaller"
        )
    if config.asks_people and (size := _shown(config)) and math.prod(size) * 3 * length > LARGEST_FRAMES:
        raise UsageError(f"{config.task}: {too_large_clip(size, length)}")


def _shown(config: RunConfig) -> tuple[int, int] | None:
    """Height and width of the pictures that people see; None where none can be made, which the renderer tells."""
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
    """Bytes that a new process can have, as the machine and its control group say."""
    left = int(psutil.virtual_memory().available)
    for limit, used in _CONTROL_GROUPS:
        try:
            left = min(left, int(limit.read_text()) - int(used.read_text()))
        except (OSError, ValueError):  # no such group, or no limit
            continue
    return left


_CONTROL_GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def _policy_step(config: RunConfig, space: spaces.Box) -> int:
    """Bytes of an observation in a gradient step of the policy: as floats, and what the network makes of it."""
    numbers = math.prod(space.shape)
    if not config.images:
        return _FLOAT * (numbers + 8 * sum(config.agent.net_arch))
    _, height, width = sorted(space.shape)
    kernels, _ = NETWORKS[config.agent.image_network]
    outputs = _convolved(height, width, [(size, stride, filters) for filters, size, stride in kernels])
    return _FLOAT * (2 * numbers + 2 * outputs)


def _reward_step(step: tuple[int, ...]) -> int:
    """Bytes of a step in a gradient step of the reward model."""
    if len(step) == 1:
        return 3 * _FLOAT * step[0]
    _, height, width = step
    layers = [(size, stride, StackedCNN.FILTERS) for size, stride in StackedCNN.LAYERS]
    return _FLOAT * (2 * math.prod(step) + _KEPT_ACTIVATIONS * _convolved(height, width, layers))


def _convolved(height: int, width: int, layers: list[tuple[int, int, int]]) -> int:
    """Numbers that convolutions of (size, stride, filters) give, all layers together."""
    total = 0
    for size, stride, filters in layers:
        height, width = (max(1, (pixels - size) // stride + 1) for pixels in (height, width))
        total += filters * height * width
    return total


def _size(bytes_: int) -> str:
    return f"{bytes_ / 2**30:.1f} GB" if bytes_ >= 2**29 else f"{bytes_ / 2**20:.0f} MB"
