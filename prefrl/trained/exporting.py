"""Export a run's agent for Stable-Baselines3: a model, and a file with its observation normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from prefrl.config import replace
from prefrl.errors import UsageError
from prefrl.experience.environments import load_normaliser_state, make_stack
from prefrl.experience.user_envs import UserEnv, restore_user_env
from prefrl.registry import ALGORITHMS, located
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import taken_from
from prefrl.trained.playing import policy_of


@dataclass(frozen=True)
class Exported:
    """The files of an exported agent."""

    model: Path
    """For `load` of the class in `algorithm`."""
    normalisation: Path | None
    """For `VecNormalize.load`; None where observations are not normalised."""
    algorithm: str
    """The name of the algorithm's class in Stable-Baselines3 or sb3-contrib."""


def export(root: str | Path, path: str | Path, env: UserEnv | None = None, *, trust: Sequence[str] = ()) -> Exported:
    """Write a run's newest agent as a Stable-Baselines3 model.

    Args:
        root: The run directory.
        path: A new zip file. The normalisation is written next to it, as `NAME.vecnormalize.pkl`.
        env: The environment, for a run that was created with one from Python.
        trust: Modules that a run made by someone else may import to create its environment.

    Raises:
        UsageError: if the directory is not a run, or a file exists already or cannot be written.
        PrefrlError: if the run has no policy yet, or its files are damaged.
    """
    run, target = RunDirectory.open(Path(root).expanduser()).admit(trust), Path(path).expanduser()
    restore_user_env(run.config, env)
    beside = _check_target(target)
    # No reward model, because it is not needed to act; no learning-rate schedule, because that would pickle code.
    plain = {"teacher": "none", "agent.n_envs": 1, "agent.learning_rate_decay": False, "native_engine": False}
    config = replace(run.config, plain)
    stack = make_stack(config)
    try:
        model = located(ALGORITHMS[config.algo].family.algorithm)(config, stack.top)
        state = policy_of(run, model.policy)
        with taken_from(run.checkpoints):
            policy = state["agent"]["policy"]
            model.policy.load_state_dict({name: torch.from_numpy(array) for name, array in policy.items()})
            model.num_timesteps = int(state["agent"]["steps"])
            normaliser = _normaliser(stack.normaliser, state["env"].get("normaliser", {}))
        target.parent.mkdir(parents=True, exist_ok=True)
        model.save(target)
        if normaliser:
            normaliser.save(str(beside))
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        stack.top.close()
    return Exported(target, beside if normaliser else None, _public_name(type(model)))


def _public_name(algorithm: type) -> str:
    """Return the name of the class that a user has: the first one that is not prefrl's."""
    return next(base.__name__ for base in algorithm.__mro__ if not base.__module__.startswith("prefrl"))


def _check_target(target: Path) -> Path:
    """Return the path of the normalisation.

    Raises:
        UsageError: if the target does not end in .zip, or one of the files exists.
    """
    beside = target.with_suffix(".vecnormalize.pkl")
    if target.suffix != ".zip":
        raise UsageError(f"{target} must end in .zip, as Stable-Baselines3's models do")
    for file in (target, beside):
        if file.exists():
            raise UsageError(f"{file} already exists; choose another name")
    return beside


def _normaliser(made: VecNormalize | None, state: dict[str, object]) -> VecNormalize | None:
    """Return the run's observation normalisation with frozen statistics, or None if it has none."""
    if made is None or not made.norm_obs or "observation" not in state:
        return None
    assert isinstance(made.unwrapped, DummyVecEnv)
    load_normaliser_state(made, {"observation": state["observation"]})
    made.training = made.norm_reward = False
    return made
