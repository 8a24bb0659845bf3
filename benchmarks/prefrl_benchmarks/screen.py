"""A screen that nobody sees: an X server of its own, with real keys on it, and pictures of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import NamedTuple

import cv2
import mss
import numpy as np

from prefrl.errors import PrefrlError, UsageError
from prefrl.types import Array

_SIZE = (1280, 960)
_TALLEST_TEXT = 200
"""Pixels; what is black and taller is the area of the clips."""


class Box(NamedTuple):
    """A part of the screen, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, picture: Array) -> Array:
        """This part of a picture."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


class Screen:
    """An Xvfb on a free display number; a context manager."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            UsageError: if Xvfb or xdotool is not installed.
        """
        if missing := [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]:
            raise UsageError(f"{' and '.join(missing)} missing: apt-get install xvfb xdotool")
        size = "x".join(map(str, (*_SIZE, 24)))
        command = ["Xvfb", "-displayfd", "1", "-screen", "0", size, "-nolisten", "tcp"]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._server.stdout is not None
        self.display = f":{self._server.stdout.readline().strip()}"
        self._keys = subprocess.Popen(["xdotool", "-"], stdin=subprocess.PIPE, text=True, env=self.environment())
        self._camera = mss.MSS(display=self.display)

    def environment(self) -> dict[str, str]:
        """This process's environment for a child whose windows are to be here."""
        kept = {name: value for name, value in os.environ.items() if name not in {"QT_QPA_PLATFORM", "WAYLAND_DISPLAY"}}
        return kept | {"DISPLAY": self.display, "OMP_NUM_THREADS": "1"}

    def grab(self, box: Box | None = None) -> Array:
        """What is on the screen now, (H, W, 3) uint8 RGB."""
        area = box or Box(0, 0, *_SIZE)
        shot = self._camera.grab({"left": area.left, "top": area.top, "width": area.width, "height": area.height})
        return np.frombuffer(shot.bgra, np.uint8).reshape(area.height, area.width, 4)[:, :, 2::-1]

    def focus(self, process: subprocess.Popen[str], timeout: float = 60) -> None:
        """Wait for a process's window, and have keys go there: there is no window manager that would.

        Raises:
            PrefrlError: if the process ends without one.
            TimeoutError: if there is none in time.
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
                raise PrefrlError(f"there is no window: its process ended with {process.returncode} {complaints}")
            time.sleep(0.05)
        raise TimeoutError(f"process {process.pid} has no window after {timeout:.0f} s")

    def key(self, name: str) -> None:
        """Press a key and let it go, as the X server names it: Left, BackSpace, space."""
        self.tell(f"key --delay 0 {name}")

    def tell(self, command: str) -> None:
        """Have xdotool do something; its process is there already, so that a key takes no time of its own."""
        assert self._keys.stdin is not None
        self._keys.stdin.write(f"{command}\n")
        self._keys.stdin.flush()

    def close(self) -> None:
        """End it, and with it every window."""
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
    """The left and right clip's place on a picture of the viewer: halves of what is framed in black; None without."""
    black = (picture.max(axis=2) == 0).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(black, connectivity=4)
    sizes = stats[1:, :4]  # left, top, width, height of each black component; the first is all that is not black
    tall = sizes[(sizes[:, 3] > _TALLEST_TEXT) & (sizes[:, 2] < _SIZE[0])]
    if not len(tall):
        return None
    left, top, width, height = max(tall.tolist(), key=lambda box: box[2] * box[3])
    half = width // 2
    return Box(left, top, half, height), Box(left + width - half, top, half, height)
