"""The reward learner's own process, from its work's arrival to its end."""

from __future__ import annotations

import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from prefrl.config.migrations import opened, stamped
from prefrl.errors import explain
from prefrl.experience.inputs import Inputs
from prefrl.feedback.run_store import run_store
from prefrl.feedback.waiting import wait_on
from prefrl.machine.memory import keep_freed_memory
from prefrl.printable import complain
from prefrl.reward.labels import Labels
from prefrl.reward.learner import RewardLearner
from prefrl.reward.published import largest_weights
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import DamagedFileError, Tree, load_tree, save_tree, taken_from

_PUBLISH_SECONDS = 0.25
_PUBLISH_SHARE = 0.1
"""Of the learner's time that normalising and publishing may take."""
_IDLE_SECONDS = 0.05


class Orders:
    """What the agent's process says: how far it is, and at last to stop."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.step = 0
        """Agent steps taken, as far as this process was told."""
        self.stopped = False

    def listen(self, seconds: float = 0.0) -> bool:
        """Take in what was said, waiting so long for the first word; whether this process is to stop."""
        while not self.stopped and self._pipe.poll(seconds):
            try:
                said = self._pipe.recv()
            except EOFError:
                said = None
            self.stopped, seconds = said is None, 0.0
            self.step = self.step if said is None else int(said)
        return self.stopped


def learn(root: Path, inputs: Inputs, device: str, pipe: Connection) -> None:
    """The process's work: read labels, fit, publish, until told to stop or the parent is gone."""
    # One from the start: measured, threads that once were started slow the agent beside, even when they idle.
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        run = RunDirectory.open(root)
        with run.lock("learner", timeout=30):
            learn_until(Orders(pipe), run, inputs, device)
    except Exception as error:
        # The parent only sees that this process ended: the reason has to be said here.
        complain(f"reward learner: {explain(error)}")
        sys.exit(1)


def learn_until(orders: Orders, run: RunDirectory, inputs: Inputs, device: str) -> None:
    """Read labels, fit and publish until told to stop."""
    with run_store(run, waiting=wait_on(run.labels)) as store:
        _learn_from(Labels(run, store, inputs), orders, run, inputs, device)


def _learn_from(labels: Labels, orders: Orders, run: RunDirectory, inputs: Inputs, device: str) -> None:
    config = run.config
    learner = RewardLearner(config.reward, inputs, config.queries.segment_length, config.seed, device)
    while not run.begun:  # the agent's process is pretraining, and leaves the result at its first checkpoint
        if orders.listen(_IDLE_SECONDS):
            return
    if (state := _saved_state(run, learner)) is not None:
        with taken_from(run.learner_state):
            learner.load_state_dict(state, labels.comparisons(upto=state["counters"]["last_id"]), labels.read)
        if learner.version:
            learner.publish(run.weights)  # what was published may be damaged, or older than this state
    saved = published = time.monotonic()
    newest = learner.updates
    pause = _PUBLISH_SECONDS
    while not orders.listen():
        if due := learner.due(orders.step):
            learner.add(labels.changes(after=learner.last_id), labels.read)
        idle = not due or not len(learner)
        if not idle:
            learner.train(min(due, learner.chunk))
        now = time.monotonic()
        if learner.pretrained and learner.updates > newest and (idle or now - published > pause):
            learner.publish(run.weights)
            newest, published = learner.updates, time.monotonic()
            pause = max(_PUBLISH_SECONDS, (published - now) / _PUBLISH_SHARE)
        if idle:
            orders.listen(_IDLE_SECONDS)
        if now - saved > config.checkpoint_seconds:
            save_tree(run.learner_state, stamped("learner", learner.state_dict()), durable=True)
            saved = now
    if learner.pretrained:
        learner.publish(run.weights)
    save_tree(run.learner_state, stamped("learner", learner.state_dict()), durable=True)


def _saved_state(run: RunDirectory, learner: RewardLearner) -> Tree | None:
    """The learner's last checkpoint; None where there is none that is whole (the labels are all there, to fit anew)."""
    try:
        # The weights, two moments of each in the optimiser, and the rest.
        tree = load_tree(run.learner_state, 3 * largest_weights(learner.ensemble))
        return opened("learner", tree, run.learner_state)
    except (FileNotFoundError, DamagedFileError):
        return None
