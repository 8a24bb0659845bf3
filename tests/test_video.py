"""A video contains exactly the written frames, in order."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from prefrl.errors import UsageError
from prefrl.rendering.video import count_frames, write_video


def frames_of(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that tell their own number: the two halves' brightness are its digits to base 16."""
    frames = np.zeros((count, height, width, 3), dtype=np.uint8)
    for index in range(count):
        frames[index, :, : width // 2] = index // 16 * 15 + 8
        frames[index, :, width // 2 :] = index % 16 * 15 + 8
    return frames


def decoded(path: Path) -> list[int]:
    """The numbers of the frames that a video holds."""
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    numbers = []
    while True:
        there, frame = capture.read()
        if not there:
            break
        width = frame.shape[1]
        high, low = frame[:, : width // 2 - 4].mean(), frame[:, width // 2 + 4 :].mean()
        numbers.append(round((high - 8) / 15) * 16 + round((low - 8) / 15))
    capture.release()
    return numbers


@pytest.mark.parametrize(
    ("fps", "count"),
    [(10, 1), (10, 15), (12, 7), (15, 50), (20, 30), (24, 25), (25, 2), (29, 100), (30, 45), (40, 60), (50, 51)],
)
def test_every_frame_once_and_in_order(fps: int, count: int, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, frames_of(count), fps)
    assert decoded(path) == list(range(count))
    assert count_frames(path) == count
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    assert rate == pytest.approx(fps, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("fps", [5, 8, 10, 13, 20, 24, 25, 30, 50, 60])
def test_every_frame_once_at_other_rates_and_lengths(fps: int, tmp_path: Path) -> None:
    for count in (1, 2, 3, 11, 29, 61, 99, 128):
        path = tmp_path / f"{count}.mp4"
        write_video(path, frames_of(count), fps)
        assert decoded(path) == list(range(count))


@pytest.mark.parametrize(("height", "width"), [(49, 64), (48, 65), (51, 63)])
def test_odd_sizes(height: int, width: int, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, frames_of(9, height, width), 10)
    assert decoded(path) == list(range(9))


def test_a_folder_is_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "clip.mp4"
    write_video(path, frames_of(3), 10)
    assert count_frames(path) == 3


@pytest.mark.parametrize("name", ["clip.nonsense", "clip"])
def test_an_ending_that_is_no_video(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=name):
        write_video(tmp_path / name, frames_of(3), 10)


def test_a_place_that_cannot_be_written() -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_video(Path("/proc/nowhere/clip.mp4"), frames_of(3), 10)


def test_counting_what_is_no_video(tmp_path: Path) -> None:
    from prefrl.errors import PrefrlError

    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not a video")
    with pytest.raises(PrefrlError, match="cannot be read"):
        count_frames(path)
