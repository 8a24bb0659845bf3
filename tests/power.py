"""Simulate power cuts during a run, and report which labels were lost.

`python tests/power.py [CUTS]` (as root, on Linux) trains on an ext4 file system in a file, and stops the writer again
and again. A copy of that file, taken then, holds what a disk would hold had the power gone: what the file system had
sent to it, and nothing that was still in memory. Each copy is repaired and mounted, and its labels are counted.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.store import LabelStore

PREFRL = str(Path(sys.executable).with_name("prefrl"))
MEGABYTES = 96
_TRAIN = ("--mode", "sync", "--labels", "400", "--steps", "40000", "--set")
_SETTINGS = ("round_steps=512", "agent.n_steps=64", "checkpoint_seconds=1", "reward.pretrain_comparisons=640")


class Cut(NamedTuple):
    """What was there after the power came back."""

    labels: int
    """Committed."""
    unusable: int
    """Of them, those of which a clip is missing, empty or damaged."""


class NoDisksError(Exception):
    """This machine makes no file systems in files: no root, no loop devices, no mkfs.ext4."""


def cut_power(cuts: int, scratch: Path, seed: int = 0) -> Iterator[Cut]:
    """Train, and cut the power at moments drawn at random, the first once there is a label.

    Raises:
        NoDisksError: where that cannot be done.
    """
    moments, image = random.Random(seed), scratch / "disk"
    with _disk(image, scratch / "mounted") as mounted:
        root = mounted / "run"
        command, log = (
            [PREFRL, "train", "reacher", "--out", str(root), *_TRAIN, *_SETTINGS],
            (scratch / "log").open("wb"),
        )
        training = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})
        try:
            for _ in range(cuts):
                before = _answers(root)
                while training.poll() is None and _answers(root) == before:
                    time.sleep(0.01)
                time.sleep(moments.uniform(0, 0.1))
                assert training.poll() is None, (scratch / "log").read_text()
                training.send_signal(signal.SIGSTOP)
                shutil.copyfile(image, scratch / "copy")
                training.send_signal(signal.SIGCONT)
                yield _after(scratch / "copy", scratch / "copied")
        finally:
            training.kill()
            training.wait()
            log.close()


def _answers(root: Path) -> int:
    """The size of SQLite's log, which grows with every transaction; without touching the database."""
    with contextlib.suppress(OSError):
        return (root / "labels.sqlite-wal").stat().st_size
    return 0


def _after(copy: Path, mounted: Path) -> Cut:
    """Repair a disk, and look at the run on it."""
    subprocess.run(["fsck.ext4", "-y", "-f", str(copy)], capture_output=True, check=False)
    with _mounted(copy, mounted) as disk:
        run = disk / "run"
        if not (run / "labels.sqlite").exists():
            return Cut(0, 0)
        store = LabelStore(run / "labels.sqlite")
        labels = store.labels("comparison")
        store.close()
        clips = ClipFolder(run / "clips")
        return Cut(len(labels), sum(not _usable(clips, *label.segments) for label in labels))


def _usable(clips: ClipFolder, *segments: int) -> bool:
    try:
        return all(len(clips.load(segment)) for segment in segments)
    except PrefrlError:
        return False


@contextlib.contextmanager
def _disk(image: Path, mounted: Path) -> Iterator[Path]:
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        raise NoDisksError("not root, or no mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(MEGABYTES * 2**20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], capture_output=True, check=True)
    with _mounted(image, mounted) as disk:
        yield disk


@contextlib.contextmanager
def _mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoDisksError(done.stderr.strip())
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], capture_output=True, check=False)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        number = int(sys.argv[1]) if len(sys.argv) > 1 else 20
        whole = 0
        for index, cut in enumerate(cut_power(number, Path(folder)), start=1):
            whole += cut.unusable == 0
            print(f"cut {index}: {cut.labels} labels committed, {cut.unusable} of them cannot be used", flush=True)
        print(f"{whole} of {number} cuts with every committed label usable")
