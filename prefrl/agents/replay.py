"""The replay memory of an off-policy agent, whose rewards can be rewritten, and its parts in checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize

from prefrl.arrays import Array, Floats
from prefrl.encoder import encode
from prefrl.experience.action_spaces import as_numbers
from prefrl.storage.files import Tree

_PIECE_BYTES = 2**22
"""About the size of a piece of the memory in a checkpoint, in bytes."""
_PART = 4096
"""Steps whose rewards are computed at once."""
_KEPT = ("observations", "next_observations", "actions", "dones", "timeouts")
"""Arrays of the memory that do not change once they are recorded; only rewards do."""


class ReplayMemory(NStepReplayBuffer):
    """A replay buffer of Stable-Baselines3, with n-step returns, that stores vectors in single precision.

    Steps that were recorded never change, but for their rewards. A checkpoint therefore consists of the rewards, of the
    newest steps, and of pieces: consecutive steps, each of which is written to disk once.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        *args: Any,
        n_steps: int = 1,
        reads_actions: bool = False,
        **kwargs: Any,
    ) -> None:
        """Initialise the memory.

        Args:
            buffer_size: Number of steps, of all environments together.
            observation_space: The space of observations.
            *args: Further arguments of Stable-Baselines3's `NStepReplayBuffer`.
            n_steps: Number of rewards that a return sums.
            reads_actions: Whether the features of images contain the action.
            **kwargs: Further arguments of `NStepReplayBuffer`.
        """
        super().__init__(buffer_size, _single_precision(observation_space), *args, n_steps=n_steps, **kwargs)
        self._reads_actions = reads_actions
        self.recent, self.recent_fraction = 0, 0.0
        """Number of newest steps from which a fraction of each batch is drawn, summed over the environments."""
        self.score: Callable[[Array], Floats] | None = None
        """Computes the rewards of (N, *step) steps, as a reward model reads them, whenever they are drawn; None to draw
        the stored rewards."""
        self.added = 0
        """Number of steps added to the memory, per environment, including those that it no longer holds."""
        self._piece = max(1, _PIECE_BYTES // sum(getattr(self, name)[0].nbytes for name in _KEPT))
        """Steps of each environment in a piece."""
        self.drawn: tuple[Array, Array] = (np.zeros(0), np.zeros(0))
        """The raw observations and next observations of the newest batch, before normalisation."""
        self._raw: list[Any] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.rewards.nbytes + sum(int(getattr(self, name).nbytes) for name in _KEPT)

    @property
    def step_bytes(self) -> int:
        """Bytes of one step of one environment."""
        return self.nbytes // self.rewards.size

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Add one step of every environment; see `ReplayBuffer.add`."""
        super().add(*args, **kwargs)
        self.added += 1

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Draw a batch, of which about `recent_fraction` are of the newest steps; see `ReplayBuffer.sample`."""
        recent = min(self.recent // self.n_envs, self.added)
        if not recent:
            return super().sample(batch_size, env)
        places = np.random.randint(min(self.added, self.buffer_size), size=batch_size)  # noqa: NPY002 - as SB3 does
        chosen = np.random.random(batch_size) < self.recent_fraction  # noqa: NPY002
        places[chosen] = np.random.choice(self.newest(recent), chosen.sum())  # noqa: NPY002
        return self._get_samples(places, env)

    def _get_samples(self, batch_inds: Array, env: VecNormalize | None = None) -> ReplayBufferSamples:
        if self.score:
            self._score(batch_inds, self.score)
        self._raw.clear()
        samples = super()._get_samples(batch_inds, env)
        following, observations = self._raw  # in the order in which Stable-Baselines3 normalises them
        self.drawn = observations, following
        return samples

    def _normalize_obs(self, obs: Any, env: VecNormalize | None = None) -> Any:  # type: ignore[override]
        self._raw.append(obs)
        return super()._normalize_obs(obs, env)

    def _score(self, places: Array, score: Callable[[Array], Floats]) -> None:
        """Store the rewards of a batch, and of the steps that its n-step returns sum: (P,) places."""
        state = np.random.get_state()  # noqa: NPY002
        envs = np.random.randint(0, self.n_envs, size=places.shape)[:, None]  # noqa: NPY002
        np.random.set_state(state)  # noqa: NPY002 - so that Stable-Baselines3 draws the same environments
        places = (places[:, None] + np.arange(self.n_steps)) % self.buffer_size
        features = self.features(places, envs)
        self.rewards[places, envs] = score(features.reshape(-1, *features.shape[2:])).reshape(places.shape)

    def newest(self, count: int) -> Array:
        """Return the places of the newest steps, oldest first: (count,)."""
        return np.arange(self.added - count, self.added) % self.buffer_size

    def features(self, places: Array, envs: Array | slice = slice(None)) -> Array:
        """Return the reward model's input for steps.

        Args:
            places: (P,), or (P, S) with `envs`.
            envs: (P, 1) environments; by default, all.

        Returns:
            (P, E, *step), or (P, S, *step) with `envs`.
        """
        space, stored = self.action_space, self.actions[places, envs]
        if isinstance(space, spaces.Box):  # stored in [-1, 1], as vectors
            actions = space.low.ravel() + 0.5 * (stored + 1.0) * (space.high - space.low).ravel()
        else:
            actions = as_numbers(space, stored.reshape(*stored.shape[:2], *space.shape))  # type: ignore[misc]
        return encode(self.observations[places, envs], actions, axes=2, reads_actions=self._reads_actions)

    def parts(self, most: int | None = None) -> Iterator[Array]:
        """Iterate over the places of the steps that the memory holds, oldest first, in parts of about 4,096 steps.

        Args:
            most: Number of steps of all environments, evenly spaced, if the memory holds more; None for all.
        """
        held, size = min(self.added, self.buffer_size), max(1, _PART // self.n_envs)
        count = held if most is None else min(held, max(1, most // self.n_envs))
        places = (self.added - held + np.arange(count) * held // max(1, count)) % self.buffer_size
        for start in range(0, count, size):
            yield places[start : start + size]

    def state_dict(self) -> Tree:
        """Return the rewards, and the steps that are in no piece yet."""
        return {
            "added": self.added,
            "capacity": self.buffer_size,
            "rewards": self.rewards,
            "tail": self._steps(*self._spans(self.buffer_size)[-1]),
        }

    def pieces(self) -> dict[str, Callable[[], Tree]]:
        """Return functions that make the memory's pieces, by names that are unique in a run."""
        *whole, _ = self._spans(self.buffer_size)
        return {_name(start, end): partial(self._steps, start, end) for start, end in whole}

    def load_state_dict(self, state: Tree, pieces: dict[str, Tree]) -> None:
        """Restore a saved state.

        Args:
            state: From `state_dict`. The memory may have been smaller, if this one can hold all steps.
            pieces: The pieces of that time, by name.
        """
        self.added, before = state["added"], state["capacity"]
        grown = 0 < before < self.buffer_size and self.added <= self.buffer_size
        if self.added < 0 or not (before == self.buffer_size or grown):
            raise ValueError("a memory of another size")
        self.pos, self.full = self.added % self.buffer_size, self.added >= self.buffer_size
        *whole, tail = self._spans(before)
        for span in whole:
            self._put(pieces[_name(*span)], *span)
        self._put(state["tail"], *tail)
        self.rewards[: min(self.added, before)] = state["rewards"][: min(self.added, before)]
        if grown and (lost := max(0, self.added - before)):
            # Older versions' memories could be shorter than the last rollout, whose end then overwrote the first steps.
            self.rewards[before : self.added] = self.rewards[:lost]
            for name in _KEPT:
                getattr(self, name)[:lost] = getattr(self, name)[before : self.added]

    def _steps(self, start: int, end: int) -> Tree:
        places = np.arange(start, end) % self.buffer_size
        return {name: getattr(self, name)[places] for name in _KEPT}

    def _put(self, arrays: Tree, start: int, end: int) -> None:
        places = np.arange(start, end) % self.buffer_size
        for name in _KEPT:
            getattr(self, name)[places] = arrays[name]

    def _spans(self, capacity: int) -> list[tuple[int, int]]:
        """Divide the steps that a memory holds into whole pieces and the rest, which may be empty.

        A piece ends early where the memory starts over, so that no piece is overwritten before those that follow it.

        Args:
            capacity: Steps of each environment that the memory can hold.

        Returns:
            First step and step after the last, counted from the start of the run.
        """
        lap, into = divmod(max(0, self.added - capacity), capacity)
        start, spans = lap * capacity + into // self._piece * self._piece, []
        while (end := min(start + self._piece, (start // capacity + 1) * capacity)) <= self.added:
            spans.append((start, end))
            start = end
        return [*spans, (start, self.added)]


def _name(start: int, end: int) -> str:
    return f"{start:012d}{end:012d}"


def _single_precision(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space with vectors in single precision, which is what networks compute with."""
    if isinstance(space, spaces.Box) and space.dtype == np.float64:
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    return space


class MemorySteps:
    """The steps of a replay memory as a reward model reads them, each time they are iterated over."""

    def __init__(self, memory: ReplayMemory, most: int | None = None) -> None:
        """Initialise the steps; arguments as for `ReplayMemory.parts`."""
        self._memory, self._most = memory, most

    def __iter__(self) -> Iterator[Array]:
        """Iterate over parts of the memory, (N, *step) each."""
        for places in self._memory.parts(self._most):
            features = self._memory.features(places)
            yield features.reshape(-1, *features.shape[2:])

    def write(self, rewards: Floats) -> None:
        """Replace the rewards of all steps, without `most`: (N,), in the order of the iteration."""
        memory = self._memory
        held = min(memory.added, memory.buffer_size)
        memory.rewards[memory.newest(held)] = rewards.reshape(held, memory.n_envs)
