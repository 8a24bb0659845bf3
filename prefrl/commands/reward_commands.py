"""The commands `prefrl reward`. Slow imports happen inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from tyro.conf import Positional

from prefrl.commands.arguments import Trust
from prefrl.printable import complain, say

if TYPE_CHECKING:
    from prefrl.probing.request import ProbeRequest
    from prefrl.runs.control import Control

reward_app = tyro.extras.SubcommandApp()
_STOPPED = "prefrl: stopped; the same command goes on"


@reward_app.command
def fit(
    run: Positional[Path],
    /,
    *,
    holdout: float = 0.2,
    seed: int = 0,
    comparisons: int | None = None,
    out: Path | None = None,
    trust: Trust = (),
) -> None:
    """Fit a new reward model to a run's labels, and report its accuracy on held-out labels.

    Args:
        run: The run directory; the run may be running.
        holdout: The share of held-out labels.
        seed: Seed of the choice of held-out labels, and of the fit.
        comparisons: Number of comparisons to fit (default: as many as in the run, at most 40,000).
        out: A new file for the weights (default: reward_model/fitted.safetensors in the run).
        trust: A module that a run made by someone else may import to create its environment.
    """
    from prefrl.commands.display import CountDisplay
    from prefrl.reward.fit_request import fit_request

    wanted = fit_request(run, holdout=holdout, seed=seed, comparisons=comparisons, out=out)
    wanted.run.admit(trust)
    with CountDisplay("comparisons") as display:
        display.say(f"{run}: reading {wanted.labels} labels")
        from prefrl.reward.refit import refit

        told = display.report
        fitted = refit(run, holdout=holdout, seed=seed, comparisons=comparisons, out=out, report=told, trust=trust)
    say(fitted.lines())


@reward_app.command
def outcomes(
    run: Positional[Path],
    /,
    *,
    folds: int = 5,
    seed: int = 0,
    comparisons: int | None = None,
    out: Path | None = None,
    trust: Trust = (),
) -> None:
    """Cross-validate how well left, right and can't tell are predicted: risk against coverage, and calibration.

    Args:
        run: The run directory; the run may be running.
        folds: Number of parts of the answers, each of which is predicted from the others.
        seed: Seed of the folds, and of the fits.
        comparisons: Number of comparisons to fit for each fold (default: as many as in the run, at most 40,000).
        out: A new or empty folder for the results (default: the run's name with -outcomes added).
        trust: A module that a run made by someone else may import to create its environment.
    """
    from prefrl.commands.display import CountDisplay
    from prefrl.reward.outcome_request import outcome_request

    wanted = outcome_request(run, folds=folds, seed=seed, comparisons=comparisons, out=out)
    wanted.run.admit(trust)
    with CountDisplay("comparisons") as display:
        display.say(f"{run}: reading {wanted.answers} answers")
        from prefrl.reward.cross_validation import cross_validate

        told = display.report
        found = cross_validate(run, folds=folds, seed=seed, comparisons=comparisons, out=out, report=told, trust=trust)
    say([*found.lines(), f"results: {wanted.out}"])


@reward_app.command
def probe(
    run: Positional[Path],
    /,
    *,
    kl: str | None = None,
    seeds: str = "0",
    steps: int | None = None,
    reference: Literal["newest", "initial"] = "newest",
    episodes: int = 10,
    clips: int = 10,
    queue: bool = False,
    watch: bool = False,
    out: Path | None = None,
    trust: Trust = (),
) -> int:
    """Train fresh agents on a run's reward model while it is frozen, and compare predicted with true returns.

    The same command goes on where it was stopped.

    Args:
        run: The run directory.
        kl: Coefficients of the KL penalty, separated by commas (default: 0,0.001,0.01,0.1,1).
        seeds: Seeds of the agents for each coefficient, separated by commas.
        steps: Steps of each agent (default: as many as the run has).
        reference: The reference policy: the run's newest one, or the untrained one that it started from.
        episodes: Episodes that each policy is judged by.
        clips: Number of clips to keep, those with the highest predicted excess over the reference.
        queue: Put these clips into the run's queue, each next to a clip of the reference.
        watch: Show these clips in a window, each next to a clip of the reference.
        out: Folder for the agents and the results (default: the run's name with -probe added).
        trust: A module that a run made by someone else may import to create its environment.
    """
    from prefrl.commands.display import CountDisplay
    from prefrl.probing.request import probe_request
    from prefrl.runs.control import Control, StopTraining, stop_on_signals

    initial = reference == "initial"
    wanted = probe_request(
        run, kl=kl, seeds=seeds, steps=steps, initial=initial, episodes=episodes, clips=clips, watch=watch, out=out
    )
    wanted.run.admit(trust)
    control = Control(warn=complain)
    with stop_on_signals(control), CountDisplay("steps") as display:
        display.say(f"{run}: {len(wanted.agents)} agents of {wanted.steps:,} steps, in {wanted.out}")
        from prefrl.probing.probe import probe as probe_run
        from prefrl.probing.queueing import queue_clips, queued_line

        try:
            results = probe_run(wanted, display.report, control=control, trust=trust)
        except StopTraining:
            complain(_STOPPED)
            return 1
        added = queue_clips(wanted) if queue else 0
    say([*results.lines(), f"results: {wanted.out}"])
    if added:
        say([queued_line(wanted, added)])
    return _watch(wanted, control) if watch else 0


def _watch(request: ProbeRequest, control: Control) -> int:
    """Show the clips of a probe, and return the exit status."""
    from prefrl.commands.plugins import window
    from prefrl.runs.control import StopTraining, stop_on_signals

    sys.stdout.flush()  # Qt may end the process
    try:
        with stop_on_signals(control):
            window("probe")(request, control)
    except StopTraining:
        complain(_STOPPED)
        return 1
    return 0
