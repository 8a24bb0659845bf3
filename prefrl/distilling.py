"""Distil a trained policy into a student that observes less.

The student clones the teacher's actions, on states that the teacher visits and on those that the student itself visits
(DAgger: Ross et al., 2011). The second kind shows it how to recover from its own errors.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefrl.agents.agent import Agent
from prefrl.arrays import Array
from prefrl.assembly import assemble
from prefrl.bookkeeping.keeper import Keeper
from prefrl.config import RunConfig, replace
from prefrl.config.schema import NO_TEACHER
from prefrl.errors import UsageError
from prefrl.experience.action_spaces import as_numbers
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.environments import make_evaluation_envs
from prefrl.experience.evaluation import Act, Evaluation, evaluate, evaluation_seed, undisturbed
from prefrl.experience.make_env import run_env
from prefrl.experience.observed_parts import chosen_numbers, places_within
from prefrl.experience.segment import Segment
from prefrl.machine.memory import peak_rss_mb
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory
from prefrl.seeding import environment_seed, stream
from prefrl.storage.files import write_json
from prefrl.trained.playing import Policy, policy_in

Tell = Callable[[str], None]
"""Called with what is being done."""


@dataclass(frozen=True)
class DistilSettings:
    """How a student is trained."""

    steps: int = 20_000
    """Steps on which the teacher is cloned, over all rounds."""
    rounds: int = 5
    """Rounds. In the first one the teacher acts, in the others the student does."""
    batches: int = 2000
    """Gradient steps after each round."""
    episodes: int = 10
    """Episodes of the evaluations of both."""
    seed: int = 0

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        for name in ("steps", "rounds", "batches", "episodes"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1")
        if not 0 <= self.seed < 2**32:
            raise UsageError("--seed must be in [0, 2^32)")
        if self.steps > 10**7:
            raise UsageError("--steps must be at most 10,000,000")


@dataclass(frozen=True)
class Distilled:
    """A student and its teacher."""

    student: Path
    observed: tuple[int, ...]
    """Numbers of the observation that the student sees."""
    available: int
    """Numbers of the observation."""
    teacher_evaluation: Evaluation
    student_evaluation: Evaluation

    def lines(self) -> list[str]:
        """Describe the result in lines of text."""
        lost = self.teacher_evaluation.mean - self.student_evaluation.mean
        return [
            f"teacher: {_described(self.teacher_evaluation)}",
            f"student: {_described(self.student_evaluation)}; it observes {len(self.observed)} of {self.available} "
            "numbers",
            f"lost: {lost:.1f} of the mean return",
            f"{self.student}: for `prefrl play`, `prefrl export` and `load_policy`",
        ]


def _described(found: Evaluation) -> str:
    return f"true return {found.mean:.1f} +- {found.std:.1f} over {len(found.returns)} episodes"


def distil(
    root: Path,
    observe: Sequence[str],
    out: Path,
    settings: DistilSettings | None = None,
    *,
    trust: Sequence[str] = (),
    tell: Tell = lambda doing: None,
) -> Distilled:
    """Train a student of a run's policy.

    Args:
        root: The run directory of the teacher.
        observe: What the student observes: places of numbers of the observation, or names of its parts.
        out: A new run directory for the student.
        settings: How it is trained.
        trust: Modules that a run made by someone else may import to create its environment.
        tell: Called with what is being done.

    Raises:
        UsageError: if an argument is invalid, or the observations are images.
        PrefrlError: if the run has no policy yet, or its files are damaged.
    """
    settings = settings or DistilSettings()
    settings.validate()
    run = RunDirectory.open(root).admit(trust)
    if run.config.images:
        raise UsageError(f"{root} observes images, of which no parts can be chosen")
    with ExitStack() as cleanup:
        env = run_env(run.config)
        cleanup.callback(env.close)
        teacher, places = policy_in(run, env), chosen_numbers(env, observe)
        config = _student(run.config, places, settings)
        student = RunDirectory.create(out, config)
        try:
            found = _trained(student, run.config, teacher, settings, cleanup, tell)
        except BaseException:
            shutil.rmtree(out)  # half a student is of no use
            raise
        return Distilled(out, config.observe or (), int(np.prod(env.observation_space.shape or (1,))), *found)


def _student(config: RunConfig, places: Sequence[int], settings: DistilSettings) -> RunConfig:
    """Return the configuration of a student of a run."""
    before = config.observe or range(10**9)
    return replace(
        config,
        {
            "observe": [before[place] for place in places],
            "teacher": NO_TEACHER,
            "seed": settings.seed,
            "demonstrations.source": None,
            "demonstrations.batches": settings.batches,
            "judge.source": None,
            "exploration.steps": 0,
            "exploration.state_entropy": 0.0,
        },
    )


def _trained(
    student: RunDirectory,
    theirs: RunConfig,
    teacher: Policy,
    settings: DistilSettings,
    cleanup: ExitStack,
    tell: Tell,
) -> tuple[Evaluation, Evaluation]:
    """Train a student, save it as a finished run, and return the evaluations of the teacher and of the student."""
    started, parts = time.monotonic(), assemble(student, Control(), cleanup)
    keeper = Keeper(parts)
    keeper.restore()
    _clone_in_rounds(parts.agent, student.config, theirs, teacher, settings, tell)
    tell("evaluating both")
    seed = evaluation_seed(student.config)
    both = [
        evaluate(config, act, episodes=settings.episodes, seed=seed)
        for config, act in ((theirs, teacher.choose), (student.config, parts.agent.act))
    ]
    keeper.records.write(parts.counts)
    keeper.records.add_evaluation(both[1])
    keeper.begin()
    about = {"peak_rss_mb": peak_rss_mb(), "distilled_steps": settings.steps, "teacher_return_mean": both[0].mean}
    write_json(student.summary, keeper.records.summary(time.monotonic() - started) | about, durable=True)
    return both[0], both[1]


def _clone_in_rounds(
    agent: Agent, config: RunConfig, theirs: RunConfig, teacher: Policy, settings: DistilSettings, tell: Tell
) -> None:
    """Alternate between acting and cloning."""
    places = places_within(config.observe, theirs.observe)
    episodes: list[Segment] = []
    for number in range(settings.rounds):
        tell(f"round {number + 1} of {settings.rounds}")
        seed = environment_seed(settings.seed, "demonstrations", number)
        act = teacher.choose if number == 0 else lambda seen: agent.act(seen[:, places])
        before = len(episodes)
        with undisturbed(seed):
            episodes += visited(theirs, act, teacher.choose, places, -(-settings.steps // settings.rounds), seed)
        shown = Demonstrations(config.env_id, config.env_kwargs, tuple(episodes))
        agent.clone(shown, config.demonstrations, stream(config.seed, "demonstrations"), lambda: None, known=before)


def visited(theirs: RunConfig, act: Act, teacher: Act, places: Array | slice, steps: int, seed: int) -> list[Segment]:
    """Let a policy act, and record what the teacher would have done in the states that it visits.

    Args:
        theirs: The teacher's run.
        act: The policy that acts, on the teacher's observations.
        teacher: The teacher.
        places: (P,) places of the numbers that are recorded, or a slice.
        steps: Number of steps, rounded up to whole steps of all environments.
        seed: Seed of the first environment.

    Returns:
        One segment for each environment, with the teacher's actions; episodes follow each other in it.
    """
    envs = make_evaluation_envs(theirs, count := min(theirs.agent.n_envs, steps))
    try:
        envs.seed(seed)
        seen, states, actions, ends = np.asarray(envs.reset()), [], [], []
        for _ in range(-(-steps // count)):
            states.append(seen[:, places])
            actions.append(as_numbers(envs.action_space, np.asarray(teacher(seen))))
            following, _, dones, _ = envs.step(act(seen))
            seen = np.asarray(following)
            ends.append(dones)
    finally:
        envs.close()
    observed, shown, over = np.stack(states, axis=1), np.stack(actions, axis=1), np.stack(ends, axis=1)
    nothing = np.zeros(over.shape[1], np.float32)
    return [Segment(n, observed[n], shown[n], nothing, over[n], np.zeros_like(over[n])) for n in range(count)]
