"""Lossless video: what a person compares is, to the pixel, what was rendered.

Through PyAV and not moviepy, which keeps colours at half the resolution and may repeat or drop a clip's last frame.

Each frame is deflated by itself, in an AVI file: a hopper's clips are a tenth smaller than with FFV1 and decode in a
quarter of the time, which is what a viewer costs beside the agent. FFV1's range coder would save another quarter of the
disk for seven times the time; lossless H.264 and VP9 take more of both. All are tiny for games and dots
(`python -m prefrl_benchmarks.films RUN`).
"""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np

from prefrl.files import DamagedFileError
from prefrl.types import Array

_CODEC, _PIXELS, _RGB = "zlib", "bgr24", "rgb24"


def write_film(path: Path, frames: Array, fps: int) -> None:
    """Write a video, atomically.

    Args:
        path: The file, an AVI video.
        frames: (F, H, W, 3) uint8.
        fps: Frames per second.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600))  # as private as the clips
        with av.open(str(temporary.absolute()), "w", format="avi") as container:
            stream = container.add_stream(_CODEC, rate=fps)
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = _PIXELS
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=_RGB)))
            container.mux(stream.encode())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_film(path: Path, frames: int | None = None) -> Array:
    """Decode a video; also of older runs, which wrote FFV1.

    Args:
        path: The file.
        frames: How many there must be, where that is known.

    Returns:
        (F, H, W, 3) uint8.

    Raises:
        DamagedFileError: if it is missing, no whole video, or of another length.
    """
    try:
        with av.open(str(path.absolute())) as container:
            decoded = [frame.to_ndarray(format=_RGB) for frame in container.decode(video=0)]
    except (OSError, av.FFmpegError) as error:
        raise DamagedFileError(f"the clip {path} cannot be read: {error}") from None
    if not decoded or (frames is not None and len(decoded) != frames):
        raise DamagedFileError(f"the clip {path} is damaged: it holds {len(decoded)} frames of {frames}")
    return np.stack(decoded)
