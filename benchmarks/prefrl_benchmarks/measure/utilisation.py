"""Sample the utilisation and the memory of the GPU while other processes use it."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

_QUERY = "--query-gpu=utilization.gpu,memory.used"
_MEBIBYTE = 2**20
_TIMEOUT_SECONDS = 10


class Reading(NamedTuple):
    """The state of the GPU; None where it is unknown."""

    busy: float | None
    """Percent of the last fraction of a second in which kernels ran."""
    memory_mb: float | None
    """Memory in use, by all processes."""


Read = Callable[[], Reading]
"""Reads the state of the GPU."""
_UNKNOWN = Reading(None, None)


def find_reader(device: str) -> Read:
    """How to read the GPU: with `nvidia-smi` where it works, or else through torch. Nothing is read for `cpu`."""
    if device == "cpu":
        return lambda: _UNKNOWN
    works = shutil.which("nvidia-smi") and read_nvidia_smi() != _UNKNOWN
    return read_nvidia_smi if works else read_torch


def read_nvidia_smi() -> Reading:
    """Read the first visible GPU with `nvidia-smi`, which ignores CUDA_VISIBLE_DEVICES."""
    which = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    words = ["nvidia-smi", _QUERY, "--format=csv,noheader,nounits", "-i", which]
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=_TIMEOUT_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return _UNKNOWN
    fields = [_number(field) for field in said.strip().split(",")]
    return Reading(*fields) if len(fields) == len(Reading._fields) else _UNKNOWN


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]", for example for a part of a GPU
        return None


def read_torch() -> Reading:
    """Read through torch. The memory then includes this process's own CUDA context."""
    free, total = torch.cuda.mem_get_info()
    try:
        busy = float(torch.cuda.utilization())
    except Exception:  # without NVIDIA's library; its errors have no common class
        busy = None
    return Reading(busy, (total - free) / _MEBIBYTE)


class Sampler:
    """Samples the GPU in a thread, from entering the context to leaving it."""

    def __init__(self, read: Read, every: float = 1.0) -> None:
        """Prepare the thread.

        Args:
            read: How to read the GPU.
            every: Seconds between two samples.
        """
        self._read, self._every = read, every
        self._samples: list[tuple[float, Reading]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            self._samples.append((time.time(), self._read()))
            if self._ended.wait(self._every):
                return

    def figures(self, start: float, end: float) -> dict[str, Any]:
        """Summarise the samples.

        Args:
            start: Start of the time over which the utilisation is averaged, by `time.time`.
            end: Its end.

        Returns:
            Mean utilisation in percent; the peak of the memory in use and the memory in use at the first sample, in MB;
            None where unknown.
        """
        busy = [each.busy for at, each in self._samples if start <= at <= end and each.busy is not None]
        memory = [each.memory_mb for _, each in self._samples if each.memory_mb is not None]
        return {
            "gpu_utilisation": statistics.mean(busy) if busy else None,
            "gpu_peak_mb": max(memory, default=None),
            "gpu_mb_before": memory[0] if memory else None,
        }
