"""Judges that know which queries cannot be told."""

import dataclasses

import numpy as np
import pytest
from asker_bench import Bench, Moody
from helpers import segment
from labelled import add_labels, better, make_run
from runs import prefrl

from prefrl.config.judge_config import JudgeConfig
from prefrl.errors import DamagedFileError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.notes import Notes
from prefrl.feedback.terms import Answer
from prefrl.recipes import resolve
from prefrl.reward.judging import judge_for, load_judge
from prefrl.storage.files import load_tree, save_tree
from prefrl.teachers.judge import JudgeTeacher, most_likely

LEFT, RIGHT, EQUAL, NEITHER = Judgement


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("prefrl.selection.asker._POLL_SECONDS", 0)


def test_the_most_likely_answer():
    assert most_likely("comparison", 0.9, 0.4) is LEFT  # 0.54 against 0.4
    assert most_likely("comparison", 0.3, 0.4) is RIGHT  # 0.42
    assert most_likely("comparison", 0.5, 0.4) is NEITHER  # 0.3
    assert most_likely("comparison", 0.5, 1 / 3 - 1e-9) is RIGHT


class Listed:
    """A teacher that answers nothing."""

    def __init__(self):
        self.asked = {}

    def submit(self, queries):
        self.asked |= queries

    def collect(self):
        return []


def by_rank(values):
    return lambda asked: np.array([values[query.rank] for query in asked])


@pytest.mark.parametrize(("config", "passed"), [(JudgeConfig(confidence=0.8), {2, 3}), (JudgeConfig(share=0.25), {3})])
def test_a_judge_passes_on_what_it_predicts_not_to_be_told(store, config, passed):
    first, untold = {1: 0.9, 2: 0.95, 3: 0.95, 4: 0.1}, {1: 0.05, 2: 0.3, 3: 0.9, 4: 0.0}
    asked = {number: pair_query(1, number, segment(0), segment(1), 5) for number in first}
    other = Listed()
    judge = JudgeTeacher(by_rank(first), config, Notes(store, "x"), other, by_rank(untold))
    judge.submit(asked)
    assert other.asked.keys() == passed
    assert {answer.query_id: answer.value for answer in judge.collect()} == {
        number: said for number, said in {1: LEFT, 2: LEFT, 4: RIGHT}.items() if number not in passed
    }
    alone = JudgeTeacher(by_rank(first), config, Notes(store, "y"), None, by_rank(untold))
    alone.submit(asked)
    assert [answer.value for answer in alone.collect()] == [LEFT, LEFT, NEITHER, RIGHT]


def unsure(left, right):
    both = [float(each.true_rewards.sum()) for each in (left, right)]
    return NEITHER if max(both) < 0 else better(left, right)


@pytest.fixture(scope="module", params=["comparison", "rating,comparison"])
def source(tmp_path_factory, request):
    """A run with answers of which some are "can't tell", and a model fitted to it as the run's own."""
    run = make_run(tmp_path_factory.mktemp("source") / "run", feedback=request.param)
    add_labels(run, 40, judge=unsure)
    done = prefrl("reward", "fit", run.root, "--comparisons", "640", "--out", run.root / "fitted.safetensors")
    assert done.code == 0, done.err
    run.weights.parent.mkdir(exist_ok=True)
    run.weights.write_bytes((run.root / "fitted.safetensors").read_bytes())
    return run


def judges_untold(found, queries):
    return found.untold(found.ensemble())(queries)


def test_a_judge_learns_from_a_run_s_cannot_tell_and_a_run_keeps_it(source, tmp_path):
    config = resolve("reacher", teacher=f"judge:{source.root}")
    found = judge_for(config)
    clips = ClipFolder(source.clips)
    pairs = [pair_query(1, n, clips.load(n), clips.load(n + 1), 0) for n in range(40)]
    predicted = judges_untold(found, pairs)
    truth = np.array([unsure(*query.segments) is NEITHER for query in pairs])
    assert 5 < truth.sum() < 35
    assert predicted[truth].mean() > predicted[~truth].mean() + 0.2
    found.save(copy := tmp_path / "copy.safetensors")
    np.testing.assert_array_equal(judges_untold(load_judge(copy), pairs), predicted)
    # The file of `prefrl reward fit` has learned from four fifths of the answers.
    of_file = judge_for(resolve("reacher", teacher=f"judge:{source.root / 'fitted.safetensors'}"))
    assert of_file.answerable is not None
    assert not np.array_equal(judges_untold(of_file, pairs), predicted)


def test_a_judge_without_that_part_tells_every_query(source, tmp_path):
    tree = load_tree(source.root / "fitted.safetensors")
    del tree["answerable"]
    save_tree(tmp_path / "older.safetensors", tree)
    found = judge_for(resolve("reacher", teacher=f"judge:{tmp_path / 'older.safetensors'}"))
    assert judges_untold(found, [pair_query(1, 0, segment(0), segment(1), 0)] * 3).tolist() == [0, 0, 0]
    told = make_run(tmp_path / "told")
    add_labels(told, 12)
    told.weights.parent.mkdir(exist_ok=True)
    told.weights.write_bytes((tmp_path / "older.safetensors").read_bytes())
    assert judge_for(resolve("reacher", teacher=f"judge:{told.root}")).answerable is None
    told.labels.unlink()
    assert judge_for(resolve("reacher", teacher=f"judge:{told.root}")).answerable is None


@pytest.mark.parametrize("content", [7, {}, {"rate": 2.0}, {"rate": 0.5, "weights": {"bias": np.zeros(())}}])
def test_a_judge_with_a_damaged_part_is_one_line(source, tmp_path, content):
    tree = load_tree(source.root / "fitted.safetensors")
    save_tree(tmp_path / "judge.safetensors", tree | {"answerable": content})
    done = prefrl("train", "reacher", "--teacher", f"judge:{tmp_path / 'judge.safetensors'}", "--out", tmp_path / "run")
    assert (done.code, len(done.err.splitlines())) == (1, 1), done.err
    assert "is damaged" in done.err
    with pytest.raises(DamagedFileError):
        judge_for(resolve("reacher", teacher=f"judge:{tmp_path / 'judge.safetensors'}"))


def test_a_judge_that_can_never_tell_spends_the_budget_and_does_not_ask_without_end(tmp_path):
    class Never(Moody):
        def submit(self, queries):
            for number, query in queries.items():
                self.asked.append((number, query))
                self._waiting.append((0, Answer(number, NEITHER, "judge", query.agent_step)))

    bench = Bench(tmp_path, Never())
    config = dataclasses.replace(bench.asker.config, judge=JudgeConfig(source="x"))
    bench.asker = type(bench.asker)(config, bench.store, bench.clips, bench.pool, bench.teacher, bench.ensemble)
    bench.begin()
    bench.play()
    assert len(bench.teacher.asked) == 24
    assert (bench.asker.counts["spent"], bench.asker.counts["answered"]) == (24, 0)
    bench.close()
