"""The training loop (paper, section 2.2), from an opened run directory to its summary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

from prefrl.assembly import assemble
from prefrl.bookkeeping.keeper import Keeper
from prefrl.bookkeeping.records import Summary
from prefrl.errors import PrefrlError, explain
from prefrl.experience.env_errors import EnvError
from prefrl.initial_phases import InitialPhases, clone_demonstrations
from prefrl.machine.memory import peak_rss_mb, workers_peak_rss_mb
from prefrl.parts import Parts
from prefrl.runs.control import Control, StopTraining, stop_on_signals
from prefrl.runs.directory import RunDirectory
from prefrl.runs.progress import Phase, Progress
from prefrl.storage.durable import sync
from prefrl.storage.files import write_json


def train_run(run: RunDirectory, control: Control | None = None) -> Summary | None:
    """Train until the run is finished or told to stop.

    Args:
        run: A new or unfinished run.
        control: Stops the training and receives its progress and warnings.

    Returns:
        The content of `summary.json`, or None if the training was stopped; it can then be resumed.

    Raises:
        PrefrlError: for errors that a user can cause. The run can be resumed once the cause is fixed.
    """
    control = control or Control()
    with ExitStack() as cleanup:
        cleanup.callback(run.lock().release)
        try:
            with stop_on_signals(control), _explained_nan():  # the environments are first reset while it is assembled
                parts = assemble(run, control, cleanup)
                with _with_step_count(parts), _explained_nan():
                    return _train(parts)
        except StopTraining:
            _say_ended(run, Phase.STOPPED)
            return None
        except KeyboardInterrupt:
            _say_ended(run, Phase.ABORTED)
            raise
        except BaseException as error:
            _say_ended(run, Phase.FAILED, explain(error))
            raise


def _train(parts: Parts) -> Summary:
    if parts.control.stop:
        raise StopTraining
    keeper = Keeper(parts)
    if not keeper.restore():
        _begin(parts, keeper)
    keeper.evaluate()  # if an evaluation was due when the run was stopped
    _loop(parts, keeper)
    return _finish(parts, keeper)


def _begin(parts: Parts, keeper: Keeper) -> None:
    """Imitate demonstrations, record the first clips, collect the first labels and pretrain the reward model."""
    if parts.feedback:
        InitialPhases(parts, parts.feedback, keeper).run()
    else:
        clone_demonstrations(parts, keeper.reporter)
    keeper.begin()


def _loop(parts: Parts, keeper: Keeper) -> None:
    """Collect experience and improve the agent; every few thousand steps, run a round."""
    agent, feedback = parts.agent, parts.feedback
    agent.asking = feedback is not None and feedback.asker.asking
    while agent.steps < parts.config.steps:
        experience = agent.collect(keeper.reporter.each_step)
        if feedback and experience:
            feedback.recorder.cut(experience)
        if not parts.config.imitates:
            agent.improve(parts.reward)
        if keeper.round_is_due():
            _round(parts, keeper)
    if not keeper.has_last_round:
        _round(parts, keeper, last=True)


def _round(parts: Parts, keeper: Keeper, *, last: bool = False) -> None:
    """Ask for the labels that are due, fit the reward model, and record metrics and checkpoints."""
    feedback, step = parts.feedback, parts.agent.steps
    if feedback:
        feedback.asker.ask(step, keeper.reporter.waiting, last=last)
        parts.agent.asking = feedback.asker.asking
        feedback.learner.fit(step, feedback.asker.replayed_round)
        parts.agent.fitted()
    keeper.record_round(last=last)


def _finish(parts: Parts, keeper: Keeper) -> Summary:
    """Wait for the learner, evaluate the policy, and write the summary."""
    run, seconds = parts.run, keeper.records.seconds
    memory = peak_rss_mb() + workers_peak_rss_mb()
    if parts.feedback:
        parts.feedback.learner.finish()
    keeper.evaluator.evaluate_at_the_end()
    summary = keeper.records.summary(seconds) | {"peak_rss_mb": memory}
    sync(path for path in (run.metrics, run.weights) if path.exists())  # these files are now final
    write_json(run.summary, summary, durable=True)
    return summary


def _say_ended(run: RunDirectory, phase: Phase, problem: str | None = None) -> None:
    with suppress(OSError, PrefrlError):  # the disk may be full; the error is also printed
        said = run.read_progress() or Progress(phase)
        run.write_progress(replace(said, phase=phase, problem=problem, updated_at=time.time()))


@contextmanager
def _with_step_count(parts: Parts) -> Iterator[None]:
    """Add the agent's step count to the error of an environment."""
    try:
        yield
    except EnvError as error:
        raise EnvError(f"after {parts.agent.steps:,} steps, {error}") from error


@contextmanager
def _explained_nan() -> Iterator[None]:
    """Turn errors of Stable-Baselines3 and torch about NaN or infinite values into a one-line PrefrlError."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), "").rstrip(".")
        found = first.startswith("found ") and ("nan" in first or "inf" in first)
        diverged = first.startswith(("Expected parameter ", "probability tensor contains "))
        if diverged or (found and "actions" in first):
            raise PrefrlError(
                "the agent has diverged: its policy is not finite; a lower agent.learning_rate may help"
            ) from None
        if found:
            raise EnvError(f"the environment cannot be trained on: {first}") from None
        raise
