"""Compare lossless video codecs on a run's clips: file size, and CPU time for writing and reading.

`python -m prefrl_benchmarks.scripts.video_codecs RUN`
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from prefrl.arrays import Array
from prefrl.printable import printable
from prefrl.rendering.clip_video import read_clip_video

_CLIPS, _REPEATS = 6, 3


class Codec(NamedTuple):
    """A video codec with its options."""

    name: str
    pixels: str
    container: str
    options: dict[str, str]


_RANGE = {"coder": "range_def", "context": "1", "g": "300", "level": "3", "slices": "4", "slicecrc": "1"}
CODECS = (
    Codec("zlib", "bgr24", "avi", {}),
    Codec("ffv1", "bgr0", "matroska", {}),
    Codec("ffv1", "bgr0", "matroska", _RANGE),
    Codec("libx264rgb", "bgr0", "matroska", {"qp": "0", "preset": "medium"}),
    Codec("libx264rgb", "bgr0", "matroska", {"qp": "0", "preset": "medium", "tune": "fastdecode"}),
    Codec("png", "rgb24", "mov", {"pred": "paeth"}),
    Codec("libvpx-vp9", "gbrp", "matroska", {"lossless": "1"}),
)


def measure(codec: Codec, clips: list[Array]) -> tuple[float, float, float]:
    """Write and read each clip. Returns KB per frame, and the minimum CPU milliseconds to write and read a frame."""
    size, writing, reading = 0, [], []
    for frames in clips:
        for _ in range(_REPEATS):
            started = time.process_time()
            content = _written(codec, frames)
            written = time.process_time()
            with av.open(io.BytesIO(content), "r") as container:
                again = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            reading.append((time.process_time() - written) / len(frames))
            writing.append((written - started) / len(frames))
        if not np.array_equal(np.stack(again), frames):
            raise ValueError(f"{codec} is not lossless")
        size += len(content)
    return size / 1024 / sum(map(len, clips)), 1e3 * min(writing), 1e3 * min(reading)


def _written(codec: Codec, frames: Array) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=codec.container) as container:
        stream = container.add_stream(codec.name, rate=30, options=codec.options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.thread_count = codec.pixels, 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


if __name__ == "__main__":
    paths = sorted(path for path in Path(sys.argv[1], "clips").iterdir() if path.suffix in {".avi", ".mkv"})
    shown = [read_clip_video(path) for path in paths[:_CLIPS]]
    print(f"{len(shown)} clips of {shown[0].shape}")
    for one in CODECS:
        size, write, read = measure(one, shown)
        took = f"write {write:5.2f} ms  read {read:5.2f} ms"
        print(printable(f"{one.name:<11} {size:6.2f} KB  {took}  {one.options}"))
