"""Results small enough for a repository: what reports and comparisons read, without labels, clips and weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from prefrl.errors import UsageError
from prefrl.storage.files import write_atomically
from prefrl_benchmarks.random_baseline import random_returns
from prefrl_benchmarks.results import MANIFEST, Results, read_manifest, read_results

_KEPT = ("config.json", "metrics.csv", "summary.json")
"""Of each finished cell."""


def publish(folder: Path, out: Path) -> Results:
    """Copy what a report of a suite is made from; a later copy is laid over an earlier one.

    Args:
        folder: The suite's results.
        out: Where to copy them.

    Returns:
        What was copied: the finished cells, and of those that were begun the last words.

    Raises:
        UsageError: if one is no suite's folder, or `out` is another suite's or cannot be written.
        PrefrlError: if no cell is finished, or the manifest is damaged.
    """
    results = read_results([folder])
    name = results.manifests[0]["suite"]["name"]
    if (out / MANIFEST).exists() and (held := read_manifest(out)["suite"]["name"]) != name:
        raise UsageError(f"{out} holds the suite {held}; choose another folder for {name}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        random_returns(dict.fromkeys(result.cell.task for result in results.cells), [out, folder])  # kept in the first
        for result in results.finished:
            (out / result.cell.name).mkdir(exist_ok=True)
            (out / f"{result.cell.name}.log").unlink(missing_ok=True)  # of when it was not finished
            for kept in _KEPT:
                if (result.root / kept).exists():
                    shutil.copyfile(result.root / kept, out / result.cell.name / kept)
        for result in results.unfinished:
            write_atomically(out / f"{result.cell.name}.log", f"{result.reason}\n".encode())
        shutil.copyfile(folder / MANIFEST, out / MANIFEST)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    return results
