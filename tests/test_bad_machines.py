"""No GPU, full and read-only disks: one clear line, and stored data is kept."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from runs import (
    LABELS,
    STEPS,
    assert_equal_runs,
    error_line,
    label_counts,
    live,
    prefrl,
    refused,
    stored_labels,
    tiny,
)

# -- devices --------------------------------------------------------------------------------------------------------


def test_a_gpu_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    root = tmp_path / "run"
    assert "GPU" in refused(prefrl(*tiny("reacher", root, "--device", "cuda", "--mode", "sync")), 2)
    # The same command without the GPU must not meet a half-made run.
    assert prefrl(*tiny("reacher", root, "--device", "cpu", "--mode", "sync")).code == 0


# -- a full disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill a file system but for so many bytes, while others write on it; the file to remove."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (state := os.statvfs(disk)).f_bavail * state.f_frsize > leave:
            file.write(b"x" * min(1 << 16, max(1, state.f_bavail * state.f_frsize - leave)))
    return filler


@pytest.mark.parametrize(
    ("mode", "leave"),
    [
        pytest.param("sync", 400_000, id="checkpoint-sync"),
        pytest.param("async", 0, id="everything-async"),
        pytest.param("sync", 0, id="everything-sync", marks=pytest.mark.slow),
        pytest.param("async", 400_000, id="checkpoint-async", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_loses_nothing(mode: str, leave: int, small_disk: Path, finished: Path, tmp_path: Path) -> None:
    root = small_disk / "run"
    settings = ("checkpoint_seconds=0.0",) if leave else ()
    with live(tmp_path / "log", *tiny("reacher", root, "--mode", mode, settings=settings)) as command:
        command.until_step(root, STEPS // 2)
        filler = fill(small_disk, leave)
        code = command.wait()
        err = command.err
    if code == 0:
        pytest.fail(f"the run was over before the disk was full; {err}")
    assert code == 1
    assert "Traceback" not in err
    assert "disk is full" in err
    assert f"prefrl resume {root}" in err
    before = stored_labels(tmp_copy(root, tmp_path))
    assert len(before) >= LABELS // 4
    filler.unlink()
    done = prefrl("resume", root)
    assert done.code == 0, done.err
    assert stored_labels(root)[: len(before)] == before
    assert label_counts(root) == (LABELS, LABELS)
    if mode == "sync":
        assert_equal_runs(finished, root)


def tmp_copy(root: Path, tmp_path: Path) -> Path:
    """The run on a disk with room, for SQLite to open."""
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    return copy


def test_resuming_with_a_full_disk_is_reported(small_disk: Path, halfway: Path) -> None:
    root = small_disk / "run"
    shutil.copytree(halfway, root)
    labels = stored_labels(root)
    filler = fill(small_disk, 0)
    done = prefrl("resume", root)
    assert done.code == 1
    assert "disk is full" in error_line(done)
    filler.unlink()
    assert prefrl("resume", root).code == 0
    assert stored_labels(root)[: len(labels)] == labels


def test_training_on_a_full_disk_is_refused(small_disk: Path) -> None:
    fill(small_disk, 0)
    done = prefrl(*tiny("reacher", small_disk / "run", "--mode", "sync"))
    assert done.code in {1, 2}
    line = error_line(done)
    assert "No space left" in line or "disk is full" in line


@pytest.mark.parametrize("command", ["resume", "status", "play"])
def test_a_run_on_a_read_only_disk(command: str, small_disk: Path, halfway: Path) -> None:
    root = small_disk / "run"
    shutil.copytree(halfway, root)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = prefrl(command, root)
    if command == "resume":
        assert done.code in {1, 2}
        error_line(done)
    else:  # looking at a run changes nothing of it
        assert done.code == 0, done.err
