"""Small files that would decompress to gigabytes are refused in one line, quickly and with little memory."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
import pytest
from labelled import add_labels, make_run, random_segment
from runs import DEADLINE, environment
from test_admission import forged

import prefrl as package
from prefrl.errors import DamagedFileError, PrefrlError, UsageError
from prefrl.experience.clips import LARGEST_CLIP, LARGEST_FRAMES, ClipFolder
from prefrl.experience.scenes import scene_frames
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.transfer import export_labels
from prefrl.rendering.clip_video import read_clip_video, write_clip_video
from prefrl.storage.files import load_tree, save_tree
from prefrl.storage.reading import inflated

MEMORY, SECONDS = 300 * 2**20, 1.0
READ = """
import sys, time
from pathlib import Path
from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.archive_admission import read_archive
from prefrl.rendering.clip_video import read_clip_video
kind, path = sys.argv[1], Path(sys.argv[2])
def held():  # getrusage would tell the most that the process that started this one had held, where that is more
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
before, began = held(), time.process_time()
try:
    if kind == "zip":
        read_archive(path)
    elif kind == "film":
        read_clip_video(path, 15)
        print("read")
    else:
        ClipFolder(path).load(0)
except PrefrlError as error:
    print(error)
print(time.process_time() - began, held() - before)
"""


def cost(kind: str, path: Path) -> str:
    """What a file is refused with, by a process that may take no more than is allowed of processor and memory.

    It has three tries, for beside other tests even processor time is longer.
    """
    for _ in range(3):
        said, seconds, memory = _once(kind, path)
        assert memory < MEMORY
        if seconds < SECONDS:
            return said
    raise AssertionError(f"{seconds} seconds of a processor")


def _once(kind: str, path: Path) -> tuple[str, float, float]:
    done = subprocess.run(
        [sys.executable, "-c", READ, kind, str(path)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, figures = done.stdout.splitlines()
    seconds, memory = map(float, figures.split())
    return said, seconds, memory


# -- deflated data --------------------------------------------------------------------------------------------------


def deflated_zeros(size: int) -> bytes:
    """What `zlib.compress` makes of so many zeros: one part of 16 MiB, repeated (RFC 1950)."""
    part = zlib.compressobj(9, wbits=-15)
    block = part.compress(bytes(2**24)) + part.flush(zlib.Z_FULL_FLUSH)
    checksum = (size % 65521) << 16 | 1
    return b"\x78\xda" + block * (size // 2**24) + part.flush() + struct.pack(">I", checksum)


def test_the_deflated_zeros_are_those_of_zlib() -> None:
    assert zlib.decompress(deflated_zeros(2**25)) == bytes(2**25)


def test_what_was_deflated_comes_back_only_at_its_size() -> None:
    data = zlib.compress(bytes(1000))
    assert inflated(data, 1000) == bytes(1000)
    for wrong in (999, 1001, 0, 10**9):
        with pytest.raises(ValueError, match="does not inflate"):
            inflated(data, wrong)
    for damaged in (data[:-5], data + b"x", b"", b"garbage"):
        with pytest.raises(ValueError, match=r"."):
            inflated(damaged, 1000)


def test_a_clip_that_would_inflate_to_gigabytes(tmp_path: Path) -> None:
    data = deflated_zeros(2**31)
    for shape in ([2**31], [15, 16, 48, 48], [2**62, 2**62], [-1, -1], ["x"], "x", [2.5], 3, None):
        deflated = {"deflated": np.frombuffer(data, np.uint8), "shape": shape}
        save_tree(tmp_path / "00000000.safetensors", {"features": deflated, "true_rewards": np.zeros(15, np.float32)})
        with pytest.raises(DamagedFileError):
            ClipFolder(tmp_path).load(0)
    deflated["shape"] = [2**26]
    save_tree(tmp_path / "00000000.safetensors", {"features": deflated, "true_rewards": np.zeros(15, np.float32)})
    assert "is damaged" in cost("clip", tmp_path)


def test_a_clip_of_experience_that_would_inflate_to_gigabytes(tmp_path: Path) -> None:
    data = deflated_zeros(2**31)
    clips = ClipFolder(tmp_path)
    clips.save(random_segment(0, "moving-dot"))
    tree = load_tree(clips.file(0))
    for shape in ([2**31], [18, 48, 48], [2**16, 2**7, 2**7]):
        deflated = {"deflated": np.frombuffer(data, np.uint8), "shape": shape}
        save_tree(clips.file(0), tree | {"observations": deflated})
        with pytest.raises(DamagedFileError):
            clips.load(0)
    assert "is damaged" in cost("clip", tmp_path)
    with clips.file(0).open("ab") as file:
        file.truncate(LARGEST_CLIP + 2**20 + 1)
    assert "more than can be right" in cost("clip", tmp_path)


def test_a_filmed_scene_that_would_inflate_to_gigabytes() -> None:
    data = np.frombuffer(zlib.compress(bytes(10**6)), np.uint8)
    for shape in ([2**20, 2**20, 3], [1000, 1000, 2], [-1, 1, 1], [0, 0, 0]):
        with pytest.raises(ValueError, match=r"frame cannot|does not inflate"):
            scene_frames({"film": {"0": {"deflated": data, "shape": shape}}})


# -- zips -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of labels of images."""
    run = make_run(tmp_path_factory.mktemp("pictures") / "run", "moving-dot")
    add_labels(run, 3)
    path = run.root.parent / "labels.zip"
    export_labels(run.root, path)
    return path


def test_a_zip_whose_clips_would_inflate_to_gigabytes(pictures: Path, tmp_path: Path) -> None:
    data = deflated_zeros(2**30)
    path, clip = tmp_path / "bomb.zip", tmp_path / "clip"
    with zipfile.ZipFile(pictures) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith(".safetensors"):
                clip.write_bytes(content)
                tree = load_tree(clip)
                tree["observations"] = {"deflated": np.frombuffer(data, np.uint8), "shape": [2**30]}
                save_tree(clip, tree)
                content = clip.read_bytes()
            target.writestr(entry, content)
    assert "labels" in cost("zip", path)


def overlapping(path: Path, members: int, size: int) -> None:
    """A zip of many members that are all the same bytes."""
    content = bytes(size)
    crc = zlib.crc32(content)
    with path.open("wb") as file:
        file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, crc, size, size, 1, 0) + b"a" + content)
        start = file.tell()
        for _ in range(members):
            fields = (b"PK\1\2", 20, 20, 0, 0, 0, 0, crc, size, size, 1, 0, 0, 0, 0, 0, 0)
            file.write(struct.pack("<4s6H3I5H2I", *fields) + b"a")
        length = file.tell() - start
        few = min(members, 0xFFFF)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, few, few, length, start, 0))


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    overlapping(tmp_path / "bomb.zip", 2, 1000)
    with pytest.raises(DamagedFileError, match="overlap"):
        read_archive(tmp_path / "bomb.zip")
    overlapping(tmp_path / "bomb.zip", 10_000, 2**20)
    assert "overlap" in cost("zip", tmp_path / "bomb.zip")


def test_a_list_of_members_without_end_is_not_read(tmp_path: Path) -> None:
    overlapping(tmp_path / "bomb.zip", 400_000, 10)
    assert "too many members" in cost("zip", tmp_path / "bomb.zip")


@pytest.mark.parametrize(
    "change", [{"segment_length": 10**12}, {"inputs": {"step": [10**6] * 3, "stack": 1, "dtype": "uint8"}}]
)
def test_a_zip_that_tells_of_giant_clips(change: dict[str, object], pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(pictures) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == "labels.json":
                content = json.dumps(json.loads(content) | change).encode()
            target.writestr(entry, content)
    with pytest.raises(DamagedFileError, match="clips are too large"):
        read_archive(path)


@pytest.mark.parametrize(
    "content", [b"[" * 10**6, b"[" + b"{}," * 10**6 + b"{}]", b'{"a":1e999}', b"{" * 3, b" " * 2**25]
)
def test_a_zip_whose_words_are_a_bomb(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("labels.json", content)
    assert "not an archive of labels" in cost("zip", path)


@pytest.mark.parametrize("change", [{"kind": "x" * 10**7}, {"x" * 10**7: 1}, {"value": "x" * 10**7}], ids=["", "", ""])
def test_a_zip_with_words_of_megabytes(change: dict[str, object], pictures: Path, tmp_path: Path) -> None:
    def fill(contents: dict[str, Any], members: object) -> None:
        contents["labels"][0] |= change

    said = cost("zip", forged(pictures, tmp_path / "bomb.zip", fill))
    assert len(said) < 400 + len(str(tmp_path))


# -- films ----------------------------------------------------------------------------------------------------------


def film(path: Path, frames: int, side: int, codec: str = "zlib", kind: str = "avi", streams: int = 1) -> Path:
    """A video of black frames."""
    pixels = "bgr24" if codec == "zlib" else "yuv420p"
    black = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24")
    with av.open(str(path), "w", format=kind) as container:
        made = [container.add_stream(codec, rate=15) for _ in range(streams)]
        for stream in made:
            stream.width, stream.height, stream.pix_fmt = side, side, pixels
        for _ in range(frames):
            for stream in made:
                container.mux(stream.encode(black))
        for stream in made:
            container.mux(stream.encode())
    return path


def test_a_film_of_frames_without_end_is_read_to_the_one_too_many(tmp_path: Path) -> None:
    path = film(tmp_path / "long.avi", 750, 1024)  # 2.4 GB of frames
    assert "holds more frames of 15" in cost("film", path)


def test_a_film_of_frames_too_large_is_not_decoded(tmp_path: Path) -> None:
    assert "cannot be read" in cost("film", film(tmp_path / "large.avi", 2, 10_000))


def test_a_film_of_as_many_frames_as_it_should_have_that_are_too_much_together(tmp_path: Path) -> None:
    path = film(tmp_path / "large.avi", 15, 2400)  # 259 MB
    assert "cannot be read" in cost("film", path)


def test_the_largest_film_is_in_memory_once(tmp_path: Path) -> None:
    path = film(tmp_path / "large.avi", 15, 2104)
    assert 0.98 < 15 * 2104**2 * 3 / LARGEST_FRAMES < 1
    assert cost("film", path) == "read"


@pytest.mark.parametrize("side", [4000])
def test_a_film_of_frames_that_are_too_much_together(side: int, tmp_path: Path) -> None:
    assert "cannot be read" in cost("film", film(tmp_path / "large.avi", 2, side))


def test_a_film_that_is_none_of_ours(tmp_path: Path) -> None:
    playlist = tmp_path / "list.avi"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n")
    several = film(tmp_path / "several.avi", 15, 64, streams=3)
    other = film(tmp_path / "other.avi", 15, 64, codec="mpeg4")
    for path in (playlist, several, other):
        with pytest.raises(DamagedFileError, match="cannot be read"):
            read_clip_video(path, 15)


def test_a_film_of_ours_is_read_as_before(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (15, 50, 70, 3), dtype=np.uint8)
    write_clip_video(tmp_path / "ours.avi", frames, 15)
    np.testing.assert_array_equal(read_clip_video(tmp_path / "ours.avi", 15), frames)
    np.testing.assert_array_equal(read_clip_video(tmp_path / "ours.avi"), frames)
    for wrong in (14, 16):
        with pytest.raises(PrefrlError, match="frames of"):
            read_clip_video(tmp_path / "ours.avi", wrong)


# -- what the writer may write is what the reader reads -------------------------------------------------------------


def test_a_film_that_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    frames = np.broadcast_to(np.uint8(0), (15, 2400, 2400, 3))
    with pytest.raises(UsageError, match=r"15 frames of 2400x2400 is larger than the limit of 192 MiB"):
        write_clip_video(tmp_path / "large.avi", frames, 15)
    assert not list(tmp_path.iterdir())


def test_a_filmed_scene_of_frames_without_end(tmp_path: Path) -> None:
    frame = {"deflated": np.frombuffer(zlib.compress(bytes(3 * 2000**2), 9), np.uint8), "shape": [2000, 2000, 3]}
    many = {"film": {f"{place:06d}": frame for place in range(100)}}  # 1.2 GB
    with pytest.raises(ValueError, match="frame cannot"):
        scene_frames(many)


def test_a_scene_is_bounded_by_what_a_clip_may_be(tmp_path: Path) -> None:
    with (tmp_path / "00000000.scene.safetensors").open("wb") as file:
        file.truncate(LARGEST_FRAMES + LARGEST_FRAMES // 32 + 2**21)
    with pytest.raises(DamagedFileError, match="more than can be right"):
        ClipFolder(tmp_path).load_scene(0)


class Large(gymnasium.Env):
    """Observations of a megabyte, and pictures of 1920x1080."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-1, 1, (2**20,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, numbers: int = 3, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(-1, 1, (numbers,), np.float32)

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape, np.float32), {}

    def step(self, action):  # type: ignore[no-untyped-def]
        return np.zeros(self.observation_space.shape, np.float32), 0.0, False, False, {}

    def render(self):  # type: ignore[no-untyped-def]
        return np.zeros((1080, 1920, 3), np.uint8)


def test_clips_that_could_not_be_read_back_are_refused_at_the_start(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(UsageError, match=r"a clip of 45 steps of .* has .* and the limit is 128 MB"):
        package.train(Large, env_kwargs={"numbers": 2**20}, steps=1000, labels=5, out=out)
    with pytest.raises(UsageError, match=r"45 frames of 1920x1080 is larger than"):
        package.train(Large, teacher="human", steps=1000, labels=5, out=out)
    assert not out.exists()
    assert LARGEST_CLIP == 128 * 2**20
