"""Helpers shared by several test files: random segments, tiny environments, and saving to files."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from hypothesis import settings

from prefrl.config import RewardConfig
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer, Label
from prefrl.recipes import resolve
from prefrl.registry import ALGORITHMS
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import load_tree, save_tree

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)
"""Property tests: few examples, the same ones every time, no clock."""


def segment(number, rewards=(0.0, 0.0, 0.0), *, features=3, seed=None):
    """A segment of random observations with the given true rewards; the last feature is the action."""
    rng = np.random.default_rng(number if seed is None else seed)
    length = len(rewards)
    observations = rng.normal(size=(length, features - 1)).astype(np.float32)
    actions = rng.normal(size=(length, 1)).astype(np.float32)
    return Segment(number, observations, actions, np.asarray(rewards, dtype=np.float32), *no_ends(length))


def no_ends(length):
    """`terminated` and `truncated` of a segment within an episode."""
    return np.zeros((2, length), bool)


def film(length: int = 25, stack: int = 4, size: int = 84, seed: int = 0) -> Segment:
    """A segment of random images."""
    frames = np.random.default_rng(seed).integers(0, 255, (length + stack - 1, size, size), dtype=np.uint8)
    steps = (np.zeros((length, 6), np.float32), np.zeros(length, np.float32), *np.zeros((2, length), bool))
    return Segment(seed, frames, *steps, stack)


def segments(count, **kwargs):
    """Segments 0, 1, 2, … in a list."""
    return [segment(number, **kwargs) for number in range(count)]


def answered_run(root, answers=0):
    """A run's directory and store with so many answers, all about clips that are there, and one open query."""
    run = RunDirectory.create(root, resolve("hopper", settings={"queries.segment_length": 5}))
    store, pool = LabelStore(run.labels, create=True), segments(2 * answers + 2, rewards=np.arange(5.0))
    for kept in pool:
        ClipFolder(run.clips).save(kept)
    ids = store.add_queries([pair_query(1, n, pool[2 * n], pool[2 * n + 1], 0) for n in range(answers + 1)])
    store.add_answers([Answer(number, Judgement.LEFT, "oracle", 0) for number in list(ids)[:answers]])
    return run, store


def tiny_reward(**changes):
    """A reward configuration that fits in milliseconds."""
    small = {"hidden": (8,), "batch_size": 8, "buffer": 64, "pretrain_comparisons": 32}
    return RewardConfig(**small | changes)


def laid_out(learner):
    """What a learner's labels are about, by place: (B, 2, L, *step) steps, (B, 2, L) true rewards, (B,) targets."""
    data = learner.dataset
    return data.segments.steps(data.slots), data.segments.true_rewards(data.slots), data.target


def take_rollout(recorder):
    """What a recorder has recorded, its segments cut: features, true rewards, and whether an episode ended."""
    experience = recorder.take()
    recorder.cut(experience)
    return experience.features, experience.rewards, experience.dones


class Library:
    """Segments by their ids, as a learner reads them, and comparisons of neighbours by a linear true reward."""

    def __init__(self, count, *, length=5, features=4, seed=0):
        rng = np.random.default_rng(seed)
        self.weights = rng.normal(size=features)
        self.features = rng.normal(0.5, 2.0, size=(count, length, features)).astype(np.float32)
        self.true = (self.features @ self.weights).astype(np.float32)

    def read(self, number):
        """Features and true rewards of a segment."""
        return self.features[number], self.true[number]

    def comparisons(self, first=1, last=None):
        """Comparison n is between segments 2n - 2 and 2n - 1, so that no segment occurs twice."""
        last = len(self.features) // 2 if last is None else last
        sums = self.true.sum(axis=1)
        pairs = ((n, 2 * n - 2, 2 * n - 1) for n in range(first, last + 1))
        return [Label(n, (left, right), float(sums[left] > sums[right])) for n, left, right in pairs]


def through_file(tmp_path: Path, tree):
    """The tree as a checkpoint gives it back."""
    save_tree(tmp_path / "tree.safetensors", tree)
    return load_tree(tmp_path / "tree.safetensors")


def same_tree(one, other):
    """Whether two trees are equal, bit for bit, NaN included."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same_tree(one[k], other[k]) for k in one)
    if isinstance(one, torch.Tensor):
        one = one.detach().numpy()
    if isinstance(other, torch.Tensor):
        other = other.detach().numpy()
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other


def same_segment(one, other):
    """Whether two segments hold the same steps, bit for bit."""
    names = ("id", "frames", "actions", "true_rewards", "terminated", "truncated", "stack")
    return all(same_tree(getattr(one, name), getattr(other, name)) for name in names)


def clip_reader(clips):
    """Reads of a clip what a reward learner reads."""

    def read(number):
        kept = clips.load(number)
        return kept.features, kept.true_rewards

    return read


class CountingEnv(gymnasium.Env):
    """Observations (tag, episode, step), rewards 100 · episode + step, and episodes of set lengths in turn."""

    def __init__(self, lengths=(7, 4), *, discrete=0, truncate=False, tag=0):
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        box = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(discrete) if discrete else box
        self.lengths, self.truncate, self.tag = lengths, truncate, tag
        self.episode, self.time = -1, 0
        self.log = []

    def _observation(self):
        return np.array([self.tag, self.episode, self.time], dtype=np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.time = self.episode + 1, 0
        return self._observation(), {}

    def step(self, action):
        before = self._observation()
        self.time += 1
        reward = 100.0 * self.episode + self.time
        self.log.append((before, np.array(action), reward, self.episode))
        over = self.time >= self.lengths[self.episode % len(self.lengths)]
        return self._observation(), reward, over and not self.truncate, over and self.truncate, {}


def for_algo(algo: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Those of some settings that an algorithm uses; others are refused."""
    return {name: value for name, value in settings.items() if ALGORITHMS[algo].uses(name)}
