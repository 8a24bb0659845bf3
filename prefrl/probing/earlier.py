"""The results of an earlier call of the same probe, which stand as long as nothing that they depend on has changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from prefrl.experience.clips import ClipFolder
from prefrl.probing.request import ProbeRequest
from prefrl.probing.results import ProbeResults, read_results
from prefrl.runs.checkpoints import Checkpoints


def inputs_of(request: ProbeRequest) -> str:
    """Return a checksum of the arguments, and of the files of the reward model and of the newest policies.

    Files count by name, size and time of the last change.
    """
    arguments = {name: getattr(request, name) for name in ("betas", "seeds", "steps", "initial", "episodes", "clips")}
    roots = [request.run.root, *(request.root(beta, seed) for beta, seed in request.agents)]
    policies = [_stamp(path) for root in roots for path in Checkpoints(root / "checkpoints").files()[-1:]]
    content = [arguments, _stamp(request.run.weights), policies]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def still_valid(request: ProbeRequest) -> ProbeResults | None:
    """Return the results of an earlier call, if the same call would give them again.

    Raises:
        DamagedFileError: if they are damaged.
    """
    if not (request.out / "probe.json").exists():
        return None
    results = read_results(request.out)
    if results.inputs != inputs_of(request) or (request.watch and not _can_be_shown(request, results)):
        return None
    return results


def with_what_was_queued(request: ProbeRequest, results: ProbeResults) -> ProbeResults:
    """Return new results, which say that their clips are queued if the same clips were queued after an earlier call."""
    if not (request.out / "probe.json").exists():
        return results
    before = read_results(request.out)
    return dataclasses.replace(results, queued=before.queued and before.clips == results.clips)


def _can_be_shown(request: ProbeRequest, results: ProbeResults) -> bool:
    clips = ClipFolder(request.clip_folder)
    return all(clips.has_scene(number) for each in results.clips for number in each.segments)


def _stamp(path: Path) -> list[object]:
    found = path.stat()
    return [path.name, found.st_size, found.st_mtime_ns]
