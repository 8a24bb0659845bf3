"""Reward models of every kind of feedback are frozen, probed, and judge, where they can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from runs import SETTINGS, prefrl, refused, summary, tiny

from prefrl import load_reward
from prefrl.probing.results import read_results
from prefrl.runs.directory import RunDirectory

MIXED = "comparison:1,rating:2,marks:1"
FROZEN = ["--steps", "2048", "--mode", "sync", "--set", *SETTINGS]
FEEDBACK = ["rating", "marks", MIXED]


def quick(task: str, out: Path, *flags: str | Path) -> list[str]:
    return tiny(task, out, *map(str, flags), "--mode", "sync", steps=2048)


@pytest.fixture(scope="module", params=FEEDBACK)
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that has learned a reward from labels of a kind, or of several."""
    root = tmp_path_factory.mktemp("learned") / "run"
    done = prefrl(*quick("reacher", root, "--feedback", request.param))
    assert done.code == 0, done.err
    return root


@pytest.mark.parametrize("feedback", ["comparison", "rating"])
def test_an_agent_is_trained_on_a_frozen_reward(learned: Path, feedback: str, tmp_path: Path) -> None:
    words = ["--reward", learned, "--feedback", feedback, "--out", tmp_path / "frozen"]
    done = prefrl("train", "reacher", *words, *FROZEN)
    assert done.code == 0, done.err
    assert summary(tmp_path / "frozen")["labels_answered"] == 0
    first, frozen = load_reward(learned), load_reward(tmp_path / "frozen")
    observations = np.random.default_rng(0).normal(size=(50, 10))
    actions = np.random.default_rng(1).uniform(-1, 1, size=(50, 2))
    np.testing.assert_allclose(first(observations, actions), frozen(observations, actions))


def test_a_probe_trains_agents_on_it(learned: Path, tmp_path: Path) -> None:
    out = tmp_path / "probe"
    words = ["--kl", "0", "--steps", "1024", "--episodes", "2", "--clips", "2", "--out", out]
    done = prefrl("reward", "probe", learned, *words)
    assert done.code == 0, done.err
    results = read_results(out)
    assert [each.agent for each in results.outcomes] == ["reference", "kl-0-seed-0"]
    arity = 2 if "comparison" in RunDirectory.open(learned).config.shares else 1
    assert [len(clip.segments) for clip in results.clips] == [arity] * 2


def test_it_judges_comparisons_if_it_learned_from_some(learned: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "fitted.safetensors"
    done = prefrl("reward", "fit", learned, "--out", fitted, "--comparisons", "320")
    assert done.code == 0, done.err
    for source in (learned, fitted):
        words = quick("reacher", tmp_path / f"judged-{source.name}", "--teacher", f"judge:{source}")
        if "comparison" in RunDirectory.open(learned).config.shares:
            done = prefrl(*words)
            assert done.code == 0, done.err
            assert summary(tmp_path / f"judged-{source.name}")["labels_by_teacher"] == {"judge": 20}
        else:
            said = refused(prefrl(*words), 2)
            assert "but the run asks for comparison" in said


def test_a_run_without_a_reward_model_says_what_it_does_instead(tmp_path: Path) -> None:
    imitates = prefrl(*quick("reacher", tmp_path / "best", "--feedback", "rating", "--learner", "imitation"))
    assert imitates.code == 0, imitates.err
    for flag, value in (("--reward", ""), ("--teacher", "judge:")):
        words = [flag, f"{value}{tmp_path / 'best'}", "--out", tmp_path / "no"]
        said = refused(prefrl("train", "reacher", *words, *FROZEN), 2)
        assert said.endswith("imitates its best clips: it has learned no reward model")
    assert not (tmp_path / "no").exists()


def test_a_probe_that_cannot_begin_leaves_no_folder(learned: Path, tmp_path: Path) -> None:
    (learned / "reward_model" / "weights.safetensors").rename(tmp_path / "kept")
    (learned / "reward_model" / "weights.safetensors").write_bytes(b"damaged")
    try:
        done = prefrl("reward", "probe", learned, "--kl", "0", "--out", tmp_path / "probe")
        assert (done.code, "is damaged" in done.err) == (1, True)
        assert not (tmp_path / "probe").exists()
    finally:
        (tmp_path / "kept").rename(learned / "reward_model" / "weights.safetensors")
