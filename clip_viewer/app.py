"""Starts the viewer."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from prefrl.errors import UsageError


def label(root: Path, labeller: str) -> int:
    """Open the viewer on a run, until the window is closed.

    Args:
        root: The run.
        labeller: Who labels.

    Returns:
        The exit status.

    Raises:
        UsageError: if there is no display, no Qt, or the run asks nobody.
    """
    try:
        from PySide6.QtWidgets import QApplication  # noqa: PLC0415 - an extra
    except ImportError as error:
        hint = "pip install 'prefrl[viewer]'; see `prefrl doctor`"
        raise UsageError(f"the viewer needs PySide6 ({error}): {hint}") from None
    displays = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform == "linux" and not any(os.environ.get(name) for name in displays):
        raise UsageError("there is no display: DISPLAY is not set (over ssh: `ssh -X`); see `prefrl doctor`")
    from clip_viewer.fetcher import Fetcher  # noqa: PLC0415
    from clip_viewer.session import Session  # noqa: PLC0415
    from clip_viewer.window import LabelWindow  # noqa: PLC0415

    session = Session(root, labeller)
    application = QApplication.instance() or QApplication(["prefrl label"])
    window = LabelWindow(session, Fetcher(session))
    window.show()
    return int(application.exec())
