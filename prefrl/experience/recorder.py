"""Record the agent's experience and cut it into segments (paper, sections 2.2 and 2.2.4)."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prefrl.arrays import Array, Floats
from prefrl.encoder import encode
from prefrl.experience.action_spaces import as_numbers, numbers_shape
from prefrl.experience.episodes import EpisodeSums
from prefrl.experience.scenes import Scenes
from prefrl.experience.segment import Segment, unstacked
from prefrl.storage.files import Tree


class _Steps(NamedTuple):
    """Consecutive steps of an environment; the arrays are as in `Segment`, with each observation whole."""

    observations: Array
    actions: Array
    rewards: Array
    terminated: Array
    truncated: Array


@dataclass(frozen=True, eq=False)
class Experience:
    """The recorded steps of a rollout."""

    observations: Array
    """(T, E, *observation): raw observations, before normalisation."""
    actions: Array
    """(T, E, *action): actions as passed to the environments; discrete ones are one-hot."""
    rewards: Floats
    """(T, E): the task's own rewards, for metrics and simulated teachers."""
    dones: Array
    """(T, E): whether an episode ended with the step."""
    terminated: Array
    """(T, E): whether it ended by termination rather than at a time limit."""
    features: Array
    """(T, E, *step): the reward model's input."""

    @property
    def truncated(self) -> Array:
        """(T, E): whether an episode ended at a time limit."""
        return self.dones & ~self.terminated


class SegmentRecorder(VecEnvWrapper):
    """Records raw observations, actions and true rewards, and replaces the agent's reward by zero.

    The recorder is inside any normalisation. The reward model scores the recorded rollouts. `cut` divides them into
    segments of L steps for the pool of queries. Segments are consecutive, starting at the start of an episode. If an
    episode terminated before its time limit, its last L steps are also a segment, because the cause of termination
    is informative for a teacher.
    """

    def __init__(
        self,
        venv: VecEnv,
        length: int,
        pool: int,
        *,
        stack: int = 1,
        hide_endings: bool = False,
        scenes: Scenes | None = None,
        reads_actions: bool = False,
    ) -> None:
        """Wrap a vector environment.

        Args:
            venv: The environments.
            length: L, the number of steps of a segment.
            pool: Number of newest segments to keep.
            stack: Number of stacked frames in an observation.
            hide_endings: Whether to report the end of every episode to the agent as a time limit.
            scenes: Records what is needed to render segments; None if no person labels.
            reads_actions: Whether the features of images contain the action.
        """
        super().__init__(venv)
        self._scenes = scenes
        self.pool: deque[Segment] = deque(maxlen=pool)
        self.recorded = 0
        self.episodes = EpisodeSums(self.num_envs)
        self._hide_endings = hide_endings
        space = venv.observation_space
        assert isinstance(space, spaces.Box)
        self._actions = venv.action_space
        self._length, self._stack, self._reads_actions = length, stack, reads_actions
        self._nothing = _Steps(
            np.zeros((0, *space.shape), space.dtype),
            np.zeros((0, *numbers_shape(venv.action_space)), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, bool),
            np.zeros(0, bool),
        )
        self._open: list[_Steps] = [self._nothing] * self.num_envs
        """For each environment, its steps since the last cut, preceded by up to L steps that were cut already."""
        self._kept = [0] * self.num_envs
        """For each environment, the number of these steps that were cut already, all of the same episode."""
        self._recorded_steps = 0
        """Steps of each environment that were cut."""
        self._episodes = np.arange(self.num_envs)
        """For each environment, the number of the episode of its first open step."""
        self._before = np.zeros(self.num_envs, np.int64)
        """For each environment, the steps of this episode before its first open step."""
        self._rollout: list[tuple[Array, Array, Array, Array, Array]] = []

    @property
    def largest_state(self) -> int:
        """Bytes that the pool and the segments that have begun can have."""
        step = sum(math.prod(part.shape[1:]) * part.itemsize for part in self._nothing)
        scene = self._scenes.largest if self._scenes else 0
        assert self.pool.maxlen is not None
        return (self.pool.maxlen + 2 * self.num_envs) * ((self._length + self._stack) * step + scene)

    def reset(self) -> VecEnvObs:
        """Reset all environments. Unfinished segments and the current rollout are discarded."""
        self._open, self._kept = [self._nothing] * self.num_envs, [0] * self.num_envs
        self._begin_episodes()
        self._rollout.clear()
        self.episodes.reset()
        self._last = np.asarray(self.venv.reset())
        if self._scenes:
            self._scenes.reset()
        return self._last

    def _begin_episodes(self) -> None:
        """Number the episodes that begin with the next step."""
        self._episodes = self._recorded_steps * self.num_envs + np.arange(self.num_envs)
        self._before[:] = 0

    def step_async(self, actions: Array) -> None:
        """Record the actions and pass them on."""
        if self._scenes:
            self._scenes.before_step()
        self._taken = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Record the step. The returned rewards are a new array of zeros, because Stable-Baselines3 writes into it."""
        observations, rewards, dones, infos = self.venv.step_wait()
        terminated = dones & ~np.array([info.get("TimeLimit.truncated", False) for info in infos])
        self._rollout.append((self._last, self._taken, rewards, dones, terminated))
        # The end of an Atari game is only in the infos, because it is hidden from the agent.
        self.episodes.step(rewards, [bool(done) or "episode" in info for done, info in zip(dones, infos, strict=True)])
        if self._scenes:
            self._scenes.after_step(dones)
        if self._hide_endings:
            for env in np.flatnonzero(dones):
                infos[env]["TimeLimit.truncated"] = True
        self._last = np.asarray(observations)
        return observations, np.zeros_like(rewards), dones, infos

    @property
    def rolled(self) -> int:
        """T, the number of steps of the current rollout so far."""
        return len(self._rollout)

    def look(self, start: int) -> Array:
        """Return the features of the current rollout from step `start`, without removing them."""
        observations, actions = (np.stack(arrays) for arrays in list(zip(*self._rollout[start:], strict=True))[:2])
        return encode(observations, as_numbers(self._actions, actions), axes=2, reads_actions=self._reads_actions)

    def take(self) -> Experience:
        """Return the steps since the last call, and start a new rollout."""
        observations, actions, rewards, dones, terminated = (
            np.stack(arrays) for arrays in zip(*self._rollout, strict=True)
        )
        self._rollout.clear()
        actions = as_numbers(self._actions, actions)
        features = encode(observations, actions, axes=2, reads_actions=self._reads_actions)
        return Experience(observations, actions, rewards.astype(np.float32), dones, terminated, features)

    def cut(self, experience: Experience) -> None:
        """Cut a rollout into segments and add them to the pool, ordered by their first step.

        Steps that do not fill a segment are kept for the next rollout.
        """
        dones, ends = experience.dones, (experience.terminated, experience.truncated)
        rollout = _Steps(experience.observations, experience.actions, experience.rewards, *ends)
        cuts, scenes = [], self._scenes
        for env, begun in enumerate(self._open):
            before, first, start = len(begun.rewards), 0, self._kept[env]
            episode, offset = int(self._episodes[env]), int(self._before[env])
            steps = _Steps(*(np.concatenate([old, new[:, env]]) for old, new in zip(begun, rollout, strict=True)))
            episodes = (np.flatnonzero(dones[:, env]) + before + 1).tolist()
            for end in [*episodes, before + len(dones)]:
                while start + self._length <= end:
                    scene = scenes.take(env) if scenes else None
                    place = episode, start - first + offset
                    cuts.append((start - before, env, self._arrays(steps, start), scene, place))
                    start += self._length
                if end not in episodes:
                    continue
                last = end - self._length
                if first <= last < start < end and experience.terminated[end - before - 1, env]:
                    scene = scenes.take_last(env, steps.actions[start - self._length : last]) if scenes else None
                    place = episode, last - first + offset
                    cuts.append((last - before, env, self._arrays(steps, last), scene, place))
                elif scenes and start < end:
                    scenes.drop(env)
                first = start = end
                episode, offset = (self._recorded_steps + end - before) * self.num_envs + env, 0
            rest = max(first, start - self._length)
            self._open[env], self._kept[env] = _Steps(*(array[rest:].copy() for array in steps)), start - rest
            self._episodes[env], self._before[env] = episode, rest - first + offset
        self._recorded_steps += len(dones)
        for _, _, arrays, scene, place in sorted(cuts, key=lambda cut: cut[:2]):
            self.pool.append(Segment(self.recorded, *arrays, self._stack, scene, *place))
            self.recorded += 1

    def _arrays(self, steps: _Steps, start: int) -> _Steps:
        """Copy the frames, actions, rewards and ends of a segment."""
        seen, *others = (array[start : start + self._length] for array in steps)
        return _Steps(unstacked(seen, self._stack), *(array.copy() for array in others))

    def state_dict(self) -> Tree:
        """Return the pool and the unfinished segments. Call this between rollouts only."""
        return {
            "recorded": self.recorded,
            "last": self._last,
            "open": {str(env): _saved(*arrays) for env, arrays in enumerate(self._open)},
            "kept": list(self._kept),
            "steps": self._recorded_steps,
            "begun": np.stack([self._episodes, self._before]),
            "pool": {
                str(segment.id): _saved(
                    segment.frames, segment.actions, segment.true_rewards, segment.terminated, segment.truncated
                )
                | {"place": [segment.episode, segment.start]}
                | ({"scene": segment.scene} if segment.scene else {})
                for segment in self.pool
            },
            "scenes": self._scenes.state_dict() if self._scenes else {},
            "episodes": self.episodes.state_dict(),
        }

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self.recorded = state["recorded"]
        self._last = state["last"]
        if "episodes" in state:  # missing in checkpoints of older versions
            self.episodes.load_state_dict(state["episodes"])
        self._open = [_loaded(state["open"][str(env)]) for env in range(self.num_envs)]
        self._kept = list(state.get("kept", [0] * self.num_envs))  # older versions kept no steps that were cut
        self._recorded_steps = state.get("steps", 0)  # older versions numbered no episodes
        self._episodes, self._before = state["begun"].copy() if "begun" in state else np.zeros((2, self.num_envs), int)
        self.pool.clear()
        for key in sorted(state["pool"], key=int):
            arrays = state["pool"][key]
            place = arrays.get("place", (0, 0))
            self.pool.append(Segment(int(key), *_loaded(arrays), self._stack, arrays.get("scene"), *place))
        if self._scenes:
            self._scenes.load_state_dict(state["scenes"])
        self._rollout.clear()


def _saved(observations: Array, actions: Array, rewards: Array, terminated: Array, truncated: Array) -> Tree:
    return {"o": observations, "a": actions, "r": rewards, "e": np.stack([terminated, truncated], axis=1)}


def _loaded(arrays: Tree) -> _Steps:
    """Steps from `_saved`. Checkpoints of older versions have no ends: they are read as False."""
    rewards = arrays["r"]
    ends = arrays.get("e", np.zeros((len(rewards), 2))).astype(bool)
    return _Steps(arrays["o"], arrays["a"], rewards, ends[:, 0], ends[:, 1])
