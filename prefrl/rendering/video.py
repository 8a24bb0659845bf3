"""Videos for people, with every frame in them."""

from __future__ import annotations

from pathlib import Path

import cv2
from moviepy import VideoClip

from prefrl.arrays import Array
from prefrl.errors import PrefrlError, UsageError


def write_video(path: Path, frames: Array, fps: int) -> None:
    """Write a video and count what was written.

    Args:
        path: The file; its ending (mp4, webm) chooses the format.
        frames: (F, H, W, 3) uint8.
        fps: Frames per second.

    Raises:
        UsageError: if the file cannot be written.
        PrefrlError: if it does not hold every frame.
    """
    count = len(frames)
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2  # common codecs want even sizes
    # The duration ends half a frame late: moviepy samples times, and rounding would drop or repeat a frame at the end.
    clip = VideoClip(lambda t: frames[min(round(t * fps), count - 1), :height, :width], duration=(count + 0.5) / fps)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clip.write_videofile(str(path), fps=fps, audio=False, logger=None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be written: {str(error).strip().splitlines()[0]}") from None
    if (written := count_frames(path)) != count:
        raise PrefrlError(f"{path} holds {written} frames where {count} were written")


def count_frames(path: Path) -> int:
    """Decode a video and count its frames.

    Raises:
        PrefrlError: if it cannot be opened.
    """
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise PrefrlError(f"{path} cannot be read as a video")
    count = 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count
