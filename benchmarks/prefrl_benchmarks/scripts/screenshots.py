"""Take screenshots of the viewer in the light and the dark theme. The run must have clips to compare.

Run it as `python -m prefrl_benchmarks.scripts.screenshots RUN FOLDER [KEY ...]`. The keys (`Left` and so on) are
pressed first and are stored as real answers; the viewer then shows a labelling rate.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from prefrl_benchmarks.measure.screen import Screen, clip_areas
from prefrl_benchmarks.measure.viewer import until

_COLOURS = 160
"""Reduced to make the file smaller."""
_BETWEEN_KEYS = 2.0


def take(screen: Screen, path: Path) -> None:
    """Save the screen without the black area around the window."""
    picture = screen.grab()
    used = picture.max(axis=2) > 0
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    window = Image.fromarray(picture[: rows[-1] + 1, : columns[-1] + 1])
    window.quantize(_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main(run: Path, folder: Path, keys: list[str]) -> None:
    """Open the viewer, press the keys, and take both screenshots."""
    folder.mkdir(parents=True, exist_ok=True)
    with Screen() as screen:
        command = [sys.executable, "-m", "prefrl", "label", str(run), "--theme", "light"]
        with subprocess.Popen(command, env=screen.environment()) as viewer:
            screen.focus(viewer)
            until(lambda: clip_areas(screen.grab()) is not None, "the clips")
            for key in keys:
                time.sleep(_BETWEEN_KEYS)
                screen.key(key)
            for name in ("light", "dark"):
                time.sleep(_BETWEEN_KEYS)
                take(screen, folder / f"viewer-{name}.png")
                screen.key("d")
            screen.key("ctrl+q")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
