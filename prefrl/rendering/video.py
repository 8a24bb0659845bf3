"""Write videos of policies in common formats."""

from __future__ import annotations

from pathlib import Path

import cv2
from moviepy import VideoClip

from prefrl.arrays import Array
from prefrl.errors import PrefrlError, UsageError


def write_video(path: Path, frames: Array, fps: int) -> None:
    """Write a video, and verify its number of frames.

    Args:
        path: The file; its suffix (mp4, webm) determines the format.
        frames: (F, H, W, 3) uint8.
        fps: Frames per second.

    Raises:
        UsageError: if the file cannot be written.
        PrefrlError: if frames are missing in the file.
    """
    count = len(frames)
    height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2  # common codecs need even sizes
    # Half a frame longer, because moviepy samples times, and rounding could drop or repeat the last frame.
    clip = VideoClip(lambda t: frames[min(round(t * fps), count - 1), :height, :width], duration=(count + 0.5) / fps)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clip.write_videofile(str(path), fps=fps, audio=False, logger=None)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be written: {str(error).strip().splitlines()[0]}") from None
    if (written := count_frames(path)) != count:
        raise PrefrlError(f"{path} holds {written} frames where {count} were written")


def count_frames(path: Path) -> int:
    """Decode a video and return its number of frames.

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
