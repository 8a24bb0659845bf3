"""Check a machine's requirements for all features of prefrl."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

QT_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libxcb.so.1": "libxcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libz.so.1": "zlib1g",
    "libzstd.so.1": "libzstd1",
}
"""The libraries that Qt needs to open a window under X11, with their Debian packages."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    subject: str
    ok: bool
    detail: str
    remedy: str = ""
    """The command that fixes the problem."""
    optional: bool = False
    """Whether training works without it."""


def examine() -> list[Finding]:
    """Run all checks."""
    return [*_machine(), *_tasks()]


def _machine() -> list[Finding]:
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


def _tasks() -> list[Finding]:
    """Return a finding for each reason why tasks cannot be used, or one finding that all can."""
    from prefrl.experience.tasks import Lack, known_tasks, lack_of  # noqa: PLC0415

    lacking: dict[Lack, list[str]] = {}
    for name, facts in known_tasks().items():
        if lack := lack_of(facts):
            lacking.setdefault(lack, []).append(name)
    if not lacking:
        return [Finding("tasks", True, f"all {len(known_tasks())} can be used")]
    return [
        Finding("tasks", False, f"{', '.join(names)}: {lack.reason}", lack.remedy, optional=True)
        for lack, names in lacking.items()
    ]


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
    """Render one frame in a separate process, because a broken GL library may crash it."""
    script = (
        "import prefrl.experience.make_env as m; e = m.make_env('Hopper-v5', render_mode='rgb_array'); "
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
    return _qt_lacks() or _qt_opens_windows()


def _qt_lacks() -> Finding | None:
    """Return what keeps Qt from working on this machine, or None."""
    if importlib.util.find_spec("PySide6") is None:
        return Finding("viewer", False, "PySide6 is missing", "pip install 'prefrl[viewer]'", optional=True)
    if sys.version_info < (3, 12) and importlib.metadata.version("PySide6-Essentials") == "6.12.0":
        remedy = "pip install 'PySide6-Essentials!=6.12.0'"
        return Finding("viewer", False, "PySide6 6.12.0 crashes on this Python after minutes", remedy, optional=True)
    if missing := missing_libraries(QT_LIBRARIES) if sys.platform == "linux" else {}:
        remedy = f"apt-get install {' '.join(dict.fromkeys(missing.values()))}"
        return Finding("viewer", False, f"Qt lacks {', '.join(missing)}", remedy, optional=True)
    return None


def _qt_opens_windows() -> Finding:
    """Open a window in a separate process, because Qt aborts on errors. Without a display, use an offscreen one."""
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
        remedy = "ssh -X" if "not connect to display" in done.stderr else ""
        return Finding("viewer", False, lines[0], remedy, optional=True)
    if not on_screen:
        return Finding("viewer", False, "there is no display (DISPLAY is not set)", "ssh -X", optional=True)
    return Finding("viewer", True, "Qt opens windows", optional=True)


def missing_libraries(packages: Mapping[str, str]) -> dict[str, str]:
    """Return the shared libraries that the dynamic linker cannot load.

    Args:
        packages: Debian packages by library name.

    Returns:
        The missing libraries, with their packages.
    """
    return {library: package for library, package in packages.items() if not _loads(library)}


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


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
