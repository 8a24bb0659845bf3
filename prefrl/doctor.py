"""What a machine needs for all of prefrl to work, looked at one by one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_QT_LIBRARIES = (
    "libegl1 libgl1 libdbus-1-3 libfontconfig1 libxkbcommon0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 "
    "libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xkb1"
)
"""What Qt loads on Debian to open a window under X11."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    subject: str
    ok: bool
    detail: str
    remedy: str = ""
    """The command that mends it."""
    optional: bool = False
    """Whether training works without it."""


def examine() -> list[Finding]:
    """Look at everything."""
    checks: list[Callable[[], Finding]] = [
        _python,
        _torch,
        _mujoco,
        _rendering,
        _video,
        _viewer,
        _gpu,
        _memory,
        _folder,
    ]
    return [check() for check in checks]


def _python() -> Finding:
    found, enough = ".".join(map(str, sys.version_info[:3])), sys.version_info >= (3, 11)
    return Finding("Python", enough, found, "" if enough else "use Python 3.11")


def _torch() -> Finding:
    import torch  # noqa: PLC0415

    return Finding("torch", True, f"{torch.__version__}, {os.cpu_count()} cores")


def _mujoco() -> Finding:
    missing = [name for name in ("mujoco", "gymnasium") if importlib.util.find_spec(name) is None]
    detail = f"{', '.join(missing)} missing" if missing else "installed"
    return Finding("MuJoCo", not missing, detail, 'pip install "gymnasium[mujoco]"' if missing else "")


def _rendering() -> Finding:
    """Renders one frame in a process of its own: a broken GL library may take the process with it."""
    script = (
        "import prefrl.tasks as t; e = t.make_env('Hopper-v5', render_mode='rgb_array'); "
        "e.reset(); f = e.render(); print(f.shape, f.max())"
    )
    environment = {"MUJOCO_GL": "egl"} | dict(os.environ)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("rendering", False, "no frame within a minute", optional=True)
    if done.returncode == 0:
        return Finding("rendering", True, f"MuJoCo renders with MUJOCO_GL={environment['MUJOCO_GL']}")
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return Finding("rendering", False, lines[-1], "apt-get install libegl1 libgl1 libegl-mesa0", optional=True)


def _video() -> Finding:
    try:
        import imageio_ffmpeg  # noqa: PLC0415

        return Finding("video", True, f"ffmpeg at {imageio_ffmpeg.get_ffmpeg_exe()}")
    except (ImportError, RuntimeError) as error:
        return Finding("video", False, str(error), "pip install imageio-ffmpeg", optional=True)


def _viewer() -> Finding:
    """Opens a window on no screen, in a process of its own: a library that Qt lacks ends the process."""
    if importlib.util.find_spec("PySide6") is None:
        return Finding("viewer", False, "PySide6 is missing", "pip install 'prefrl[viewer]'", optional=True)
    if sys.version_info < (3, 12) and importlib.metadata.version("PySide6-Essentials") == "6.12.0":
        remedy = "pip install 'PySide6-Essentials!=6.12.0'"
        return Finding("viewer", False, "PySide6 6.12.0 crashes on this Python after minutes", remedy, optional=True)
    script = "from PySide6.QtWidgets import QApplication, QLabel; a = QApplication([]); QLabel('x').show()"
    on_screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))
    environment = dict(os.environ) if on_screen else dict(os.environ) | {"QT_QPA_PLATFORM": "offscreen"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("viewer", False, "no window within a minute", optional=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        remedy = "ssh -X" if "not connect to display" in done.stderr else f"apt-get install {_QT_LIBRARIES}"
        return Finding("viewer", False, lines[0], remedy, optional=True)
    if not on_screen:
        return Finding("viewer", False, "there is no display (DISPLAY is not set)", "ssh -X", optional=True)
    return Finding("viewer", True, "Qt opens windows", optional=True)


def _gpu() -> Finding:
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        return Finding("GPU", True, torch.cuda.get_device_name(0), optional=True)
    return Finding("GPU", True, "none; everything runs on the CPU", optional=True)


def _memory() -> Finding:
    import psutil  # noqa: PLC0415

    free = psutil.virtual_memory().available / 2**30
    return Finding("memory", free > 2, f"{free:.1f} GiB free", "" if free > 2 else "close other programs")


def _folder() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    writable = os.access(Path.cwd(), os.W_OK)
    detail = f"{free:.1f} GiB free in {Path.cwd()}" + ("" if writable else ", which cannot be written")
    return Finding("disk", writable and free > 1, detail, "" if writable and free > 1 else "use --out on another disk")
