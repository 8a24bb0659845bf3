"""Recording: the agent's experience as it really was, whole arrays at a time (paper, sections 2.2 and 2.2.4)."""

from __future__ import annotations

from collections import deque

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prefrl.files import Tree
from prefrl.types import Array, Floats, Segment


class SegmentRecorder(VecEnvWrapper):
    """Records raw observations, actions as the environment got them and true rewards; the agent gets zero reward.

    It sits under any normalisation. What it records goes two ways: whole rollouts to be scored by the reward model, and
    segments of L steps, back to back within an episode, into the pool that queries are drawn from.
    """

    def __init__(self, venv: VecEnv, length: int, pool: int, *, hide_endings: bool = False) -> None:
        """Wrap a vector environment.

        Args:
            venv: The environments.
            length: L, steps of a segment.
            pool: The newest segments that are kept.
            hide_endings: Whether an episode's end is to look like a time limit to the agent.
        """
        super().__init__(venv)
        self.pool: deque[Segment] = deque(maxlen=pool)
        self.recorded = 0
        self._hide_endings = hide_endings
        space = venv.observation_space
        assert isinstance(space, spaces.Box)
        self._discrete = int(venv.action_space.n) if isinstance(venv.action_space, spaces.Discrete) else 0
        action = (self._discrete,) if self._discrete else venv.action_space.shape
        assert action is not None
        envs = self.num_envs
        self._observations = np.zeros((envs, length, *space.shape), dtype=space.dtype)
        self._actions = np.zeros((envs, length, *action), dtype=np.float32)
        self._true = np.zeros((envs, length), dtype=np.float32)
        self._filled = np.zeros(envs, dtype=np.int64)
        self._everyone = np.arange(envs)
        self._rollout: list[tuple[Array, Array, Array, Array]] = []

    def reset(self) -> VecEnvObs:
        """Reset every environment; partial segments are dropped."""
        self._filled[:] = 0
        self._last = np.asarray(self.venv.reset())
        return self._last

    def step_async(self, actions: Array) -> None:
        """Note the actions and pass them on."""
        self._taken = np.eye(self._discrete, dtype=np.float32)[actions] if self._discrete else actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Record the step; the reward that comes back is a fresh array of zeros (Stable-Baselines3 writes into it)."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._rollout.append((self._last, self._taken, rewards, dones))
        everyone = self._everyone
        self._observations[everyone, self._filled] = self._last
        self._actions[everyone, self._filled] = self._taken
        self._true[everyone, self._filled] = rewards
        self._filled += 1
        for env in np.flatnonzero(self._filled == self._true.shape[1]):
            self._cut(int(env))
        self._filled[dones] = 0
        if self._hide_endings:
            for env in np.flatnonzero(dones):
                infos[env]["TimeLimit.truncated"] = True
        self._last = np.asarray(observations)
        return observations, np.zeros_like(rewards), dones, infos

    def _cut(self, env: int) -> None:
        arrays = (self._observations[env].copy(), self._actions[env].copy(), self._true[env].copy())
        self.pool.append(Segment(self.recorded, *arrays))
        self.recorded += 1
        self._filled[env] = 0

    def take_rollout(self) -> tuple[Floats, Floats, Array]:
        """Hand over the steps since the last call.

        Returns:
            (T, E, F) features, (T, E) true rewards, and (T, E) whether an episode ended with the step.
        """
        observations, actions, rewards, dones = (np.stack(arrays) for arrays in zip(*self._rollout, strict=True))
        self._rollout.clear()
        shape = rewards.shape
        parts = (observations.reshape(*shape, -1), actions.reshape(*shape, -1))
        features = np.concatenate(parts, axis=2, dtype=np.float32, casting="same_kind")
        return features, rewards.astype(np.float32), dones

    def state_dict(self) -> Tree:
        """The pool and the partial segments."""
        return {
            "recorded": self.recorded,
            "last": self._last,
            "partial": {"o": self._observations, "a": self._actions, "r": self._true, "filled": self._filled},
            "pool": {
                str(segment.id): {"o": segment.observations, "a": segment.actions, "r": segment.true_rewards}
                for segment in self.pool
            },
        }

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state."""
        self.recorded = state["recorded"]
        self._last = state["last"]
        partial = state["partial"]
        self._observations, self._actions, self._true = partial["o"], partial["a"], partial["r"]
        self._filled = partial["filled"]
        self.pool.clear()
        for key in sorted(state["pool"], key=int):
            arrays = state["pool"][key]
            self.pool.append(Segment(int(key), arrays["o"], arrays["a"], arrays["r"]))
        self._rollout.clear()
