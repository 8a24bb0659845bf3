"""A virtual X server with simulated key presses and screenshots."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import Any, NamedTuple

import cv2
import mss
import numpy as np

from clip_viewer.views import FRAME, FRAME_COLOUR
from prefrl.arrays import Array
from prefrl.errors import PrefrlError, UsageError

_SIZE = (1280, 960)
_TALLEST_TEXT = 90
"""Height in pixels; taller black areas belong to the clips."""
_SMALLEST_CLIP = 60
"""Minimum side length of a clip in pixels."""


class Box(NamedTuple):
    """A rectangle on the screen, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, picture: Array) -> Array:
        """Crop a picture to this rectangle."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


class Screen:
    """An Xvfb server on a free display number. Use it as a context manager."""

    def __init__(self, size: tuple[int, int] = _SIZE) -> None:
        """Start the server.

        Args:
            size: Width and height in pixels.

        Raises:
            UsageError: if Xvfb or xdotool is not installed.
        """
        if missing := [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]:
            raise UsageError(f"{' and '.join(missing)} missing: apt-get install xvfb xdotool")
        self.size = size
        depth = "x".join(map(str, (*size, 24)))
        command = ["Xvfb", "-displayfd", "1", "-screen", "0", depth, "-nolisten", "tcp"]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._server.stdout is not None
        self.display = f":{self._server.stdout.readline().strip()}"
        self._keys = subprocess.Popen(["xdotool", "-"], stdin=subprocess.PIPE, text=True, env=self.environment())
        self._camera = mss.MSS(display=self.display)

    def environment(self) -> dict[str, str]:
        """Environment variables for processes whose windows should appear on this screen."""
        kept = {name: value for name, value in os.environ.items() if name not in {"QT_QPA_PLATFORM", "WAYLAND_DISPLAY"}}
        return kept | {"DISPLAY": self.display, "OMP_NUM_THREADS": "1"}

    def grab(self, box: Box | None = None) -> Array:
        """Take a screenshot, shape (H, W, 3), uint8 RGB."""
        area = box or Box(0, 0, *self.size)
        shot = self._camera.grab({"left": area.left, "top": area.top, "width": area.width, "height": area.height})
        return np.frombuffer(shot.bgra, np.uint8).reshape(area.height, area.width, 4)[:, :, 2::-1]

    def focus(self, process: subprocess.Popen[Any], timeout: float = 60) -> None:
        """Wait for the window of a process and give it the keyboard focus; there is no window manager to do so.

        Raises:
            PrefrlError: if the process ends without opening a window.
            TimeoutError: if no window appears in time.
        """
        search = ["xdotool", "search", "--onlyvisible", "--pid", str(process.pid)]
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = subprocess.run(search, capture_output=True, text=True, env=self.environment(), check=False)
            if found.stdout.strip():
                self.tell(f"windowfocus --sync {found.stdout.split()[-1]}")
                return
            if process.poll() is not None:
                complaints = process.stderr.read().strip() if process.stderr else ""
                raise PrefrlError(
                    f"no window was opened: the process ended with status {process.returncode} {complaints}"
                )
            time.sleep(0.05)
        raise TimeoutError(f"process {process.pid} has no window after {timeout:.0f} s")

    def key(self, name: str) -> None:
        """Press and release a key by its X name: Left, BackSpace, space."""
        self.tell(f"key --delay 0 {name}")

    def tell(self, command: str) -> None:
        """Send a command to the running xdotool process, which avoids the delay of starting one per key."""
        assert self._keys.stdin is not None
        self._keys.stdin.write(f"{command}\n")
        self._keys.stdin.flush()

    def close(self) -> None:
        """Stop the server, which closes all windows."""
        self._camera.close()
        for process in (self._keys, self._server):
            process.terminate()
            process.wait(timeout=10)
        for pipe in (self._keys.stdin, self._server.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def clip_areas(picture: Array) -> tuple[Box, Box] | None:
    """Find the left and the right clip on a screenshot of the viewer; None if there are not exactly two."""
    lines = (picture == np.array(FRAME_COLOUR, np.uint8)).all(axis=2).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(lines, connectivity=4)
    frames = [
        Box(left, top, width, height)
        for left, top, width, height, pixels in stats[1:].tolist()
        if min(width, height) > _SMALLEST_CLIP and pixels >= 2 * FRAME * (width + height - 2 * FRAME)
    ]
    if len(frames) != 2:
        return None
    left, right = sorted(frames)
    return _inside(left), _inside(right)


def message_area(picture: Array) -> Box | None:
    """Find the area where the viewer explains why there is no pair; None if there is none."""
    black = (picture.max(axis=2) == 0).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(black, connectivity=4)
    inner = [Box(*box) for box in stats[1:, :4].tolist() if box[3] > _TALLEST_TEXT and box[0] > 0]
    return max(inner, key=lambda box: box.width * box.height, default=None)


def _inside(frame: Box) -> Box:
    return Box(frame.left + FRAME, frame.top + FRAME, frame.width - 2 * FRAME, frame.height - 2 * FRAME)
