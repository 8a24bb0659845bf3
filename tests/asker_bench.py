"""An asker at work without an agent: a pool that grows, and teachers of moods."""

from collections import deque

import numpy as np
import torch
from helpers import segment, tiny_reward

from prefrl.config import QueryConfig, RunConfig
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds.comparison import Judgement, judge
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.selection.asker import Asker

STEPS, LABELS, STRIDE = 1000, 24, 100


def exact(query):
    """The oracle's judgement."""
    return judge(
        query.segments[0].true_rewards, query.segments[1].true_rewards, TeacherConfiguration(), 0.0, np.ones(2)
    )


class Moody:
    """A teacher who says "can't tell" at random and may take their time."""

    def __init__(self, seed=0, incomparable=0.3, delay=0):
        self._rng, self._incomparable, self._delay = np.random.default_rng(seed), incomparable, delay
        self._waiting, self._clock = [], 0
        self.asked = []

    def submit(self, queries):
        for query_id, query in queries.items():
            self.asked.append((query_id, query))
            doubt = self._rng.random() < self._incomparable
            said = Judgement.INCOMPARABLE if doubt else exact(query)
            answer = Answer(query_id, said, "moody", query.agent_step)
            self._waiting.append((self._clock + self._rng.integers(0, self._delay + 1), answer))

    def collect(self):
        self._clock += 1
        ready = [answer for due, answer in self._waiting if due < self._clock]
        self._waiting = [entry for entry in self._waiting if entry[0] >= self._clock]
        return ready


class Worker:
    """A reward learner that is pretrained, and learns nothing."""

    def __init__(self, ready=True):
        torch.manual_seed(0)
        self.ensemble, self.ready, self.metrics, self.calls = RewardEnsemble(tiny_reward(), Inputs((3,))), ready, {}, []

    def fit(self, agent_step, max_round):
        self.calls.append((agent_step, max_round))


class Bench:
    """An asker with a store, clips, and a pool that grows by four segments every hundred steps."""

    def __init__(self, folder, teacher, *, mode="sync", worker=None, grow=4, shift=0, seed=0, **queries):
        folder.mkdir(exist_ok=True)
        queries = {"labels": LABELS, "segment_length": 3, "pool": 60} | queries
        config = RunConfig("t", "t", mode=mode, seed=seed, steps=STEPS, queries=QueryConfig(**queries))
        self.store = LabelStore(folder / "labels.sqlite", create=True)
        self.clips = ClipFolder(folder)
        self.pool = deque(maxlen=config.queries.pool)
        self.teacher, self.grow, self.shift, self.next = teacher, grow, shift, 0
        self.worker = worker or Worker()
        self.asker = Asker(config, self.store, self.clips, self.pool, teacher, self.ensemble)

    def ensemble(self):
        return self.worker.ensemble if self.worker.ready else None

    def record(self, count):
        for _ in range(count):
            number = self.next
            rewards = np.random.default_rng(number).integers(0, 3, size=3)  # ties are common
            self.pool.append(segment(number, rewards, seed=number + self.shift))
            self.next += 1

    def begin(self, spare=0):
        self.asker.sync_with_store()
        self.record(self.asker.initial_segments + spare)
        self.waits = 0
        self.asker.settle(0, lambda: self.asker.config.queries.initial_labels, self.wait)

    def wait(self, counts):
        self.waits += 1
        assert self.waits < 1000, f"waits for good: {counts}"

    def play(self, first=STRIDE, last=STEPS, check=None):
        self.waits = 0
        for step in range(first, last + 1, STRIDE):
            self.record(self.grow)
            self.asker.ask(step, self.wait, last=step == STEPS)
            self.worker.fit(step, self.asker.replayed_round)
            if check:
                check(step)

    def finish(self):
        pass

    def close(self):
        self.store.close()


def unanswered(folder, count, **queries):
    """A run that asked about so many pairs of twenty segments, and was told nothing yet."""
    never = Moody()
    never.collect = list
    bench = Bench(folder, never, mode="async", **queries)
    bench.asker.sync_with_store()
    bench.record(20)
    bench.asker.ask_once(0, count)
    return bench
