"""Starts the viewer."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefrl.errors import PrefrlError
from prefrl.printable import complain

if TYPE_CHECKING:
    from clip_viewer.theme import Theme


def label(root: Path, labeller: str, theme: Theme = "auto") -> int:
    """Open the viewer on a run, until the window is closed.

    Args:
        root: The run.
        labeller: Who labels.
        theme: Colours: the desktop's, light or dark.

    Returns:
        The exit status.

    Raises:
        UsageError: if the run asks nobody.
        PrefrlError: if there is no display or no Qt.
    """
    from clip_viewer.session import Session  # noqa: PLC0415 - knows nothing of Qt: a wrong run is said first

    session = Session(root, labeller)
    session.progress()  # opens the labels: what is wrong with them is said before a window is needed
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
        # Python hears them at the window's next tick, but it may be painting: it closes only after that.
        signal.signal(number, lambda *_: QTimer.singleShot(0, window.close))
    window.show()
    return int(application.exec())


def _while_starting(kind: Any, _context: Any, message: str) -> None:
    """Qt ends the process where it can open no window, after a page of advice; one line says it."""
    from PySide6.QtCore import QtMsgType  # noqa: PLC0415

    if kind == QtMsgType.QtFatalMsg:
        display = os.environ.get("DISPLAY", "not set")
        complain(f"prefrl: no window can be opened (DISPLAY is {display}); see `prefrl doctor`")
        os._exit(PrefrlError.exit_code)
