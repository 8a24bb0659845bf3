"""The learner's process: what it receives, when it fits, publishes and saves, and how it stops."""

import dataclasses
import multiprocessing
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from helpers import answered_run

from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.run_store import run_store
from prefrl.reward import process
from prefrl.reward.dataset import LabelType
from prefrl.reward.learner import RewardLearner
from prefrl.storage.files import load_tree, save_tree

INPUTS = Inputs((3,))


class Clock:
    """Seconds that pass only where something is made to take some."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Scripted:
    """A learner that writes down what it is told, and takes an eighth of a second for a fit and for publishing."""

    ensemble = torch.nn.Module()
    """Of no weights."""
    unlabelled, work = None, SimpleNamespace(begins_with_labels=False)

    def __init__(self, clock, **given):
        self.clock, self.told = clock, []
        self.last_id, self.version, self.updates, self.chunk, self.pretrained, self.comparisons = 0, 0, 0, 64, True, 1
        self.owed = lambda step: 0
        vars(self).update(given)

    def __len__(self):
        return self.comparisons

    def note(self, *what):
        self.told.append((self.clock.now - 100, *what))

    def due(self, step):
        return self.owed(step)

    def add(self, changes, read):
        found = [change.id for change in changes]
        if found:
            self.note("add", found)
            self.last_id = found[-1]

    def train(self, comparisons):
        self.clock.now += 0.125
        self.updates += 1
        self.note("train", comparisons)

    def publish(self, path):
        self.note("publish", path.name)
        self.version += 1
        self.clock.now += 0.125

    def state_dict(self):
        self.note("save")
        return {"counters": {"last_id": self.last_id}, "updates": self.updates}

    def load_state_dict(self, state, comparisons, read):
        self.note("load", state["counters"]["last_id"], [comparison.id for comparison in comparisons])


class Pipe:
    """The agent's end of it: says stop at a look of this number; `said` is what it says at others, by their numbers."""

    def __init__(self, clock, looks, said=None):
        self.clock, self.looks, self.said, self.waits, self.count = clock, looks, said or {}, [], 0
        self.waiting = []

    def poll(self, seconds):
        if self.heard:
            return self.speak()
        self.count += 1
        if seconds:
            self.waits.append(seconds)
            self.clock.now += seconds
        self.waiting += self.said.get(self.count, [])
        self.waiting += [None] * (self.count >= self.looks)
        return self.speak()

    heard = False

    def speak(self):
        """A word more where there is one; the poll after it is a part of the same look."""
        self.heard = bool(self.waiting)
        return self.heard

    def recv(self):
        return self.waiting.pop(0)


def instead(learner, made):
    """A class of reward learners whose constructor notes its arguments in `made`, and returns this learner."""

    class Instead(RewardLearner):
        def __new__(cls, *arguments):
            made.append(arguments)
            return learner

    return Instead


def learned(monkeypatch, run, looks, said=None, **given):
    """What the process's loop tells a scripted learner within so many looks at the pipe."""
    clock, made = Clock(), []
    learner, pipe = Scripted(clock, **given), Pipe(clock, looks, said)
    monkeypatch.setattr(process, "time", clock)
    monkeypatch.setattr(process, "RewardLearner", instead(learner, made))
    process.learn_until(process.Orders(pipe), run, INPUTS, "cpu")
    types = [LabelType("comparison", 2, "bradley-terry")]
    assert made == [(run.config.reward, INPUTS, 5, run.config.seed, "cpu", types, run.config.queries.pool, {})]
    return learner, pipe


def told(learner, *names):
    return [entry[0] for entry in learner.told if entry[1] in names]


@pytest.fixture
def run(tmp_path):
    """A begun run with three answers."""
    made, store = answered_run(tmp_path / "run", 3)
    made.saved.save(0, {"agent": {}})
    store.close()
    return made


def test_orders_are_the_newest_step_and_at_last_to_stop():
    reader, writer = multiprocessing.Pipe(duplex=False)
    orders = process.Orders(reader)
    assert (orders.step, orders.stopped, orders.listen()) == (0, False, False)
    writer.send(5)
    writer.send(9)
    assert orders.listen() is False
    assert orders.step == 9
    began = time.monotonic()
    assert orders.listen(0.2) is False
    assert time.monotonic() - began > 0.15
    writer.send(11)
    writer.send(None)
    assert orders.listen() is True
    assert (orders.step, orders.stopped) == (11, True)
    writer.send(99)
    assert orders.listen() is True
    assert orders.step == 11


def test_an_agent_that_is_gone_is_an_order_to_stop():
    reader, writer = multiprocessing.Pipe(duplex=False)
    writer.send(3)
    writer.close()
    orders = process.Orders(reader)
    assert orders.listen(5) is True
    assert orders.step == 3


def test_orders_do_not_wait_once_a_word_has_come():
    reader, writer = multiprocessing.Pipe(duplex=False)
    writer.send(3)
    began = time.monotonic()
    assert process.Orders(reader).listen(2) is False
    assert time.monotonic() - began < 1
    writer.close()


def test_nothing_is_done_before_the_agent_has_pretrained(tmp_path, monkeypatch):
    waiting, store = answered_run(tmp_path / "run", 3)
    store.close()
    learner, pipe = learned(monkeypatch, waiting, 4, owed=lambda step: 64)
    assert learner.told == []
    assert pipe.waits == [0.05] * 4
    assert not waiting.learner_state.exists()


def test_it_begins_with_the_agent_s_first_checkpoint(tmp_path, monkeypatch):
    waiting, store = answered_run(tmp_path / "run", 3)
    store.close()
    clock = Clock()
    learner, pipe = Scripted(clock, owed=lambda step: 64), Pipe(clock, 4)
    poll = pipe.poll

    def begin(seconds):
        if len(pipe.waits) == 1:
            waiting.saved.save(0, {"agent": {}})
        return poll(seconds)

    pipe.poll = begin
    monkeypatch.setattr(process, "time", clock)
    monkeypatch.setattr(process, "RewardLearner", instead(learner, []))
    process.learn_until(process.Orders(pipe), waiting, INPUTS, "cpu")
    assert [entry[1] for entry in learner.told] == ["add", "train", "publish", "save"]


def test_publishing_takes_a_tenth_of_the_time_and_is_a_quarter_of_a_second_apart_at_least(run, monkeypatch):
    learner, pipe = learned(monkeypatch, run, 15, owed=lambda step: 1000)
    # An eighth of a second a fit. The first after more than 0.25 s: at 0.375. It took 0.125, until 0.5: the next after
    # more than 1.25 s, at 1.875, until 2.0; the last at the end, after 14 fits and two publications.
    assert told(learner, "publish") == [0.375, 1.875, 2.0]
    assert told(learner, "train")[:4] == [0.125, 0.25, 0.375, 0.625]
    assert pipe.waits == []
    assert {entry[2] for entry in learner.told if entry[1] == "train"} == {64}  # a chunk, however much is due


def test_within_a_session_nothing_is_published(run, monkeypatch):
    owed = iter([1000] * 6 + [0] * 6)
    work = SimpleNamespace(begins_with_labels=True)
    learner, _ = learned(monkeypatch, run, 8, owed=lambda step: next(owed), work=work)
    assert told(learner, "train")[-1] == 0.75
    assert told(learner, "publish")[0] == 0.75  # it has ended


def test_less_than_a_chunk_is_fitted_as_it_is(run, monkeypatch):
    learner, _ = learned(monkeypatch, run, 2, owed=lambda step: 8)
    assert [entry[2] for entry in learner.told if entry[1] == "train"] == [8]


def test_labels_are_read_once_something_is_due_and_each_once(run, monkeypatch):
    learner, _ = learned(monkeypatch, run, 100, {5: [400, 500]}, owed=lambda step: 64 if step == 500 else 0)
    assert told(learner, "add") == [pytest.approx(0.1)]  # after two pauses of 0.05 s
    assert [entry[2] for entry in learner.told if entry[1] == "add"] == [[1, 2, 3]]


def test_where_nothing_is_due_what_was_fitted_is_published_once_and_the_process_pauses(run, monkeypatch):
    owed = iter([64, 0, 0, 0])
    learner, pipe = learned(monkeypatch, run, 8, owed=lambda step: next(owed))
    assert [entry[1] for entry in learner.told] == ["add", "train", "publish", "publish", "save"]
    assert told(learner, "publish")[0] == 0.125
    assert pipe.waits == [0.05] * 3


def test_without_comparisons_nothing_is_fitted_and_the_process_pauses(run, monkeypatch):
    learner, pipe = learned(monkeypatch, run, 5, owed=lambda step: 64, comparisons=0)
    assert told(learner, "train") == []
    assert pipe.waits == [0.05] * 2
    assert told(learner, "publish") == [pytest.approx(0.1)]  # at the end alone


def test_it_waits_for_labels_in_other_hands_as_long_as_that_takes(run, monkeypatch):
    opened = []
    monkeypatch.setattr(process, "wait_on", lambda path: ("waits on", path))
    monkeypatch.setattr(process, "run_store", lambda run, waiting: opened.append((run, waiting)) or run_store(run))
    learned(monkeypatch, run, 1)
    assert opened == [(run, ("waits on", run.labels))]


def test_before_the_agent_has_said_anything_its_step_is_0(run, monkeypatch):
    steps = []
    learned(monkeypatch, run, 3, owed=lambda step: steps.append(step) or 0)
    assert set(steps) == {0}


def test_a_learner_that_is_not_pretrained_publishes_nothing(run, monkeypatch):
    learner, _ = learned(monkeypatch, run, 12, owed=lambda step: 64, pretrained=False)
    assert told(learner, "publish") == []
    assert load_tree(run.learner_state)["updates"] == 11


def test_its_state_is_saved_every_few_seconds_and_at_the_end(run, monkeypatch):
    saved = []
    monkeypatch.setattr(
        process, "save_tree", lambda path, tree, durable=False: saved.append((path, tree["updates"], durable))
    )
    run.config = dataclasses.replace(run.config, checkpoint_seconds=1.0)
    learner, _ = learned(monkeypatch, run, 21, owed=lambda step: 64, pretrained=False)
    # More than a second after the last: at 1.125 and 2.25, and at the end, after 20 fits.
    assert told(learner, "save") == [1.125, 2.25, 2.5]
    assert saved == [(run.learner_state, updates, True) for updates in (9, 18, 20)]


@pytest.mark.parametrize("version", [0, 1])
def test_it_continues_from_its_state_and_publishes_what_had_been_published(version, run, monkeypatch):
    save_tree(run.learner_state, {"counters": {"last_id": 2}})
    learner, _ = learned(monkeypatch, run, 1, version=version, pretrained=False)
    assert learner.told[0] == (0, "load", 2, [1, 2])
    assert told(learner, "publish") == [0] * version


def test_updates_of_before_are_not_published_again(run, monkeypatch):
    save_tree(run.learner_state, {"counters": {"last_id": 2}})
    learner, _ = learned(monkeypatch, run, 6, updates=7, version=1)
    assert len(told(learner, "publish")) == 2  # what was there, and at the end


def test_a_damaged_state_is_passed_over(run, monkeypatch):
    run.learner_state.write_bytes(b"nonsense")
    learner, _ = learned(monkeypatch, run, 1)
    assert "load" not in [entry[1] for entry in learner.told]


def test_the_process_computes_on_one_thread_alone_and_gives_memory_back(run, monkeypatch):
    calls = []
    monkeypatch.setattr(process.torch, "set_num_threads", calls.append)
    monkeypatch.setattr(process, "keep_freed_memory", lambda: calls.append("memory"))
    monkeypatch.setattr(process, "learn_until", lambda *arguments: calls.append(arguments))
    stop = object()
    process.learn(run.root, INPUTS, "cpu", stop)
    assert calls[:2] == [1, "memory"]
    assert (calls[2][0]._pipe, calls[2][1].root, *calls[2][2:]) == (stop, run.root, INPUTS, "cpu")


def test_one_learner_at_a_time_works_on_a_run_and_the_next_waits_for_it(run, monkeypatch):
    found = []
    monkeypatch.setattr(process.torch, "set_num_threads", lambda number: None)

    def learning(*arguments):
        with pytest.raises(UsageError, match="in use"):
            run.lock("learner")
        found.append(time.monotonic())

    monkeypatch.setattr(process, "learn_until", learning)
    taken = threading.Event()

    def before() -> None:  # a lock is given back by the thread that took it
        with run.lock("learner"):
            taken.set()
            time.sleep(0.3)

    threading.Thread(target=before).start()
    taken.wait(10)
    began = time.monotonic()
    process.learn(run.root, INPUTS, "cpu", None)
    assert found[0] - began > 0.2
    run.lock("learner").release()  # given back


def test_a_process_that_fails_gives_the_reason_and_ends_with_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(process.torch, "set_num_threads", lambda number: None)
    with pytest.raises(SystemExit) as ended:
        process.learn(tmp_path, INPUTS, "cpu", None)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"reward learner: {tmp_path} is not a run: it has no config.json\n"
