"""Measure training on a GPU part by part: each takes a few minutes, and its result is kept as soon as it is known.

A part is a measurement of a task, such as `speed-pong`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.find_task import find_task
from prefrl.machine.devices import choose_device
from prefrl.printable import complain, say
from prefrl.runs.directory import commit, version
from prefrl.storage.files import read_json, write_json
from prefrl_benchmarks.measure.gpu_parts import MEASUREMENTS, Plan
from prefrl_benchmarks.measure.speed import check_count
from prefrl_benchmarks.results import machine


def measure(parts: Sequence[str], plan: Plan, out: Path | None) -> list[str]:
    """Measure the parts one after the other, and report each.

    Args:
        parts: Names of the parts.
        plan: The plan of every part; its task is replaced by the part's.
        out: JSON file for the results. Other parts in it are kept.

    Returns:
        The parts that failed. The parts after them are measured all the same.

    Raises:
        UsageError: for arguments with which nothing can be measured.
    """
    plans = [_plan(part, plan) for part in parts]
    known = _known(out)
    failed = []
    for part, own in zip(parts, plans, strict=True):
        measuring, lines = MEASUREMENTS[_measurement(part)]
        try:
            result = measuring(own)
        except PrefrlError as error:
            failed.append(part)
            complain(f"prefrl: {part}: {error}")
            continue
        known[part] = _about(own) | result
        if out:
            write_json(out, {"parts": known})
        say(f"{part} {line}" for line in lines(result))
    return failed


def _measurement(part: str) -> str:
    return part.partition("-")[0]


def _plan(part: str, plan: Plan) -> Plan:
    """The plan of a part, checked before minutes of work."""
    task = part.partition("-")[2]
    if not task:
        raise UsageError(f"--parts {part}: write MEASUREMENT-TASK, for example speed-pong")
    MEASUREMENTS.check(_measurement(part))
    find_task(task)
    if not plan.seconds > 0:
        raise UsageError("--minutes must be more than 0")
    check_count("alternations", plan.alternations)
    choose_device(plan.device)
    own = replace(plan, task=task)
    own.cell("async")
    return own


def _known(out: Path | None) -> dict[str, Any]:
    """The parts in a file of results."""
    if out is None or not out.exists():
        return {}
    held = read_json(out)
    if not isinstance(held, dict) or not isinstance(held.get("parts"), dict):
        raise UsageError(f"--out {out} holds something else than results of this command")
    return dict(held["parts"])


def _about(plan: Plan) -> dict[str, Any]:
    """The machine and settings of a measurement."""
    cell = plan.cell("async")
    settings = {"minutes": plan.seconds / 60, "device": plan.device, "steps": cell.steps, "labels": cell.labels}
    gpu = torch.cuda.get_device_name() if choose_device(plan.device) == "cuda" else None
    about = {"machine": machine(), "gpu": gpu, "version": version(), "commit": commit()}
    return {"settings": settings | {"set": plan.settings}} | about
