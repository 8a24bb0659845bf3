"""Copy the files that reports and comparisons read; without labels, clips and weights they fit into a repository."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Any

from prefrl.errors import UsageError
from prefrl.storage.files import read_json, write_atomically, write_json
from prefrl_benchmarks.cells import TAKEN
from prefrl_benchmarks.random_baseline import random_returns
from prefrl_benchmarks.results import LARGEST_MANIFEST, MANIFEST, Results, finished_cells, read_manifest, read_results

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
        UsageError: if `folder` holds no suite's results, or `out` holds another suite's, or finished cells that are
            not planned in `folder`, or cannot be written.
        PrefrlError: if no cell is finished, or the manifest is damaged.
    """
    results = read_results([folder])
    name = results.manifests[0]["suite"]["name"]
    if (out / MANIFEST).exists() and (held := read_manifest(out)["suite"]["name"]) != name:
        raise UsageError(f"{out} holds the suite {held}; choose another folder for {name}")
    planned = {result.cell.name for result in results.cells}
    if (out / MANIFEST).exists() and (lost := [name for name in finished_cells(out) if name not in planned]):
        raise UsageError(
            f"{out} holds {lost[0]} and in all {len(lost)} finished cells that {folder} does not plan, and would lose "
            "them; publish the whole suite, or choose another folder"
        )
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
            _name_used_runs(out / result.cell.name / "config.json")
        for result in results.unfinished:
            write_atomically(out / f"{result.cell.name}.log", f"{result.reason}\n".encode())
        manifest: Any = read_json(folder / MANIFEST, LARGEST_MANIFEST)
        write_json(out / MANIFEST, manifest | {"command": without_folders(manifest["command"])})
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    return results


def _name_used_runs(path: Path) -> None:
    """Replace the paths of other runs in a configuration by the runs' names: paths say much about a machine."""
    data: Any = read_json(path)
    used = {
        name: value for name in TAKEN.values() if (value := _entry(data["config"], name)) and Path(value).is_absolute()
    }
    for name, value in used.items():
        *parents, last = name.split(".")
        _entry(data["config"], ".".join(parents))[last] = Path(value).name
    if used:
        write_json(path, data)


def _entry(data: Any, name: str) -> Any:
    """Return an entry by its dotted name; None if there is none. An empty name is the whole."""
    for part in filter(None, name.split(".")):
        data = data.get(part) if isinstance(data, dict) else None
    return data


def without_folders(command: str) -> str:
    """Return a command in which each absolute path is replaced by its last part, in the folder `runs`."""
    words = [f"runs/{Path(word).name}" if Path(word).is_absolute() else word for word in shlex.split(command)]
    return shlex.join(words)
