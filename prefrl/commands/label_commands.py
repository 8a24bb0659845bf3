"""The commands of `prefrl labels` and `prefrl reward`, which `prefrl.commands.cli` mounts; imports as there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional, arg

from prefrl.commands.arguments import Trust
from prefrl.errors import UsageError
from prefrl.printable import command, say

labels_app = tyro.extras.SubcommandApp()
reward_app = tyro.extras.SubcommandApp()


@labels_app.command
def report(run: Positional[Path], /, *, as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """Tell how good the labels are: agreement, response times, ties.

    Args:
        run: The run directory.
        as_json: Print it as JSON.
    """
    from prefrl.feedback.quality import report as report_labels
    from prefrl.feedback.quality import report_lines

    found = report_labels(run)
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        say(report_lines(found))


@labels_app.command
def finish(run: Positional[Path], /) -> None:
    """Ask no more: the run goes on to its end with the labels there are.

    Args:
        run: The run directory; `prefrl resume RUN --labels N` makes it ask again.
    """
    from prefrl.feedback.finishing import finish_asking

    again = command("resume", run, "--labels", "N")
    say([f"{run} finishes with its {finish_asking(run)} labels; to ask again: {again}"])


@labels_app.command(name="export")
def export_labels(
    run: Positional[Path], file: Positional[Path], /, *, without_damaged: bool = False, trust: Trust = ()
) -> None:
    """Write a run's labels to a file: a zip with their clips, for other runs to start from, or a CSV table.

    Args:
        run: The run directory; it may be at work.
        file: The file to write. NAME.zip holds the labels with their clips, and what was taken back, asked again or
            flagged; NAME.csv is a table of the answers that stand, without clips.
        without_damaged: Whether to leave labels out of which a clip is missing or damaged (of a zip).
        trust: A module that a run which is not your own may import to make its environment.
    """
    kind = file.suffix.lower()
    if kind not in {".zip", ".csv"}:
        raise UsageError(f"{file} must end in .zip (labels with their clips) or in .csv (a table)")
    if kind == ".csv":
        from prefrl.feedback.label_table import write_table

        say([f"{file}: {write_table(run, file)} answers"])
        return
    from prefrl.runs.directory import RunDirectory

    RunDirectory.open(run).admit(trust)  # before what is slow to import
    from prefrl.feedback.transfer import archive_lines
    from prefrl.feedback.transfer import export_labels as export

    say(archive_lines(export(run, file, without_damaged=without_damaged, trust=trust)))


@labels_app.command(name="import")
def import_labels(file: Positional[Path], /, *, into: Path | None = None, trust: Trust = ()) -> None:
    """Check a file of labels and tell what is in it; add them to a run, which keeps what it took back.

    Args:
        file: The file.
        into: A run directory to add the labels to; no process may be at work on it.
        trust: A module that a run which is not your own may import to make its environment.
    """
    from prefrl.feedback.archive_admission import read_archive
    from prefrl.runs.directory import RunDirectory

    archive = read_archive(file)
    if into is not None:
        RunDirectory.open(into).admit(trust)
    from prefrl.feedback.transfer import archive_lines, import_archive

    if into is None:
        say(archive_lines(archive))
    else:
        added = import_archive(archive, into, trust=trust)
        back = f", {added.taken_back} taken back" if added.taken_back else ""
        say([f"{into}: {added.labels} labels added{back}"])


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
    """Fit a new reward model to a run's labels, and tell how well it predicts labels that it has not seen.

    Args:
        run: The run directory; it may be at work.
        holdout: The share of the labels that it does not see.
        seed: Of the choice of these, and of the fit.
        comparisons: How many comparisons to fit (default: as many as the run did, at most 40,000).
        out: A new file for the weights (default: reward_model/fitted.safetensors in the run).
        trust: A module that a run which is not your own may import to make its environment.
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
