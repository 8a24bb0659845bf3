"""Python functions beyond the command line: own environments, exported agents, a learned reward as a wrapper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import oddities
import pytest
from helpers import for_algo
from runs import environment, prefrl, refused
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import prefrl as package
from prefrl.api import TrainedRun
from prefrl.errors import UsageError

SETTINGS = {
    "agent.n_envs": 2,
    "agent.n_steps": 32,
    "agent.n_epochs": 1,
    "round_steps": 64,
    "reward.pretrain_comparisons": 32,
    "queries.segment_length": 5,
    "evaluation.episodes": 0,
}


def trained(task: object, out: Path | str, **changes: object) -> TrainedRun:
    chosen: dict[str, object] = {"steps": 384, "labels": 6, "mode": "sync", "settings": SETTINGS}
    return package.train(task, out=out, **chosen | changes)  # type: ignore[arg-type]


def made_by_a_function(render_mode: str | None = None) -> gymnasium.Env:  # type: ignore[type-arg]
    return oddities.Lamp(render_mode)


GIVEN = {
    "class": (oddities.NeedsLevel, {"level": 1}),
    "function": (made_by_a_function, {}),
    "environment": (oddities.Lamp(), {}),
    "wrapped": (gymnasium.wrappers.TimeLimit(oddities.Lamp(), 10), {}),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_an_environment_of_one_s_own_trains_and_is_given_again(kind: str, tmp_path: Path) -> None:
    env, env_kwargs = GIVEN[kind]
    before = set(gymnasium.registry)
    run = trained(env, tmp_path / "run", env_kwargs=env_kwargs)
    assert run.summary is not None
    (name,) = [each for each in gymnasium.registry if each.startswith("python/") and each not in before]
    del gymnasium.registry[name]  # as in another process
    with pytest.raises(UsageError, match="pass it as env="):
        package.load_policy(run.root)
    assert "pass it as env=" in refused(prefrl("resume", run.root, "--steps", "500"), 2)
    assert package.load_policy(run.root, env=env)(np.zeros(2, np.float32)) in (0, 1, 2)
    assert package.resume(run.root, steps=512, env=env).summary["steps"] >= 512  # type: ignore[index]
    del gymnasium.registry[name]


def test_what_is_no_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="vector of environments"):
        trained(DummyVecEnv([oddities.Lamp]), tmp_path / "a")
    with pytest.raises(UsageError, match="is not an environment"):
        trained(3, tmp_path / "a")
    with pytest.raises(UsageError, match="cannot be stored as JSON"):
        trained(oddities.NeedsLevel, tmp_path / "a", env_kwargs={"level": object()})
    one = oddities.Lamp()
    with pytest.raises(UsageError, match="the same environment each time"):
        trained(lambda: one, tmp_path / "a")
    with pytest.raises(UsageError, match="process that renders it"):
        trained(lambda: oddities.Lamp("rgb_array"), tmp_path / "a", teacher="human")
    assert not (tmp_path / "a").exists()
    for name in [each for each in gymnasium.registry if each.startswith("python/")]:
        del gymnasium.registry[name]


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = trained("oddities:Lamp-v0", "~/runs/x", teacher="none")
    assert run.root == tmp_path / "runs" / "x"
    assert package.load_policy("~/runs/x")(np.zeros(2, np.float32)) in (0, 1, 2)


@pytest.mark.parametrize(("name", "algo"), [("Lamp", PPO), ("Dictionary", PPO), ("FromFive", A2C), ("Fractions", PPO)])
def test_an_exported_agent_acts_as_the_run_s(name: str, algo: type[PPO], tmp_path: Path) -> None:
    root, file = tmp_path / "run", tmp_path / "agent.zip"
    own_name = algo.__name__.lower()
    trained(f"oddities:{name}-v0", root, algo=own_name, settings=for_algo(own_name, SETTINGS))
    done = prefrl("export", root, file)
    assert done.code == 0, done.err
    assert f"{algo.__name__}.load" in done.out
    own = gymnasium.make(f"oddities:{name}-v0", disable_env_checker=True)
    env = package.adapt(gymnasium.make(f"oddities:{name}-v0", disable_env_checker=True))
    vector, model = DummyVecEnv([lambda: env]), algo.load(file)
    beside = file.with_suffix(".vecnormalize.pkl")
    normaliser = VecNormalize.load(str(beside), vector) if beside.exists() else None
    assert (normaliser is None) == (name == "Fractions")
    policy = package.load_policy(root)
    observation, _ = own.reset(seed=3)
    seen, _ = env.reset(seed=3)
    for _ in range(10):
        batch = np.asarray(seen)[None]
        chosen = model.predict(normaliser.normalize_obs(batch) if normaliser else batch, deterministic=True)[0][0]
        action = policy(observation)
        assert int(chosen) + (5 if name == "FromFive" else 0) == action
        observation, *_ = own.step(action)
        seen, *_ = env.step(chosen)
    assert "already exists" in refused(prefrl("export", root, file), 2)
    assert "must end in .zip" in refused(prefrl("export", root, tmp_path / "agent.pt"), 2)


def test_a_learned_reward_takes_the_place_of_an_environment_s_own(tmp_path: Path) -> None:
    root = tmp_path / "run"
    trained("oddities:Dictionary-v0", root)
    reward = package.load_reward(root)
    env = package.LearnedReward(gymnasium.make("oddities:Dictionary-v0", disable_env_checker=True), root)
    before, _ = env.reset(seed=1)
    for action in (0, 1, 2, 2):
        after, learned, _, _, info = env.step(action)
        assert learned == reward(before, action)
        assert info["true_reward"] == -abs(after["at"] - after["lamp"][0])
        before = after


def test_a_script_without_its_guard_is_warned(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import prefrl\nprefrl.train('reacher', out='run', steps=6000, labels=20)\n")
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert 'if __name__ == "__main__":' in done.stderr
    assert "unfinished run" not in done.stderr
