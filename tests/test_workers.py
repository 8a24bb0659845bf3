"""The ways to run the learner, without a process: what it is asked to do, when it publishes and saves, how it stops."""

import dataclasses
import multiprocessing
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import segments, through_file, tiny_reward

from prefrl.clips import ClipFolder
from prefrl.errors import UsageError
from prefrl.feedback.store import LabelStore
from prefrl.files import load_tree, save_tree
from prefrl.recipes import resolve
from prefrl.reward import process, workers
from prefrl.reward.inputs import Inputs
from prefrl.reward.learner import RewardLearner
from prefrl.reward.workers import InlineLearner, LearnerDiedError, LearnerProcess
from prefrl.run import RunDirectory
from prefrl.types import Answer, Judgement, Query

INPUTS = Inputs((3,))


def begun(root, answers=0, **settings):
    """A run's directory with so many answers in its store, all about clips that are there, and one open query."""
    given = {f"reward.{name}": value for name, value in settings.items()}
    run = RunDirectory.create(root, resolve("hopper", settings={"queries.segment_length": 5, **given}))
    store, pool = LabelStore(run.labels, create=True), segments(2 * answers + 2, rewards=np.arange(5.0))
    for kept in pool:
        ClipFolder(run.clips).save(kept)
    ids = store.add_queries([Query(1, n, pool[2 * n], pool[2 * n + 1], 0) for n in range(answers + 1)])
    store.add_answers([Answer(number, Judgement.LEFT, "oracle", 0) for number in list(ids)[:answers]])
    return run, store


# -- in the agent's process -------------------------------------------------------------------------------------------


def test_torch_has_the_learner_s_threads_only_while_it_fits(tmp_path, monkeypatch):
    run, store = begun(tmp_path / "run", 4)
    learner = RewardLearner(tiny_reward(), INPUTS, 5, 0)
    used, train = [], learner.train
    monkeypatch.setattr(workers.torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(workers.torch, "set_num_threads", used.append)
    monkeypatch.setattr(learner, "train", lambda due: (used.append(("fits", due)), train(due)))
    InlineLearner(run, store, learner, threads=3).fit(0, None)
    assert used == [3, ("fits", 32), 7]
    used.clear()
    InlineLearner(run, store, learner).fit(0, None)  # nothing is due
    InlineLearner(run, store, learner).fit(10**4, None)
    assert [entry for entry in used if entry in {1, 7}] == [1, 7]
    store.close()


def test_pretraining_goes_chunk_by_chunk_and_what_is_due_later_at_once(tmp_path):
    run, store = begun(tmp_path / "run", 4)
    fitted = []
    learner = SimpleNamespace(ensemble=RewardLearner(tiny_reward(), INPUTS, 5, 0).ensemble, last_id=0, chunk=16)
    learner.pretrained, learner.add, learner.due = False, lambda changes, read: list(changes), lambda step: 40
    learner.train, learner.publish = fitted.append, fitted.append
    worker = InlineLearner(run, store, learner)
    worker.fit(0, None)
    assert fitted == [16]  # and nothing is published before the end of pretraining
    learner.chunk = 64
    worker.fit(0, None)
    assert fitted == [16, 40]
    learner.chunk, learner.pretrained = 16, True
    worker.fit(0, None)
    assert fitted == [16, 40, 40, run.weights]
    store.close()


def test_a_restored_learner_has_the_labels_of_its_state_and_takes_in_later_ones_once(tmp_path):
    run, store = begun(tmp_path / "run", 4)
    learner, resumed = (InlineLearner(run, store, RewardLearner(tiny_reward(), INPUTS, 5, 0)) for _ in range(2))
    learner.fit(0, None)
    state = through_file(tmp_path, learner.state_dict())
    store.add_answers([Answer(5, Judgement.RIGHT, "oracle", 0)])
    resumed.load_state_dict(state)
    assert resumed.metrics["comparisons"] == 4
    resumed.fit(0, None)
    assert resumed.metrics["comparisons"] == 5
    store.close()


def test_closing_the_inline_learner_does_nothing(tmp_path):
    run, store = begun(tmp_path / "run", 2)
    worker = InlineLearner(run, store, RewardLearner(tiny_reward(), INPUTS, 5, 0))
    assert [worker.check(0), worker.refresh(), worker.close(), worker.finish()] == [None] * 4
    assert not run.weights.exists()
    store.close()


# -- from the agent's side of two processes ---------------------------------------------------------------------------


class FakeProcess:
    """Stands in for the learner's process and its pipe."""

    def __init__(self, exitcode=None, in_time=True):
        self.sent, self.stops, self.in_time = [], 0, in_time
        self.exitcode = exitcode
        self.process = self.pipe = self

    def is_alive(self):
        return self.exitcode is None

    def send(self, orders):
        self.sent.append(orders)

    def stop(self):
        self.stops += 1
        if self.exitcode is None:
            self.exitcode = 0
        return self.in_time


def two(tmp_path, other_process, answers=4):
    run, store = begun(tmp_path / "run", answers)
    inline = InlineLearner(run, store, RewardLearner(tiny_reward(), INPUTS, 5, 0))
    return run, inline, LearnerProcess(run, inline, INPUTS, "cpu", other_process)


def test_the_process_gets_its_work_once_and_pretraining_is_done_here(tmp_path):
    other_process = FakeProcess()
    run, inline, worker = two(tmp_path, other_process)
    assert other_process.sent == [(run.root, INPUTS, "cpu")]
    assert (worker.ready, worker.metrics, worker.state_dict()) == (False, {}, {})
    assert worker.ensemble is inline.ensemble
    worker.fit(0, 1)
    assert worker.ready
    assert worker.metrics["comparisons"] == 4
    handed_over = load_tree(run.learner_state)["counters"]
    assert handed_over == {"updates": 4, "fitted": 32, "version": 1, "last_id": 4, "seen": 4}
    worker.fit(10**6, 1)  # from then on it is the process that fits
    worker.check(77)
    assert other_process.sent[1:] == [0, 10**6, 77]
    assert load_tree(run.learner_state)["counters"] == handed_over
    assert inline.metrics["reward_updates"] == 4


def test_half_done_pretraining_is_not_handed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("prefrl.reward.learner._CHUNK_BATCHES", 2)
    run, inline, worker = two(tmp_path, FakeProcess())
    worker.fit(0, None)
    assert inline.metrics["reward_updates"] == 2
    assert not worker.ready
    assert not run.learner_state.exists()
    worker.fit(0, None)
    assert worker.ready
    assert run.learner_state.exists()


def test_what_is_handed_over_is_synced_to_disk(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(workers, "save_tree", lambda path, tree, durable=False: saved.append((path, durable)))
    run, _, worker = two(tmp_path, FakeProcess())
    worker.fit(0, None)
    assert saved == [(run.learner_state, True)]


def test_newer_weights_are_picked_up_at_every_call(tmp_path):
    other_process = FakeProcess()
    run, _, worker = two(tmp_path, other_process)
    worker.fit(0, None)
    other = RewardLearner(tiny_reward(), INPUTS, 5, seed=1)

    def publish(version):
        other.version = version - 1
        other.publish(run.weights)

    for version, call in enumerate((worker.refresh, lambda: worker.fit(0, None), worker.close, worker.finish), 7):
        publish(version)
        call()
        assert worker.metrics["version"] == version
    assert other_process.stops == 2
    publish(20)
    worker.load_state_dict({})
    assert worker.metrics["version"] == 20
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(worker.ensemble.score(x), other.ensemble.score(x))


def test_a_resumed_run_does_not_pretrain_here(tmp_path):
    _, inline, worker = two(tmp_path, FakeProcess())
    worker.load_state_dict({})
    worker.fit(0, None)
    assert inline.metrics["reward_updates"] == 0


@pytest.mark.parametrize(("status", "why"), [(-9, "killed by signal 9"), (3, "exit status 3; its message is above")])
def test_a_process_that_is_gone_is_told(status, why, tmp_path):
    other_process = FakeProcess()
    _, inline, worker = two(tmp_path, other_process)
    worker.check(0)
    other_process.exitcode = status
    for call in (lambda: worker.check(0), lambda: worker.fit(0, None), worker.finish):
        with pytest.raises(LearnerDiedError, match=rf"the reward learner's process died \({why}\)"):
            call()
    assert inline.metrics["reward_updates"] == 0
    worker.close()  # where a run only stops, this is no error


def test_a_process_that_was_gone_before_its_work_came_is_told_by_the_first_look(tmp_path):
    _, _, worker = two(tmp_path, FakeProcess(exitcode=0))
    with pytest.raises(LearnerDiedError, match="exit status 0"):
        worker.check(0)


def test_a_script_without_its_guard_is_told_so(tmp_path):
    other_process = FakeProcess()
    _, _, worker = two(tmp_path, other_process)
    other_process.exitcode = 79  # as the process of such a script ends
    with pytest.raises(UsageError, match="__main__"):
        worker.finish()


def test_a_process_that_was_killed_for_being_slow_at_the_end_is_no_error(tmp_path):
    other_process = FakeProcess(in_time=False)
    _, _, worker = two(tmp_path, other_process)
    other_process.exitcode = -9
    worker.finish()


def test_without_a_process_one_is_started(tmp_path, monkeypatch):
    other_process = FakeProcess()
    monkeypatch.setattr(workers, "start_learner", lambda: other_process)
    run, _, _ = two(tmp_path, None)
    assert other_process.sent == [(run.root, INPUTS, "cpu")]


# -- in the learner's process -----------------------------------------------------------------------------------------


class Clock:
    """Seconds that pass only where something is made to take some."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Scripted:
    """A learner that writes down what it is told, and takes an eighth of a second for a fit and for publishing."""

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


def learned(monkeypatch, run, looks, said=None, **given):
    """What the process's loop tells a scripted learner within so many looks at the pipe."""
    clock, made = Clock(), []
    learner, pipe = Scripted(clock, **given), Pipe(clock, looks, said)
    monkeypatch.setattr(process, "time", clock)
    monkeypatch.setattr(process, "RewardLearner", lambda *arguments: made.append(arguments) or learner)
    process.learn_until(process.Orders(pipe), run, INPUTS, "cpu")
    assert made == [(run.config.reward, INPUTS, 5, run.config.seed, "cpu")]
    return learner, pipe


def told(learner, *names):
    return [entry[0] for entry in learner.told if entry[1] in names]


@pytest.fixture
def run(tmp_path):
    """A begun run with three answers."""
    made, store = begun(tmp_path / "run", 3)
    made.save_checkpoint(0, {"agent": {}})
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
    waiting, store = begun(tmp_path / "run", 3)
    store.close()
    learner, pipe = learned(monkeypatch, waiting, 4, owed=lambda step: 64)
    assert learner.told == []
    assert pipe.waits == [0.05] * 4
    assert not waiting.learner_state.exists()


def test_it_begins_with_the_agent_s_first_checkpoint(tmp_path, monkeypatch):
    waiting, store = begun(tmp_path / "run", 3)
    store.close()
    clock = Clock()
    learner, pipe = Scripted(clock, owed=lambda step: 64), Pipe(clock, 4)
    poll = pipe.poll

    def begin(seconds):
        if len(pipe.waits) == 1:
            waiting.save_checkpoint(0, {"agent": {}})
        return poll(seconds)

    pipe.poll = begin
    monkeypatch.setattr(process, "time", clock)
    monkeypatch.setattr(process, "RewardLearner", lambda *arguments: learner)
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
    monkeypatch.setattr(process, "LabelStore", lambda path, waiting: opened.append((path, waiting)) or LabelStore(path))
    learned(monkeypatch, run, 1)
    assert opened == [(run.labels, ("waits on", run.labels))]


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
def test_it_goes_on_from_its_state_and_publishes_what_had_been_published(version, run, monkeypatch):
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


def test_a_process_that_fails_says_why_and_ends_with_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(process.torch, "set_num_threads", lambda number: None)
    with pytest.raises(SystemExit) as ended:
        process.learn(tmp_path, INPUTS, "cpu", None)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"reward learner: {tmp_path} is not a run: it has no config.json\n"
