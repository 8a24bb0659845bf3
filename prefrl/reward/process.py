"""The reward learner's own process, from its work's arrival to its end."""

from __future__ import annotations

import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from prefrl.database import wait_on
from prefrl.errors import explain
from prefrl.files import DamagedFileError, Tree, load_tree, save_tree, taken_from
from prefrl.memory import keep_freed_memory
from prefrl.printable import complain
from prefrl.reward.inputs import Inputs
from prefrl.reward.labels import Labels
from prefrl.reward.learner import RewardLearner
from prefrl.run import RunDirectory
from prefrl.store import LabelStore

_PUBLISH_SECONDS = 0.25
_PUBLISH_SHARE = 0.1
"""Of the learner's time that normalising and publishing may take."""
_IDLE_SECONDS = 0.05


def learn(root: Path, inputs: Inputs, device: str, stop: Connection) -> None:
    """The process's work: read labels, fit, publish, until told to stop or the parent is gone."""
    # One from the start: measured, threads that once were started slow the agent beside, even when they idle.
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        run = RunDirectory.open(root)
        with run.lock("learner", timeout=30):
            _learn_until(stop, run, inputs, device)
    except Exception as error:
        # The parent only sees that this process ended: the reason has to be said here.
        complain(f"reward learner: {explain(error)}")
        sys.exit(1)


def _learn_until(stop: Connection, run: RunDirectory, inputs: Inputs, device: str) -> None:
    store, config = LabelStore(run.labels, waiting=wait_on(run.labels)), run.config
    labels = Labels(run, store, inputs)
    learner = RewardLearner(config.reward, inputs, config.queries.segment_length, config.seed, device)
    while not run.begun:  # the agent's process is pretraining, and leaves the result at its first checkpoint
        if stop.poll(_IDLE_SECONDS):
            return
    if (state := _saved_state(run)) is not None:
        with taken_from(run.learner_state):
            learner.load_state_dict(state, labels.comparisons(upto=state["counters"]["last_id"]), labels.read)
        if learner.version:
            learner.publish(run.weights)  # what was published may be damaged, or older than this state
    saved = published = time.monotonic()
    newest = learner.updates
    pause = _PUBLISH_SECONDS
    while not stop.poll():
        if due := learner.due(int(run.read_progress().get("step", 0))):
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
            stop.poll(_IDLE_SECONDS)
        if now - saved > config.checkpoint_seconds:
            save_tree(run.learner_state, learner.state_dict(), durable=True)
            saved = now
    if learner.pretrained:
        learner.publish(run.weights)
    save_tree(run.learner_state, learner.state_dict(), durable=True)
    store.close()


def _saved_state(run: RunDirectory) -> Tree | None:
    """The learner's last checkpoint; None where there is none that is whole (the labels are all there, to fit anew)."""
    try:
        return load_tree(run.learner_state)
    except (FileNotFoundError, DamagedFileError):
        return None
