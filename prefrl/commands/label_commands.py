"""The commands `prefrl labels`. Slow imports happen inside the commands."""

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


@labels_app.command
def report(run: Positional[Path], /, *, as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """Report the quality of the labels: agreement, response times, ties.

    Args:
        run: The run directory.
        as_json: Print JSON.
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
    """Stop asking, and finish training with the labels collected so far.

    Args:
        run: The run directory. `prefrl resume RUN --labels N` asks again.
    """
    from prefrl.feedback.finishing import finish_asking

    again = command("resume", run, "--labels", "N")
    say([f"{run} finishes with its {finish_asking(run)} labels; to ask again: {again}"])


@labels_app.command(name="export")
def export_labels(
    run: Positional[Path], file: Positional[Path], /, *, without_damaged: bool = False, trust: Trust = ()
) -> None:
    """Export a run's labels: as a zip with their clips, from which other runs can start, or as a CSV table.

    Args:
        run: The run directory; the run may be running.
        file: A new file. NAME.zip contains the labels with their clips, and the history of undone, repeated and flagged
            queries. NAME.csv is a table of the answers that count, without clips.
        without_damaged: Skip labels with missing or damaged clips (zip only).
        trust: A module that a run made by someone else may import to create its environment.
    """
    kind = file.suffix.lower()
    if kind not in {".zip", ".csv"}:
        raise UsageError(f"{file} must end in .zip (labels with their clips) or in .csv (a table)")
    if kind == ".csv":
        from prefrl.feedback.label_table import write_table

        say([f"{file}: {write_table(run, file)} answers"])
        return
    from prefrl.runs.directory import RunDirectory

    RunDirectory.open(run).admit(trust)  # before slow imports
    from prefrl.feedback.transfer import archive_lines
    from prefrl.feedback.transfer import export_labels as export

    say(archive_lines(export(run, file, without_damaged=without_damaged, trust=trust)))


@labels_app.command(name="import")
def import_labels(file: Positional[Path], /, *, into: Path | None = None, trust: Trust = ()) -> None:
    """Check a file of labels and show its content, or add the labels to a run. Answers undone in the run stay undone.

    Args:
        file: The file.
        into: A run directory to add the labels to; the run must not be running.
        trust: A module that a run made by someone else may import to create its environment.
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
