"""`prefrl reward probe`: fresh agents on a frozen reward model, what they reach, and the clips for the queue."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import segment
from runs import label_counts, prefrl, refused, summary

from prefrl.agents.reference import untrained
from prefrl.config import RewardConfig
from prefrl.errors import UsageError
from prefrl.experience.environments import make_stack
from prefrl.experience.inputs import Inputs
from prefrl.feedback.run_store import run_store
from prefrl.probing.clips import highest, sums
from prefrl.probing.judged import first_episodes
from prefrl.probing.request import probe_request
from prefrl.probing.results import Outcome, ProbeResults, draw, figure, read_results
from prefrl.recipes import resolve
from prefrl.registry import ALGORITHMS, located
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.runs.directory import RunDirectory


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--kl", "0,x"], "--kl: 'x' is not a number"),
        (["--kl", "-1"], "--kl must be finite and not negative"),
        (["--kl", "0,nan"], "--kl must be finite and not negative"),
        (["--seeds", "0.5"], "--seeds: '0.5' is not a whole number"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--episodes", "0"], "--episodes must be at least 1"),
        (["--clips", "-1"], "--clips must be in [0, 10000]"),
        (["--reference", "best"], "--reference cannot be best"),
        (["--out", "USED"], "holds other files than a probe's"),
    ],
)
def test_arguments_that_make_no_probe_are_refused_in_one_line(
    flags: list[str], told: str, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "USED").mkdir()
    (tmp_path / "USED" / "thesis.tex").touch()
    words = [str(tmp_path / "USED") if word == "USED" else word for word in flags]
    out = [] if "--out" in flags else ["--out", tmp_path / "probe"]
    assert told in refused(prefrl("reward", "probe", finished, *words, *out), 2)
    assert not (tmp_path / "probe").exists()


def test_a_run_without_a_reward_model_is_refused(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "true", resolve("reacher", teacher="none"))
    RunDirectory.create(tmp_path / "values", resolve("CartPole-v1", algo="dqn"))
    RunDirectory.create(tmp_path / "new", resolve("reacher"))
    for name, told, code in (("true", "nothing to probe", 2), ("values", "dqn", 2), ("new", "no learned reward", 1)):
        assert told in refused(prefrl("reward", "probe", tmp_path / name), code)
    with pytest.raises(UsageError, match="is not a run"):
        probe_request(tmp_path)


def test_agents_are_all_pairs_of_coefficients_and_seeds(finished: Path) -> None:
    request = probe_request(finished, kl="0.1,0,0.1", seeds="2,1")
    assert request.agents == [(0.1, 2), (0.1, 1), (0.0, 2), (0.0, 1)]
    assert request.root(0.1, 2).name == "kl-0.1-seed-2"
    assert request.out.name == f"{finished.name}-probe"
    assert request.steps == RunDirectory.open(finished).config.steps


def test_only_the_first_episode_of_an_environment_counts() -> None:
    dones = np.array([[0, 0], [1, 0], [0, 0], [1, 1], [0, 0]], bool)
    assert first_episodes(dones).T.tolist() == [[True, True, False, False, False], [True, True, True, True, False]]


def linear() -> RewardEnsemble:
    """A reward model whose reward is the first number of the observation."""
    ensemble = RewardEnsemble(RewardConfig(members=1, hidden=(4,)), Inputs((3,)))
    ensemble.reward = lambda steps: steps[..., 0]  # type: ignore[method-assign,assignment]
    return ensemble


def test_the_clips_with_the_highest_excess_are_written_next_to_clips_of_the_reference(tmp_path: Path) -> None:
    def of(number: int, level: float) -> object:
        made = segment(number, rewards=(1.0, 1.0, level))
        made.frames[:, 0] = level
        return made

    found = {"one": [of(1, 3.0), of(2, 1.0)], "two": [of(3, 2.0)]}
    usual = [of(number, 0.5) for number in (4, 5)]
    np.testing.assert_allclose(sums(found["one"], linear()), [9, 3])
    clips = highest(found, usual, linear(), tmp_path / "clips", count=2, arity=2, seed=0)
    assert [(clip.agent, clip.excess) for clip in clips] == [("one", 7.5), ("two", 4.5)]
    assert [clip.true_excess for clip in clips] == [2.5, 1.5]
    assert sorted(number for clip in clips for number in clip.segments) == [0, 1, 2, 3]
    assert len(list((tmp_path / "clips").glob("*.safetensors"))) == 4
    assert highest({}, usual, linear(), tmp_path / "none", count=2, arity=2, seed=0) == []


def test_the_untrained_policy_is_that_with_which_an_algorithm_starts() -> None:
    for algo in ("ppo", "sac"):
        config = resolve("reacher", algo=algo, seed=5, steps=4000)
        stack = make_stack(config)
        model = located(ALGORITHMS[algo].family.algorithm)(config, stack.top)
        state = torch.get_rng_state()
        found = untrained(config, stack.visited.observation_space, stack.top.action_space).state_dict()
        assert torch.equal(state, torch.get_rng_state())
        stack.top.close()
        for name, tensor in model.policy.state_dict().items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


RESULTS = ProbeResults(
    "run",
    "reacher",
    20,
    100,
    "newest",
    [
        Outcome("reference", None, None, 0.0, -1.0, 0.1, -5.0, 1.0, 0.0),
        Outcome("kl-0-seed-0", 0.0, 0, 4.0, 9.0, 0.1, -8.0, 1.0, None),
    ],
    [],
)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    paths = RESULTS.write(tmp_path)
    assert read_results(tmp_path) == RESULTS
    rows = list(csv.DictReader((tmp_path / "probe.csv").read_text().splitlines()))
    assert [(row["agent"], float(row["sqrt_kl"])) for row in rows] == [("reference", 0.0), ("kl-0-seed-0", 2.0)]
    assert [path.name for path in paths] == ["probe.json", "probe.csv", "probe.png"]
    (tmp_path / "probe.json").write_text(json.dumps({"run": 5}))
    with pytest.raises(Exception, match="damaged"):
        read_results(tmp_path)


def test_the_figure_has_a_panel_for_each_scale_and_marks_the_reference() -> None:
    agents = [Outcome(f"kl-{kl:g}", kl, 0, kl, 8.0 + kl, 0.5, -6.0 - kl, 1.0, None) for kl in (4.0, 1.0)]
    drawn = draw(dataclasses.replace(RESULTS, outcomes=[RESULTS.outcomes[0], *agents]))
    predicted, true = drawn.axes
    assert (predicted.get_ylabel(), true.get_ylabel()) == ("predicted return", "true return")
    assert predicted.get_position().y0 > true.get_position().y1  # above it
    assert predicted.get_shared_x_axes().joined(predicted, true)
    for panel, shown, usual in ((predicted, [9.0, 12.0], -1.0), (true, [-7.0, -10.0], -5.0)):
        lines = {held.get_label(): held.lines[0] for held in panel.containers}
        assert lines["agents"].get_xdata().tolist() == [1, 2]  # square roots, sorted
        assert lines["agents"].get_ydata().tolist() == shown
        assert (lines["reference"].get_xdata().tolist(), lines["reference"].get_ydata().tolist()) == ([0], [usual])
        assert lines["reference"].get_marker() != lines["agents"].get_marker()
        assert usual in [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == ":"]
    assert [text.get_text() for text in predicted.get_legend().get_texts()] == ["agents", "reference"]
    assert figure(RESULTS).startswith(b"\x89PNG")


def test_a_probe_trains_judges_and_fills_the_queue(finished: Path, tmp_path: Path) -> None:
    run, out = shutil.copytree(finished, tmp_path / "run"), tmp_path / "probe"
    words = ["reward", "probe", run, "--kl", "0,1", "--steps", "1024", "--episodes", "4", "--clips", "3", "--out", out]
    done = prefrl(*words)
    assert done.code == 0, done.err
    results = read_results(out)
    assert [each.agent for each in results.outcomes] == ["reference", "kl-0-seed-0", "kl-1-seed-0"]
    reference, free, held = results.outcomes
    assert reference.kl == pytest.approx(0, abs=1e-5)
    assert free.kl > 0
    assert held.kl > 0
    assert all(np.isfinite([each.predicted_return, each.true_return]).all() for each in results.outcomes)
    assert results.labels == label_counts(run)[0]
    excess = [clip.excess for clip in results.clips]
    assert len(excess) == 3
    assert excess == sorted(excess, reverse=True)
    before = summary(out / "kl-0-seed-0")
    again = prefrl(*words, "--queue")
    assert again.code == 0, again.err
    assert summary(out / "kl-0-seed-0") == before  # it was not trained again
    assert "3 queries are in the queue" in again.out
    with run_store(RunDirectory.open(run)) as store:
        assert (store.counts()["pending"], store.queued) == (3, True)
    twice = prefrl(*words, "--queue")
    assert twice.code == 2
    assert "in the queue already" in twice.err.splitlines()[-1]
    labels, steps = label_counts(run)[0], summary(run)["steps"]
    few = refused(prefrl("resume", run, "--labels", labels + 2, "--steps", steps + 1024), 2)
    assert f"has {labels} labels and 3 queries in its queue: --labels must be at least {labels + 3}" in few
    with run_store(RunDirectory.open(run)) as store:
        store.closed = True  # which does not empty the queue
    for budget in ([], ["--labels", labels + 2]):
        refused(prefrl("resume", run, *budget, "--steps", steps + 1024), 2)
    resumed = prefrl("resume", run, "--labels", labels + 3, "--steps", steps + 1024)
    assert resumed.code == 0, resumed.err
    assert label_counts(run) == (labels + 3, labels + 3)
