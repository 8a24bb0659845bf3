"""From one command to a policy that plays: the files of a run and their uses."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import pickle
import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import prefrl_envs  # noqa: F401 - registers the tasks
import pytest
from runs import LABELS, STEPS, apart, label_counts, policy, prefrl, stored_labels, summary, tiny
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

import prefrl as package

REPOSITORY = Path(__file__).parent.parent
SUMMARY_FIELDS = {
    "task", "algo", "feedback", "learner", "teacher", "mode", "seed", "steps", "labels_requested", "labels_answered",
    "labels_equal", "labels_incomparable", "labels_unusable", "label_seconds", "true_return_mean", "true_return_std",
    "labels_by_teacher", "evaluation_return_mean", "evaluation_return_std", "evaluation_episodes", "success_rate",
    "evaluation_success_rate", "reward_correlation", "reward_updates", "policy_entropy", "state_entropy",
    "kl_to_reference", "kl_beta", "occupancy_divergence",
    "warnings", "steps_per_second", "wall_seconds", "peak_rss_mb", "version", "commit",
}  # fmt: skip


@pytest.fixture(scope="module", params=["sync", "async"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    root = tmp_path_factory.mktemp("e2e") / "run"
    done = apart(*tiny("reacher", root, "--mode", request.param, "--seed", "3"))
    assert done.code == 0, done.err
    return root


# -- what a run leaves behind ---------------------------------------------------------------------------------------


def test_summary_has_exactly_the_fields_of_the_contract(run: Path) -> None:
    figures = summary(run)
    assert set(figures) == SUMMARY_FIELDS
    assert (figures["task"], figures["algo"], figures["teacher"], figures["seed"]) == ("reacher", "ppo", "oracle", 3)
    assert (figures["feedback"], figures["learner"]) == ("comparison", "reward-model")
    assert (figures["labels_requested"], figures["labels_answered"]) == (LABELS, LABELS)
    assert label_counts(run) == (LABELS, LABELS)
    assert figures["labels_incomparable"] == 0
    assert STEPS <= figures["steps"] < STEPS + 512
    assert -60 < figures["true_return_mean"] < 0
    assert -1 <= figures["reward_correlation"] <= 1
    assert figures["reward_updates"] >= 10
    assert figures["steps_per_second"] == pytest.approx(figures["steps"] / figures["wall_seconds"], rel=0.05)
    assert 100 < figures["peak_rss_mb"] < 10_000
    assert figures["version"] == json.loads((run / "config.json").read_text())["prefrl"]


def test_the_last_row_of_the_metrics_is_the_summary_s(run: Path) -> None:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    figures = summary(run)
    assert float(rows[-1]["true_return_mean"]) == pytest.approx(figures["true_return_mean"], rel=1e-6)
    assert int(rows[-1]["step"]) == figures["steps"]
    assert int(rows[-1]["episodes"]) == figures["steps"] // (8 * 50) * 8  # 8 environments, episodes of 50 steps
    assert int(rows[-1]["labels"]) == LABELS
    gaps = np.diff([int(row["step"]) for row in rows[:-1]])
    assert (gaps >= 512).all()
    assert {"time_seconds", "time_steps_per_second"} <= set(rows[0])


def test_the_run_directory_holds_the_files_of_the_contract(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {
        "config.json",
        "labels.sqlite",
        "clips",
        "reward_model",
        "checkpoints",
        "metrics.csv",
        "summary.json",
    } <= names
    config = json.loads((run / "config.json").read_text())
    assert {"format", "prefrl", "commit", "seed", "packages", "config"} <= set(config)
    assert config["seed"] == 3
    assert {"torch", "gymnasium", "stable-baselines3", "mujoco"} <= set(config["packages"])
    segments = {row[3] for row in stored_labels(run)} | {row[4] for row in stored_labels(run)}
    assert {int(path.stem) for path in (run / "clips").glob("*.safetensors")} >= segments
    assert list((run / "reward_model").glob("*.safetensors"))
    assert not list(run.rglob("*.tmp"))


def test_nothing_in_a_run_is_a_pickle(run: Path) -> None:
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert path.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".zip", ".npz", ".npy"}, path
        assert not zipfile.is_zipfile(path), path
        assert is_safetensors(path) or not is_pickle(path.read_bytes()), path


def is_safetensors(path: Path) -> bool:
    """Whether the whole file is a header of JSON and the bytes that it names, which nothing unpickles."""
    try:
        with safe_open(path, framework="np"):
            return path.suffix == ".safetensors"
    except SafetensorError:
        return False


def is_pickle(data: bytes) -> bool:
    """Whether the data starts with a whole pickle; the first bytes of any file may look like the beginning of one."""
    try:
        pickletools.dis(data, io.StringIO())
    except Exception:
        return False
    return len(data) > 1


def test_the_checks_for_pickles_know_one(tmp_path: Path) -> None:
    pickles = [pickle.dumps({"a": [1, 2]}, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    assert all(is_pickle(data) for data in pickles)
    for number, data in enumerate(pickles):
        file = tmp_path / f"{number}.safetensors"
        file.write_bytes(data)
        assert not is_safetensors(file)


def test_a_header_whose_length_reads_as_an_opcode_is_not_a_pickle(tmp_path: Path) -> None:
    """A header of 0x..58 bytes starts like a pickled text."""
    file = tmp_path / "x.safetensors"
    for size in range(600):
        save_file({"weights": np.zeros(3, np.float32)}, file, metadata={"plain": "." * size})
        if file.read_bytes()[:1] == b"X":
            break
    assert file.read_bytes()[:1] == b"X"
    assert is_safetensors(file)


def test_tensorboard_events_are_there(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (run / "tensorboard").glob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    tags = set(accumulator.Tags()["scalars"])
    assert {"prefrl/labels", "prefrl/reward_correlation", "prefrl/true_return_mean"} <= tags
    labels = accumulator.Scalars("prefrl/labels")
    assert labels[-1].value == LABELS
    assert labels[-1].step == summary(run)["steps"]


# -- what can be made of it -----------------------------------------------------------------------------------------


def test_the_policy_from_python(run: Path) -> None:
    act = package.load_policy(run)
    env = gymnasium.make("prefrl/Reacher-v0")
    observation, _ = env.reset(seed=0)
    action = act(observation)
    assert action.shape == env.action_space.shape
    assert env.action_space.contains(action.astype(np.float32))
    np.testing.assert_array_equal(action, act(observation))
    batch = act(np.stack([observation, 2 * observation]))
    np.testing.assert_allclose(batch[0], action, rtol=1e-5, atol=1e-6)
    assert not np.allclose(batch[0], batch[1])
    assert not np.array_equal(act(observation, deterministic=False), act(observation, deterministic=False))
    env.close()


def test_the_reward_from_python(run: Path) -> None:
    reward = package.load_reward(run)
    env = gymnasium.make("prefrl/Reacher-v0")
    env.action_space.seed(0)
    observations, actions, true = [], [], []
    for episode in range(4):
        observation, _ = env.reset(seed=episode)
        for _ in range(50):
            observations.append(observation)
            actions.append(env.action_space.sample())
            observation, step_reward, *_ = env.step(actions[-1])
            true.append(float(step_reward))
    env.close()
    predicted = reward(np.array(observations), np.array(actions))
    assert predicted.shape == (200,)
    assert np.isfinite(predicted).all()
    assert 0.05 < predicted.std() < 10
    assert float(reward(np.array(observations[:1]), np.array(actions[:1]))[0]) == pytest.approx(predicted[0], abs=1e-4)


def test_train_from_python(tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []
    settings = {"agent.n_steps": 64, "round_steps": 1024, "reward.pretrain_comparisons": 640}
    run = package.train(
        "pendulum",
        labels=10,
        steps=3000,
        mode="sync",
        seed=1,
        out=tmp_path / "run",
        settings=settings,
        report=seen.append,
    )
    assert run.summary == summary(run.root)
    assert run.summary["labels_answered"] == 10
    assert run.root == tmp_path / "run"
    assert seen[-1].step == run.summary["steps"]
    command = tmp_path / "command"
    flags = ("--labels", "10", "--steps", "3000", "--mode", "sync", "--seed", "1", "--out", command)
    pairs = [f"{name}={value}" for name, value in settings.items()]
    assert prefrl("train", "pendulum", *flags, "--set", *pairs).code == 0
    for name, array in policy(command).items():
        np.testing.assert_array_equal(array, policy(run.root)[name])


# -- generic ids ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task", ["Pendulum-v1", "CartPole-v1", "MountainCarContinuous-v0", "prefrl/Swimmer-v0", "Hopper-v5"]
)
def test_any_suitable_environment_trains(task: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    done = prefrl(*tiny(task, root, "--mode", "sync"))
    assert done.code == 0, done.err
    figures = summary(root)
    assert figures["steps"] >= STEPS
    assert figures["labels_answered"] == LABELS
    assert label_counts(root) == (LABELS, LABELS)
    with gymnasium.make(task) as env:
        observation, _ = env.reset(seed=0)
        act, reward = package.load_policy(root), package.load_reward(root)
        action = act(observation)
        assert env.action_space.contains(action)
        assert reward(observation[None], np.asarray(action)[None]).shape == (1,)


def test_true_returns_under_hidden_endings_are_those_of_the_real_episodes(tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert prefrl(*tiny("CartPole-v1", root, "--mode", "sync")).code == 0
    figures = summary(root)
    assert 8 < figures["true_return_mean"] < 200  # one a step until the pole falls
    with (root / "metrics.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    assert int(last["episodes"]) * 500 > figures["steps"] * 2  # far more endings than time limits


def test_an_ablation_and_the_paper_recipe_train(tmp_path: Path) -> None:
    for name, flags in (("ablation", ["--ablation", "no-ensemble"]), ("recipe", ["--recipe", "paper"])):
        root = tmp_path / name
        done = prefrl(*tiny("pendulum", root, "--mode", "sync", *flags))
        assert done.code == 0, done.err
        config = json.loads((root / "config.json").read_text())["config"]
        assert config[name] == flags[1]
        assert summary(root)["labels_answered"] == LABELS


# -- somebody else's machine ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel_works_from_a_folder_with_its_own_envs_and_benchmarks(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--quiet",
        "--wheel-dir",
        str(tmp_path),
        str(REPOSITORY),
    ]
    if importlib.util.find_spec("hatchling"):
        build.insert(5, "--no-build-isolation")
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    if built.returncode and "No matching distribution" in built.stderr:
        pytest.skip("the build backend cannot be fetched here")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("prefrl-*.whl")
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(target), str(wheel)]
    subprocess.run(install, capture_output=True, check=True)
    assert {"prefrl", "prefrl_envs", "prefrl_benchmarks", "clip_viewer"} <= {path.name for path in target.iterdir()}
    assert not (target / "envs").exists()
    for name in ("envs", "benchmarks"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "__init__.py").write_text("raise RuntimeError('not mine')\n")
    variables = os.environ | {"PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=elsewhere, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = python(
        "-c",
        "import prefrl as p, prefrl_envs as e, prefrl_benchmarks as b; print(p.__file__, e.__file__, b.__file__)",
    )
    assert all(path.startswith(str(target)) for path in where.split())
    assert "reacher" in python("-m", "prefrl", "tasks")
    cells = "from prefrl_benchmarks.suites import find_suite; print(len(find_suite('smoke').cells()))"
    assert int(python("-c", cells)) > 0
    assert (target / "prefrl_benchmarks" / "report" / "report.html.jinja").exists()
    out = python("-m", "prefrl", *tiny("reacher", elsewhere / "run", steps=2500))
    assert "finished" in out
    assert summary(elsewhere / "run")["labels_answered"] == LABELS
    assert summary(elsewhere / "run")["commit"] is None
