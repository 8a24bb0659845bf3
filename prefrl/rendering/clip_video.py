"""Read and write lossless videos of clips.

This uses PyAV, because moviepy halves the colour resolution and may repeat or drop the last frame.

Each frame is compressed separately with zlib, in an AVI file. Hopper's clips are a tenth smaller than with FFV1, and
decode in a quarter of the time, which matters because the viewer runs next to the agent. FFV1 with its range coder
saves another quarter of the size but takes seven times as long; lossless H.264 and VP9 are larger and slower. Files of
Atari games and MovingDot are tiny with any codec (`python -m prefrl_benchmarks.scripts.video_codecs RUN`).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer

from prefrl.arrays import Array
from prefrl.errors import UsageError
from prefrl.experience.clips import LARGEST_FRAMES, MOST_PIXELS, too_large_clip
from prefrl.printable import printable
from prefrl.storage.files import DamagedFileError
from prefrl.storage.reading import opened

_CODEC, _PIXELS, _RGB = "zlib", "bgr24", "rgb24"
_CODECS = {_CODEC, "ffv1"}


def write_clip_video(path: Path, frames: Array, fps: int) -> None:
    """Write a video atomically.

    Args:
        path: The AVI file.
        frames: (F, H, W, 3) uint8.
        fps: Frames per second.

    Raises:
        UsageError: if the frames exceed the size limit for reading.
    """
    if frames.nbytes > LARGEST_FRAMES:
        raise UsageError(too_large_clip(frames.shape[1:3], len(frames)))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600))  # private, like the clips
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


def read_clip_video(path: Path, frames: int | None = None) -> Array:
    """Decode a video. This includes the FFV1 videos of older versions.

    Args:
        path: The file.
        frames: Expected number of frames; None for any.

    Returns:
        (F, H, W, 3) uint8.

    Raises:
        DamagedFileError: if the file is missing, damaged or of another length.
    """
    told = printable(path)
    try:
        # Open a file object, because a name could be a protocol's URL. Fix the format instead of detecting it.
        with opened(path, LARGEST_FRAMES) as file, av.open(file, "r", **_as_ours(path)) as container:
            decoded = _decoded(container, None if frames is None else frames + 1)
    except (OSError, av.FFmpegError, ValueError, MemoryError) as error:
        raise DamagedFileError(f"the clip {told} cannot be read: {printable(error, 200)}") from None
    if not len(decoded) or (frames is not None and len(decoded) != frames):
        held = "more" if frames is not None and len(decoded) > frames else len(decoded)
        raise DamagedFileError(f"the clip {told} is damaged: it holds {held} frames of {frames}")
    return decoded


def _decoded(container: InputContainer, most: int | None) -> Array:
    """Decode up to `most` frames to (F, H, W, 3), holding them in memory once."""
    pixels, shape = bytearray(), (0, 0, 3)
    for frame in itertools.islice(_frames(container), most):
        pixels += frame.data
        shape = frame.shape
    return np.frombuffer(pixels, np.uint8).reshape(-1, *shape) if pixels else np.empty((0, *shape), np.uint8)


def _as_ours(path: Path) -> dict[str, Any]:
    """Return arguments of `av.open` that restrict a file to one stream with frames of bounded size."""
    most = {"max_pixels": str(MOST_PIXELS)}
    return {
        "format": "matroska" if path.suffix == ".mkv" else "avi",
        "options": {"max_streams": "1"} | most,
        "stream_options": [most],
    }


def _frames(container: InputContainer) -> Iterator[Array]:
    """Decode frames, each (H, W, 3), on demand.

    Raises:
        ValueError: if the codec is unknown, sizes differ, or the frames are too large in total.
    """
    stream = container.streams.video[0] if container.streams.video else None
    if stream is None or stream.codec_context.name not in _CODECS:
        raise ValueError("its codec is not supported")
    width, height = stream.codec_context.width, stream.codec_context.height
    if not 0 < width * height <= MOST_PIXELS:
        raise ValueError(f"its frames have {width}x{height} pixels")
    for count, frame in enumerate(container.decode(stream), start=1):
        if (frame.width, frame.height) != (width, height) or count * width * height * 3 > LARGEST_FRAMES:
            raise ValueError("its frames are too many, or differ in size")
        yield np.ascontiguousarray(frame.to_ndarray(format=_RGB))
