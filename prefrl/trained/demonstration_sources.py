"""Where demonstrations come from: a trained run, a file of `prefrl demonstrate`, or a data set of Minari."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.arrays import Array
from prefrl.config import RunConfig
from prefrl.config.demonstration_config import MINARI
from prefrl.errors import PrefrlError, UsageError, explain
from prefrl.experience.action_spaces import as_numbers, from_environment
from prefrl.experience.adapter import Adapter
from prefrl.experience.demonstrations import Demonstrations, EpisodeTape, episode_of
from prefrl.experience.environments import observed_space, recorded_step
from prefrl.experience.evaluation import Act, undisturbed
from prefrl.experience.make_env import run_env
from prefrl.experience.observed_parts import places_within
from prefrl.experience.segment import Segment
from prefrl.printable import printable
from prefrl.runs.directory import RunDirectory
from prefrl.seeding import environment_seed
from prefrl.trained.playing import policy_in


def demonstrations_for(config: RunConfig, trust: Sequence[str] = ()) -> Demonstrations:
    """Get a new run's demonstrations from their source.

    Args:
        config: The run; `demonstrations.source` says where they come from.
        trust: Modules that a run made by someone else may import to create its environment.

    Returns:
        Demonstrations whose observations and actions are as the run records them.

    Raises:
        UsageError: if there is no such source, or its task, observations or actions are others.
        PrefrlError: if its files are damaged, or a run has no policy yet.
    """
    settings = config.demonstrations
    source = settings.source or ""
    if source.startswith(MINARI):
        found = _of_minari(source.removeprefix(MINARI), config)
    elif (path := Path(source).expanduser()).is_dir():
        found = _of_run(path, config, trust)
    elif path.is_file():
        found = _of_file(path, config)
    else:
        raise UsageError(f"--demonstrations {source}: there is no such run or file")
    kept = found.first(len(found.episodes), settings.steps)
    if not len(kept):
        raise UsageError(f"{source} holds no demonstrated step")
    _check_steps(kept, config, source)
    return kept


def _check_steps(found: Demonstrations, config: RunConfig, source: str) -> None:
    """Raise UsageError unless the steps have the shapes that the run records."""
    recorded = recorded_step(config)
    for episode in found.episodes:
        if not recorded.holds(episode):
            shapes = episode.observations.shape[1:], episode.actions.shape[1:]
            raise UsageError(
                f"{source} holds observations of {_size(shapes[0])} and actions of {_size(shapes[1])}, whereas "
                f"{config.task} has {recorded}"
            )


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _of_file(path: Path, config: RunConfig) -> Demonstrations:
    found = Demonstrations.load(path)
    if (found.env_id, found.env_kwargs) != (config.env_id, config.env_kwargs):
        raise UsageError(f"{path} demonstrates {_task(found)}, not {_task(config)}")
    env = run_env(config)
    env.close()
    return Demonstrations(config.env_id, config.env_kwargs, tuple(_arranged(found.episodes, config, env)))


def _arranged(episodes: Sequence[Segment], config: RunConfig, env: Adapter) -> Iterator[Segment]:
    """Arrange the observations of the environment as a run records them: images have channels first."""
    for episode in episodes:
        if observed_space(config, env.observation_space) == env.observation_space:
            yield episode
        else:
            ends = episode.true_rewards.tolist(), episode.terminated.tolist(), episode.truncated.tolist()
            yield episode_of(episode.id, np.moveaxis(episode.observations, -1, 1), episode.actions, *ends)


def _task(about: Demonstrations | RunConfig) -> str:
    """Name an environment with its arguments."""
    named = "".join(f" {name}={value!r}" for name, value in about.env_kwargs.items())
    return f"{about.env_id}{named}"


def _of_run(root: Path, config: RunConfig, trust: Sequence[str]) -> Demonstrations:
    """Let a run's policy play, from seeds of the new run, so that both modes and all machines see the same."""
    run = RunDirectory.open(root).admit(trust)
    if _task(run.config) != _task(config):
        raise UsageError(f"{root} was trained in {_task(run.config)}, not {_task(config)}")
    act, settings = _acting(run, config), config.demonstrations
    env = run_env(config)
    try:
        seed = environment_seed(config.seed, "demonstrations")
        episodes: list[Segment] = []
        with undisturbed(seed):
            while len(episodes) < settings.episodes and sum(map(len, episodes)) < settings.steps:
                tape = played(env, act, config, seed + len(episodes), settings.steps)
                episodes.append(tape.episode(len(episodes)))
    finally:
        env.close()
    return Demonstrations(config.env_id, config.env_kwargs, tuple(_arranged(episodes, config, env)))


def _acting(run: RunDirectory, config: RunConfig) -> Act:
    """Load a run's policy, to act on what a new run observes, which may be more numbers than those of a student."""
    try:
        places = places_within(run.config.observe, config.observe)
    except UsageError as error:
        raise UsageError(f"--demonstrations {printable(run.root)} {error}") from None
    env = run_env(run.config)
    env.close()
    policy = policy_in(run, env)
    return lambda seen: policy.choose(seen[..., places])


def played(env: Adapter, act: Act, config: RunConfig, seed: int, most_steps: int) -> EpisodeTape:
    """Play an episode of a policy's mean action, and record it.

    Args:
        env: The environment.
        act: The policy.
        config: The run, whose limit of an evaluation's episode applies.
        seed: Seed of the episode.
        most_steps: Another limit of its steps.
    """
    tape, (observation, _) = EpisodeTape(config.frame_stack), env.reset(seed=seed)
    for _ in range(min(config.evaluation.max_steps, most_steps)):
        action = act(observation)
        following, reward, terminated, truncated, _ = env.step(action)
        numbers = as_numbers(env.action_space, np.asarray(action))
        tape.add(observation, numbers, reward, terminated=terminated, truncated=truncated)
        if terminated or truncated:
            break
        observation = following
    return tape


def _of_minari(name: str, config: RunConfig) -> Demonstrations:
    """Read a local data set. Its spaces must be those of the task; the environment may have another name."""
    if importlib.util.find_spec("minari") is None or importlib.util.find_spec("h5py") is None:
        raise UsageError(f"--demonstrations minari:{name} needs Minari: pip install 'minari[hdf5]'")
    import minari  # noqa: PLC0415 - optional

    try:
        data = minari.load_dataset(name)
    except Exception as error:  # of Minari and of what it reads with
        raise PrefrlError(f"the Minari data set {name} cannot be read: {explain(error)}") from None
    env = run_env(config)
    env.close()
    _check_spaces(name, data, env, config)
    episodes, steps, settings = [], 0, config.demonstrations
    for number, episode in enumerate(data.iterate_episodes()):
        if number >= settings.episodes or steps >= settings.steps:
            break
        episodes.append(_minari_episode(number, episode, env, config))
        steps += len(episodes[-1])
    return Demonstrations(config.env_id, config.env_kwargs, tuple(_arranged(episodes, config, env)))


def _check_spaces(name: str, data: Any, env: Adapter, config: RunConfig) -> None:
    for what, theirs, ours in (
        ("observations", data.observation_space, env.observation_transform.source),
        ("actions", data.action_space, env.own_actions),
    ):
        if type(theirs) is not type(ours) or getattr(theirs, "shape", None) != getattr(ours, "shape", None):
            raise UsageError(f"the {what} of the Minari data set {name} are {theirs}, those of {config.task} {ours}")


def _minari_episode(number: int, episode: Any, env: Adapter, config: RunConfig) -> Segment:
    """Convert an episode, which has one observation more than actions."""
    length = len(episode.rewards)
    observations: Array = env.observation_transform.many(episode.observations)[:length]
    actions = as_numbers(env.action_space, from_environment(env.own_actions, episode.actions))
    observations = observations.astype(env.observation_space.dtype, copy=False)
    ends = episode.terminations.tolist(), episode.truncations.tolist()
    rewards = episode.rewards.tolist()
    return episode_of(number, observations, actions, rewards, *ends, stack=config.frame_stack)
