"""Inline and process learners from the agent's side: requests, results, and how they end."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers import answered_run, through_file, tiny_reward

from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.terms import Answer
from prefrl.reward import workers
from prefrl.reward.learner import RewardLearner
from prefrl.reward.workers import InlineLearner, LearnerDiedError, LearnerProcess
from prefrl.storage.files import load_tree

INPUTS = Inputs((3,))


# -- in the agent's process -------------------------------------------------------------------------------------------


def test_torch_has_the_learner_s_threads_only_while_it_fits(tmp_path, monkeypatch):
    run, store = answered_run(tmp_path / "run", 4)
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
    run, store = answered_run(tmp_path / "run", 4)
    fitted = []
    learner = SimpleNamespace(ensemble=RewardLearner(tiny_reward(), INPUTS, 5, 0).ensemble, last_id=0, chunk=16)
    learner.pretrained, learner.add, learner.due = False, lambda changes, read: list(changes), lambda step: 40
    learner.train, learner.publish, learner.watch = fitted.append, fitted.append, lambda pool: None
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
    run, store = answered_run(tmp_path / "run", 4)
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
    run, store = answered_run(tmp_path / "run", 2)
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
    run, store = answered_run(tmp_path / "run", answers)
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


def test_weights_of_a_run_that_died_before_its_first_checkpoint_do_not_end_the_pretraining(tmp_path, monkeypatch):
    monkeypatch.setattr("prefrl.reward.learner._CHUNK_BATCHES", 2)
    run, inline, worker = two(tmp_path, FakeProcess())
    RewardLearner(tiny_reward(), INPUTS, 5, seed=1).publish(run.weights)
    worker.fit(0, None)
    assert inline.metrics["reward_updates"] == 2
    assert not worker.ready
    worker.fit(0, None)
    assert worker.ready
    assert worker.metrics["reward_updates"] == 4


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
        other._publisher.version = version - 1
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


def test_a_process_that_was_killed_for_being_slow_at_the_end_is_not_an_error(tmp_path):
    other_process = FakeProcess(in_time=False)
    _, _, worker = two(tmp_path, other_process)
    other_process.exitcode = -9
    worker.finish()


def test_without_a_process_one_is_started(tmp_path, monkeypatch):
    other_process = FakeProcess()
    monkeypatch.setattr(workers, "start_learner", lambda: other_process)
    run, _, _ = two(tmp_path, None)
    assert other_process.sent == [(run.root, INPUTS, "cpu")]
