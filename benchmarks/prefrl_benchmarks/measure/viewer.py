"""Measure the speed of the viewer from outside, with key presses and screenshots on a virtual X server."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from prefrl.arrays import Array
from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds.comparison import pair_query
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.recipes import resolve
from prefrl.rendering.clip_video import write_clip_video
from prefrl.runs.directory import RunDirectory
from prefrl.seeding import stream
from prefrl_benchmarks.measure.screen import Box, Screen, clip_areas

_SIZE, _FPS, _FRAMES = 480, 30, 60
_VIDEOS = 8
"""Number of different videos, which the pairs share."""
_BETWEEN_KEYS = 1.0
"""Seconds between answers; people need longer."""
_SEEN = 0.3
"""Seconds that a pair must be shown before the viewer accepts an answer."""
_SETTLE = 5.0
"""Seconds until the viewer has loaded further pairs."""
_TIMEOUT = 60.0


def measure(*, keys: int, starts: int, seconds: float) -> dict[str, Any]:
    """Measure response time, CPU use and start-up time.

    Args:
        keys: Number of answers to time.
        starts: Number of starts to time.
        seconds: Duration over which CPU time is measured while two clips play.

    Returns:
        Milliseconds from a key press to the next pair, the share of one core, and seconds from start to the first pair.
    """
    with tempfile.TemporaryDirectory() as folder, Screen() as screen:
        root = _make_run(Path(folder) / "run", pairs=keys + 10)
        with _viewer(screen, root, lambda: clip_areas(screen.grab()) is not None) as (process, _):
            places = clip_areas(screen.grab())
            assert places is not None
            share = _share(process, seconds)
            screen.key("space")
            time.sleep(1)
            pressed = [_answer(screen, places) for _ in range(keys)]
        begun = []
        for _ in range(starts):
            with _viewer(screen, root, lambda: _both_painted(screen, places)) as (_, taken):
                begun.append(taken)
    return {
        "clips": f"{_SIZE}x{_SIZE} at {_FPS} frames per second",
        "key_to_pair_ms": {"p50": _percentile(pressed, 50), "p99": _percentile(pressed, 99), "most": max(pressed)},
        "core_share": share,
        "start_to_pair_seconds": {"median": statistics.median(begun), "most": max(begun)},
        "keys": keys,
        "starts": starts,
        "load": psutil.getloadavg()[0],
    }


def report_lines(result: dict[str, Any]) -> list[str]:
    """The results as a small table."""
    key, start = result["key_to_pair_ms"], result["start_to_pair_seconds"]
    return [
        f"two clips of {result['clips']}; load average {result['load']:.1f}",
        f"key to next pair    p50 {key['p50']:.0f} ms, p99 {key['p99']:.0f} ms, most {key['most']:.0f} ms",
        f"playing             {100 * result['core_share']:.1f} % of a core",
        f"start to first pair median {start['median']:.2f} s, most {start['most']:.2f} s",
    ]


def _make_run(root: Path, pairs: int) -> Path:
    """Create a run with waiting pairs: moving checkered floors as in MuJoCo, each in its own colour."""
    settings = {"playback_fps": _FPS, "queries.labels": 10 * pairs, "queries.segment_length": _FRAMES}
    run = RunDirectory.create(root, resolve("hopper", teacher="human", settings=settings))
    store, clips = LabelStore(run.labels, create=True), ClipFolder(run.clips)
    observed, taken = np.zeros((_FRAMES, 11), np.float32), np.zeros((_FRAMES, 3), np.float32)
    ends = np.zeros((2, _FRAMES), bool)
    made = [Segment(number, observed, taken, taken[:, 0], *ends) for number in range(2 * pairs)]
    for segment in made:
        clips.save(segment)
    store.add_queries([pair_query(1, rank, made[2 * rank], made[2 * rank + 1], 0) for rank in range(pairs)])
    for number in range(2 * pairs):
        if number < _VIDEOS:
            write_clip_video(clips.video(number), _floor(number), _FPS)
        else:
            clips.video(number).hardlink_to(clips.video(number % _VIDEOS))
        LabelQueue(store).rendered(number, _FRAMES)
    store.close()
    return root


def _floor(number: int) -> Array:
    """Frames of a checkered floor below a noisy sky, shape (F, H, W, 3)."""
    rng = stream(0, "made-up clips", number)
    place = np.arange(_SIZE)
    frames = []
    for time_step in range(_FRAMES):
        squares = ((place[:, None] // 40 + (place[None, :] + 3 * time_step) // 40) % 2).astype(np.uint8)
        frame = np.stack([squares * (200 - 12 * number), squares * 200, squares * (80 + 12 * number)], axis=2)
        frame[: _SIZE // 2] = 60 + rng.integers(0, 2, (_SIZE // 2, _SIZE, 1))
        frames.append(cv2.circle(frame, (200 + time_step, 240), 40 + 8 * number, (200, 100, 40), -1))
    return np.stack(frames)


@contextmanager
def _viewer(screen: Screen, root: Path, shown: Callable[[], bool]) -> Iterator[tuple[psutil.Process, float]]:
    """Start the viewer; yields its process and the seconds until the first pair was shown."""
    command = [sys.executable, "-m", "prefrl", "label", str(root), "--labeller", "bench"]
    started = time.perf_counter()
    with subprocess.Popen(command, env=screen.environment()) as process:
        try:
            until(shown, "the first pair", between=0.01)
            taken = time.perf_counter() - started
            screen.focus(process)
            time.sleep(_SETTLE)
            yield psutil.Process(process.pid), taken
        finally:
            screen.key("ctrl+q")
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _both_painted(screen: Screen, places: tuple[Box, Box]) -> bool:
    """Whether the centres of both clips are no longer black, as they are before the first pair."""
    return all(_middle(place, screen).max() > 0 for place in places)


def _middle(place: Box, screen: Screen) -> Array:
    return screen.grab(Box(place.left + place.width // 2 - 60, place.top + place.height // 2 - 60, 120, 120))


def _share(process: psutil.Process, seconds: float) -> float:
    before, started = process.cpu_times(), time.perf_counter()
    time.sleep(seconds)
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system) / (time.perf_counter() - started)


def _answer(screen: Screen, places: tuple[Box, Box]) -> float:
    """Milliseconds from a key press until both clips have changed."""
    until(
        lambda: clip_areas(screen.grab()) is not None, "a pair to answer"
    )  # on a busy machine it may still be loading
    time.sleep(_SEEN)
    before = [_middle(place, screen) for place in places]
    pressed = time.perf_counter()
    screen.key("Left")
    until(lambda: all((_middle(p, screen) != b).any() for p, b in zip(places, before, strict=True)), "the next pair")
    taken = time.perf_counter() - pressed
    time.sleep(_BETWEEN_KEYS)
    return 1000 * taken


def until(probe: Callable[[], bool], what: str, between: float = 0.001) -> None:
    """Wait until a condition holds; `what` describes it in the error message."""
    deadline = time.monotonic() + _TIMEOUT
    while not probe():
        if time.monotonic() > deadline:
            raise PrefrlError(f"waited {_TIMEOUT:.0f} s for {what}")
        time.sleep(between)


def _percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent))
