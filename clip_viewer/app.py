"""The command `prefrl label`, which opens the window. Qt is imported only when the window is needed."""

from __future__ import annotations

import getpass
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from prefrl.errors import PrefrlError
from prefrl.printable import complain

if TYPE_CHECKING:
    from clip_viewer.theme import Theme


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
    try:
        from PySide6.QtCore import QTimer, qInstallMessageHandler  # noqa: PLC0415 - an extra
        from PySide6.QtWidgets import QApplication  # noqa: PLC0415
    except ImportError as error:
        hint = "pip install 'prefrl[viewer]'; see `prefrl doctor`"
        raise PrefrlError(f"the viewer needs PySide6 ({error}): {hint}") from None
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in displays):
        raise PrefrlError("there is no display: DISPLAY is not set (over ssh: `ssh -X`); see `prefrl doctor`")
    from clip_viewer.fetcher import Fetcher  # noqa: PLC0415
    from clip_viewer.theme import set_theme  # noqa: PLC0415
    from clip_viewer.window import LabelWindow  # noqa: PLC0415

    qInstallMessageHandler(_while_starting)
    application = QApplication.instance() or QApplication(["prefrl label"])
    qInstallMessageHandler(None)
    set_theme(theme)
    window = LabelWindow(session, Fetcher(session))
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
