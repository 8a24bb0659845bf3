"""The commands `prefrl bench report`, `publish` and `compare`, which read results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tyro.conf import Positional

from prefrl.commands.arguments import Trust
from prefrl.errors import UsageError
from prefrl.printable import complain, say
from prefrl_benchmarks.requirements import need_libraries
from prefrl_benchmarks.studies.folder import is_study


def report(
    folders: Positional[tuple[Path, ...]],
    /,
    *,
    out: Path | None = None,
    beside: Path | None = None,
    trust: Trust = (),
) -> None:
    """Report the results of suites, or of a study, as tables, figures and one self-contained page.

    Args:
        folders: Output folders of one or more `prefrl bench run`.
        out: Folder for the report (default: `report` in the folder, if there is only one).
        beside: Folder of another suite on the same tasks, for example with another algorithm. A figure compares both:
            return against agent steps, time and labels.
        trust: A module that results from others may import to create an environment.
    """
    need_libraries()
    _trust(trust)
    if out is None and len(folders) > 1:
        raise UsageError("--out is required for several folders")
    if folders and is_study(folders[0]):
        from prefrl_benchmarks.studies.command import report_study

        out = out or folders[0] / "report"
        outcome = report_study(folders[0], out)
        say([f"{out / 'report.html'}: {outcome.verdict}"])
        return
    _admit([*folders, *([beside] if beside else [])])
    out = out or Path(*folders, "report")
    from prefrl_benchmarks.report.page import write_report

    found = write_report(folders, out, beside)
    for line in found.problems:
        complain(f"prefrl: {line}")
    say([f"{out / 'report.html'}: {len(found.results.finished)} of {len(found.results.cells)} cells"])


def publish(folder: Positional[Path], out: Positional[Path], /, *, trust: Trust = ()) -> None:
    """Copy the results of a suite or study without labels, clips and weights. `report` and `compare` can read the copy.

    Args:
        folder: Output folder of a `prefrl bench run`.
        out: Folder to copy to, for example in a repository.
        trust: A module that results from others may import to create an environment.
    """
    _trust(trust)
    if is_study(folder):
        from prefrl_benchmarks.studies.command import publish_study

        publish_study(folder, out)
        if not (folder / "suite.json").exists():
            say([f"{out}: measurements copied"])
            return
    _admit([folder])
    from prefrl_benchmarks.publish import publish

    results = publish(folder, out)
    for line in results.problems:
        complain(f"prefrl: {line}")
    say([f"{out}: {len(results.finished)} of {len(results.cells)} cells"])


def compare(old: Positional[Path], new: Positional[Path], /, *, trust: Trust = ()) -> None:
    """Compare two sets of results: what improved or got worse, with confidence intervals.

    Args:
        old: Output folder of a `prefrl bench run`.
        new: Output folder of another one.
        trust: A module that results from others may import to create an environment.
    """
    need_libraries()
    _trust(trust)
    _admit([old, new])
    from prefrl_benchmarks.report.compare import compare_folders

    say(compare_folders(old, new))


def _trust(modules: tuple[str, ...]) -> None:
    """Import the trusted modules, which results may then use for environments."""
    from prefrl.safety.trust import import_named

    for module in modules:
        import_named(module)


def _admit(folders: Sequence[Path]) -> None:
    """Refuse unreadable results before slow imports."""
    from prefrl_benchmarks.results import read_manifest

    for folder in folders:
        read_manifest(folder)
