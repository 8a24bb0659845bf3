"""The commands `prefrl reward`. Slow imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path

import tyro
from tyro.conf import Positional

from prefrl.commands.arguments import Trust
from prefrl.printable import say

reward_app = tyro.extras.SubcommandApp()


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
