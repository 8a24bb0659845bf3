"""The commands `prefrl label` and `prefrl demonstrate`, and the window of `prefrl reward probe`.

Qt is imported only when it is needed.
"""

from __future__ import annotations

import getpass
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from prefrl.config.request import EnvKwargs
from prefrl.errors import PrefrlError, UsageError
from prefrl.printable import complain, say

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication, QWidget

    from clip_viewer.theme import Theme
    from prefrl.probing.request import ProbeRequest
    from prefrl.runs.control import Control


def label(
    run: Positional[Path], /, *, labeller: str | None = None, theme: Literal["auto", "light", "dark"] = "auto"
) -> int:
    """Compare clips in a window, for a run whose teacher is `human`. Close it and come back whenever you like.

    Args:
        run: The run directory.
        labeller: Your name, stored with your answers (default: your user name).
        theme: The window's colours: auto (follow the desktop), light or dark. Press D to switch.
    """
    return open_viewer(run, labeller or getpass.getuser(), theme)


def open_viewer(root: Path, labeller: str, theme: Theme = "auto") -> int:
    """Show the window until it is closed.

    Args:
        root: The run directory.
        labeller: Name that is stored with the answers.
        theme: The window's colours.

    Returns:
        The exit status.

    Raises:
        UsageError: if the run's teacher is not `human`.
        PrefrlError: if there is no display, or PySide6 is not installed.
    """
    from clip_viewer.session import Session  # noqa: PLC0415 - needs no Qt, so a wrong run is reported first

    session = Session(root, labeller)
    session.progress()  # opens the labels, so that problems are reported before a window opens
    application = start_application("prefrl label")
    from clip_viewer.fetcher import Fetcher  # noqa: PLC0415
    from clip_viewer.theme import set_theme  # noqa: PLC0415
    from clip_viewer.window import LabelWindow  # noqa: PLC0415

    set_theme(theme)
    return show(application, LabelWindow(session, Fetcher(session)))


def demonstrate(
    task: Positional[str],
    /,
    *,
    out: Path | None = None,
    seed: int = 0,
    speed: float = 1.0,
    env_kwargs: EnvKwargs = {},  # noqa: B006 - never modified
) -> int:
    """Play a task in a window, and record it as demonstrations for `prefrl train --demonstrations`.

    Args:
        task: Name of a task, or a Gymnasium id, with discrete actions or one or two continuous ones.
        out: A new file (default: TASK-demonstrations.safetensors in this folder).
        seed: Seed of the first episode.
        speed: Speed relative to the task's playback rate.
        env_kwargs: Arguments of the environment's constructor, e.g. level=3. A value that is not JSON is taken as text.
    """
    from clip_viewer.demonstrating import Demonstrating  # noqa: PLC0415 - slow

    if not 0 < speed <= 100:
        raise UsageError("--speed must be in (0, 100]")
    target = (out or Path(f"{task.replace('/', '-')}-demonstrations.safetensors")).expanduser()
    shown = Demonstrating(task, target, dict(env_kwargs), seed)
    try:
        application = start_application("prefrl demonstrate")
        from clip_viewer.demonstration_window import DemonstrationWindow  # noqa: PLC0415

        window = DemonstrationWindow(shown, speed)
        show(application, window)
        kept = shown.save()
    finally:
        shown.close()
    if kept:
        returns = " ".join(f"{total:.1f}" for total in shown.returns)
        say([f"{target}: {kept} episodes with true returns {returns}"])
    if window.problem:
        raise window.problem
    if not kept:
        raise PrefrlError("no step was played, so no file was written")
    return 0


def watch(request: ProbeRequest, control: Control) -> None:
    """Show the clips of a finished probe until the window is closed. Clips without a video are rendered first.

    Args:
        request: The probe, run with `watch`.
        control: Stops the rendering.

    Raises:
        PrefrlError: if there is no display or no clip, PySide6 is not installed, or a clip cannot be rendered.
        StopTraining: if the rendering was told to stop.
    """
    from clip_viewer.probe_clips import ProbeClips  # noqa: PLC0415 - slow

    shown = ProbeClips(request)
    application = start_application("prefrl reward probe")
    from clip_viewer.probe_window import ProbeWindow  # noqa: PLC0415
    from prefrl.commands.display import CountDisplay  # noqa: PLC0415
    from prefrl.probing.videos import render_clips  # noqa: PLC0415

    with CountDisplay("clips") as display:
        render_clips(request, display.report, control)
    show(application, ProbeWindow(shown, f"{request.run.config.task} - {request.out}"))
    if shown.added:
        say([shown.queue_said])


def start_application(name: str) -> QApplication:
    """Start Qt.

    Raises:
        PrefrlError: if there is no display, or PySide6 is not installed.
    """
    try:
        from PySide6.QtCore import qInstallMessageHandler  # noqa: PLC0415 - an extra
        from PySide6.QtWidgets import QApplication  # noqa: PLC0415
    except ImportError as error:
        hint = "pip install 'prefrl[viewer]'; see `prefrl doctor`"
        raise PrefrlError(f"the viewer needs PySide6 ({error}): {hint}") from None
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(os.environ.get(each) for each in displays):
        raise PrefrlError("there is no display: DISPLAY is not set (over ssh: `ssh -X`); see `prefrl doctor`")
    qInstallMessageHandler(_while_starting)
    application = QApplication.instance() or QApplication([name])
    qInstallMessageHandler(None)
    assert isinstance(application, QApplication)
    return application


def show(application: QApplication, window: QWidget) -> int:
    """Show a window until it is closed, also by a signal, and return the exit status."""
    from PySide6.QtCore import QTimer  # noqa: PLC0415

    for number in (signal.SIGINT, signal.SIGTERM):
        # Python handles signals at the next timer tick; the window may be painting then, so close it afterwards.
        signal.signal(number, lambda *_: QTimer.singleShot(0, window.close))
    window.show()
    return int(application.exec())


def _while_starting(kind: Any, _context: Any, message: str) -> None:
    """Report in one line that no window can be opened. Qt itself prints a page of advice and aborts the process."""
    from PySide6.QtCore import QtMsgType  # noqa: PLC0415

    if kind == QtMsgType.QtFatalMsg:
        display = os.environ.get("DISPLAY", "not set")
        complain(f"prefrl: no window can be opened (DISPLAY is {display}); see `prefrl doctor`")
        os._exit(PrefrlError.exit_code)
