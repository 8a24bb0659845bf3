"""Recording: the agent's experience as it really was, whole arrays at a time (paper, sections 2.2 and 2.2.4)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prefrl.arrays import Array, Floats
from prefrl.encoder import encode
from prefrl.experience.action_spaces import as_numbers
from prefrl.experience.episodes import EpisodeSums
from prefrl.experience.scenes import Scenes
from prefrl.experience.segment import Segment
from prefrl.storage.files import Tree

_Steps = tuple[Array, Array, Floats]
"""Observations, actions and true rewards of as many steps."""


@dataclass(frozen=True, eq=False)
class Experience:
    """What was recorded of a rollout, step by step."""

    observations: Array
    """(T, E, *observation), as the environments gave them, before any normalisation."""
    actions: Array
    """(T, E, *action), as the environments got them; one-hot where discrete."""
    rewards: Floats
    """(T, E) the task's own: for metrics and simulated teachers."""
    dones: Array
    """(T, E) whether an episode ended with the step."""
    terminated: Array
    """(T, E) whether it ended by itself, and not at a time limit."""
    features: Array
    """(T, E, *step), what the reward model reads."""


class SegmentRecorder(VecEnvWrapper):
    """Records raw observations, actions as the environment got them and true rewards; the agent gets zero reward.

    It sits under any normalisation. What it records goes two ways: whole rollouts to be scored by the reward model, and
    segments of L steps into the pool that queries are drawn from. Segments lie back to back from an episode's start;
    where an episode terminated, rather than reached a time limit, its last L steps are one too, since what ended it is
    what a teacher has most to say about.
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
    ) -> None:
        """Wrap a vector environment.

        Args:
            venv: The environments.
            length: L, steps of a segment.
            pool: The newest segments that are kept.
            stack: How many of the newest frames an observation is a stack of.
            hide_endings: Whether an episode's end is to look like a time limit to the agent.
            scenes: Takes what it needs to show segments to people; None where nobody will look.
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
        boxed = isinstance(venv.action_space, spaces.Box)
        action = venv.action_space.shape if boxed else (spaces.flatdim(venv.action_space),)
        assert action is not None
        self._length, self._stack = length, stack
        self._nothing = (
            np.zeros((0, *space.shape), space.dtype),
            np.zeros((0, *action), np.float32),
            np.zeros(0, np.float32),
        )
        self._open: list[_Steps] = [self._nothing] * self.num_envs
        """Each environment's steps since its last cut, a segment that has only begun, behind the newest L before it."""
        self._kept = [0] * self.num_envs
        """How many of these are in a segment already, of the same episode."""
        self._rollout: list[tuple[Array, Array, Array, Array, Array]] = []

    def reset(self) -> VecEnvObs:
        """Reset every environment; segments that had begun are dropped, and so is a rollout that was not taken."""
        self._open, self._kept = [self._nothing] * self.num_envs, [0] * self.num_envs
        self._rollout.clear()
        self.episodes.reset()
        self._last = np.asarray(self.venv.reset())
        if self._scenes:
            self._scenes.reset()
        return self._last

    def step_async(self, actions: Array) -> None:
        """Note the actions and pass them on."""
        if self._scenes:
            self._scenes.before_step()
        self._taken = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Record the step; the reward that comes back is a fresh array of zeros (Stable-Baselines3 writes into it)."""
        observations, rewards, dones, infos = self.venv.step_wait()
        terminated = dones & ~np.array([info.get("TimeLimit.truncated", False) for info in infos])
        self._rollout.append((self._last, self._taken, rewards, dones, terminated))
        # A game's end is in the infos alone: the agent is not told.
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
        """T, steps of the rollout so far."""
        return len(self._rollout)

    def look(self, start: int) -> Array:
        """The features of the rollout's steps from `start` on; all of them stay to be taken."""
        observations, actions = (np.stack(arrays) for arrays in list(zip(*self._rollout[start:], strict=True))[:2])
        return encode(observations, as_numbers(self._actions, actions), axes=2)

    def take(self) -> Experience:
        """Hand over the steps since the last call."""
        observations, actions, rewards, dones, terminated = (
            np.stack(arrays) for arrays in zip(*self._rollout, strict=True)
        )
        self._rollout.clear()
        actions = as_numbers(self._actions, actions)
        features = encode(observations, actions, axes=2)
        return Experience(observations, actions, rewards.astype(np.float32), dones, terminated, features)

    def _unstacked(self, observations: Array) -> Array:
        """A segment's frames, each once: the first observation's whole stack, then the newest frame of each other."""
        if self._stack == 1:
            return observations.copy()
        return np.concatenate([observations[0, :-1], observations[:, -1]])

    def cut(self, experience: Experience) -> None:
        """Cut segments into the pool, in the order of time; each environment's rest waits for the next rollout."""
        rollout, dones = (experience.observations, experience.actions, experience.rewards), experience.dones
        cuts, scenes = [], self._scenes
        for env, begun in enumerate(self._open):
            before, first, start = len(begun[0]), 0, self._kept[env]
            steps = [np.concatenate([old, new[:, env]]) for old, new in zip(begun, rollout, strict=True)]
            episodes = (np.flatnonzero(dones[:, env]) + before + 1).tolist()
            for end in [*episodes, before + len(dones)]:
                while start + self._length <= end:
                    scene = scenes.take(env) if scenes else None
                    cuts.append((start - before, env, self._arrays(steps, start), scene))
                    start += self._length
                if end not in episodes:
                    continue
                last = end - self._length
                if first <= last < start < end and experience.terminated[end - before - 1, env]:
                    scene = scenes.take_last(env, steps[1][start - self._length : last]) if scenes else None
                    cuts.append((last - before, env, self._arrays(steps, last), scene))
                elif scenes and start < end:
                    scenes.drop(env)
                first = start = end
            rest = max(first, start - self._length)
            observations, actions, rewards = (array[rest:].copy() for array in steps)
            self._open[env], self._kept[env] = (observations, actions, rewards), start - rest
        for _, _, arrays, scene in sorted(cuts, key=lambda cut: cut[:2]):
            self.pool.append(Segment(self.recorded, *arrays, stack=self._stack, scene=scene))
            self.recorded += 1

    def _arrays(self, steps: Sequence[Array], start: int) -> _Steps:
        """A segment's own frames, actions and rewards."""
        seen, taken, rewarded = (array[start : start + self._length] for array in steps)
        return self._unstacked(seen), taken.copy(), rewarded.copy()

    def state_dict(self) -> Tree:
        """The pool and the segments that have begun; to be taken between two rollouts."""
        return {
            "recorded": self.recorded,
            "last": self._last,
            "open": {str(env): dict(zip("oar", arrays, strict=True)) for env, arrays in enumerate(self._open)},
            "kept": list(self._kept),
            "pool": {
                str(segment.id): {"o": segment.frames, "a": segment.actions, "r": segment.true_rewards}
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
        if "episodes" in state:  # not in checkpoints of older versions
            self.episodes.load_state_dict(state["episodes"])
        begun = (state["open"][str(env)] for env in range(self.num_envs))
        self._open = [(arrays["o"], arrays["a"], arrays["r"]) for arrays in begun]
        self._kept = list(state.get("kept", [0] * self.num_envs))  # older versions kept nothing of what was cut
        self.pool.clear()
        for key in sorted(state["pool"], key=int):
            arrays = state["pool"][key]
            values = (arrays["o"], arrays["a"], arrays["r"])
            self.pool.append(Segment(int(key), *values, self._stack, arrays.get("scene")))
        if self._scenes:
            self._scenes.load_state_dict(state["scenes"])
        self._rollout.clear()
