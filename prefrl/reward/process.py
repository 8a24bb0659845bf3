"""The main function of the reward learner's own process."""

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
from prefrl.reward.label_reader import LabelReader
from prefrl.reward.learner import RewardLearner
from prefrl.reward.pool_file import PoolFile
from prefrl.reward.published import largest_weights
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import DamagedFileError, Tree, load_tree, save_tree, taken_from

_PUBLISH_SECONDS = 0.25
_PUBLISH_SHARE = 0.1
"""Largest fraction of the learner's time for normalising and publishing."""
_IDLE_SECONDS = 0.05


class Orders:
    """Receives messages from the agent's process: its current step, and finally the request to stop."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.step = 0
        """Agent steps taken, according to the last message."""
        self.stopped = False

    def listen(self, seconds: float = 0.0) -> bool:
        """Receive all pending messages, and return whether to stop.

        Args:
            seconds: Time to wait for the first message.
        """
        while not self.stopped and self._pipe.poll(seconds):
            try:
                said = self._pipe.recv()
            except EOFError:
                said = None
            self.stopped, seconds = said is None, 0.0
            self.step = self.step if said is None else int(said)
        return self.stopped


def learn(root: Path, inputs: Inputs, device: str, pipe: Connection) -> None:
    """Read labels, fit and publish until a stop is requested or the parent process ends."""
    # Set this at the start: threads that were started once slow down the agent's process, even when they are idle.
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        run = RunDirectory.open(root)
        with run.lock("learner", timeout=30):
            learn_until(Orders(pipe), run, inputs, device)
    except Exception as error:
        # The parent process only sees that this process ended, so report the reason here.
        complain(f"reward learner: {explain(error)}")
        sys.exit(1)


def learn_until(orders: Orders, run: RunDirectory, inputs: Inputs, device: str) -> None:
    """Read labels, fit and publish until a stop is requested."""
    with run_store(run, waiting=wait_on(run.labels)) as store:
        _learn_from(LabelReader(run, store, inputs), orders, run, inputs, device)


def _learn_from(labels: LabelReader, orders: Orders, run: RunDirectory, inputs: Inputs, device: str) -> None:
    config = run.config
    learner = RewardLearner.of_run(config, inputs, device)
    pool = PoolFile(run.unlabelled, learner.unlabelled) if learner.unlabelled is not None else None
    while not run.begun:  # the agent's process is pretraining, and saves the result at its first checkpoint
        if orders.listen(_IDLE_SECONDS):
            return
    if (state := _saved_state(run, learner)) is not None:
        with taken_from(run.learner_state):
            learner.load_state_dict(state, labels.standing(upto=state["counters"]["last_id"]), labels.read)
        if learner.version:
            learner.publish(run.weights)  # the published weights may be damaged, or older than this state
    saved = published = time.monotonic()
    newest = learner.updates
    pause = _PUBLISH_SECONDS
    while not orders.listen():
        due = _due(learner, labels, orders.step)
        if pool and due:
            pool.refresh()
        idle = not due or not len(learner)
        if not idle:
            learner.train(min(due, learner.chunk))
        now = time.monotonic()
        ready = idle or (now - published > pause and not learner.work.begins_with_labels)  # not within a session
        if learner.pretrained and learner.updates > newest and ready:
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


def _due(learner: RewardLearner, labels: LabelReader, step: int) -> int:
    """Add new labels if anything is due, or if they are work themselves, and return the labels that are due."""
    due = learner.due(step)
    if not due and not learner.work.begins_with_labels:
        return 0
    return learner.due(step) if learner.add(labels.changes(after=learner.last_id), labels.read) else due


def _saved_state(run: RunDirectory, learner: RewardLearner) -> Tree | None:
    """Load the learner's last checkpoint; None if it is missing or damaged, as it can be fitted again to all labels."""
    try:
        # The file contains the weights, two moments of each in the optimiser, and smaller entries.
        tree = load_tree(run.learner_state, 3 * largest_weights(learner.ensemble))
        return opened("learner", tree, run.learner_state)
    except (FileNotFoundError, DamagedFileError):
        return None
