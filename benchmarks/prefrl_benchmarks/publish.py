"""Copy the files that reports and comparisons read; without labels, clips and weights they fit into a repository."""

from __future__ import annotations

import shutil
from pathlib import Path

from prefrl.errors import UsageError
from prefrl.storage.files import write_atomically
from prefrl_benchmarks.random_baseline import random_returns
from prefrl_benchmarks.results import MANIFEST, Results, read_manifest, read_results

_KEPT = ("config.json", "metrics.csv", "summary.json")
"""Files that are copied from each finished cell."""


def publish(folder: Path, out: Path) -> Results:
    """Copy the files that a report is made from. Existing copies are updated.

    Args:
        folder: Folder of a suite's results.
        out: Folder to copy to.

    Returns:
        The copied results: all finished cells, and the last log line of each unfinished one.

    Raises:
        UsageError: if `folder` holds no suite's results, or `out` holds another suite's or cannot be written.
        PrefrlError: if no cell is finished, or the manifest is damaged.
    """
    results = read_results([folder])
    name = results.manifests[0]["suite"]["name"]
    if (out / MANIFEST).exists() and (held := read_manifest(out)["suite"]["name"]) != name:
        raise UsageError(f"{out} holds the suite {held}; choose another folder for {name}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        random_returns(
            dict.fromkeys(result.cell.task for result in results.cells), [out, folder]
        )  # stored in the first folder
        for result in results.finished:
            (out / result.cell.name).mkdir(exist_ok=True)
            (out / f"{result.cell.name}.log").unlink(missing_ok=True)  # left from before it was finished
            for kept in _KEPT:
                if (result.root / kept).exists():
                    shutil.copyfile(result.root / kept, out / result.cell.name / kept)
        for result in results.unfinished:
            write_atomically(out / f"{result.cell.name}.log", f"{result.reason}\n".encode())
        shutil.copyfile(folder / MANIFEST, out / MANIFEST)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    return results
