"""The command `prefrl bench anatomy`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from prefrl.commands.arguments import Trust
from prefrl.config.request import Settings
from prefrl.printable import say
from prefrl_benchmarks.measure.anatomy.folder import RESULT, check_out
from prefrl_benchmarks.requirements import need_libraries

Variants = Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], arg(name="variant", metavar="NAME [KEY=VALUE ...]")]


def anatomy(
    run: Positional[Path],
    /,
    *,
    out: Path,
    labels: tuple[int, ...] = (),
    settings: Settings = {},  # noqa: B006 - tyro shows the default, and nothing changes it
    variants: Variants = (),
    comparisons: int | None = None,
    holdout: float = 0.2,
    seeds: int = 1,
    noise: tuple[float, ...] = (0.0, 0.3, 1.0),
    episodes: int = 3,
    trust: Trust = (),
) -> None:
    """Fit reward models to more and more of a run's labels, and show how their rewards lie along whole games.

    Args:
        run: The run directory; the run may be running.
        out: Folder for anatomy.json, anatomy.csv and the figures.
        labels: Numbers of labels to fit (default: a quarter, half and all of those that are not held out).
        settings: Settings of all variants, e.g. reward.members=5.
        variants: A reward model to compare: a name, and its settings (default: one with the run's own settings).
        comparisons: Comparisons that each member fits (default: as many as in the run, at most 40,000).
        holdout: The share of held-out labels. Accuracy is measured on those that are no ties.
        seeds: Number of fits (seeds 0, 1, ...) of each variant with each number of labels.
        noise: Fractions of random actions in the games; none to play no games.
        episodes: Number of games with each fraction.
        trust: A module that a run made by someone else may import to create its environment.
    """
    from prefrl.commands.display import CountDisplay
    from prefrl_benchmarks.measure.anatomy.request import Games, anatomy_request

    need_libraries()
    check_out(out)
    request = anatomy_request(
        run,
        labels=labels,
        settings=settings,
        variants=variants,
        comparisons=comparisons,
        holdout=holdout,
        seeds=seeds,
        games=Games(noise, episodes),
        trust=trust,
    )
    with CountDisplay("comparisons") as display:
        display.say(f"{run}: reading the labels")
        from prefrl_benchmarks.measure.anatomy.files import write_anatomy, write_fits
        from prefrl_benchmarks.measure.anatomy.measure import measure, report_lines

        out.mkdir(parents=True, exist_ok=True)
        result = measure(request, display.report, partial(write_fits, out))
    write_anatomy(out, result)
    say([*report_lines(result), f"{out}: {RESULT}, anatomy.csv and figures"])
