"""Light and dark: Qt's own colours, in the style that has both on every system."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

Theme = Literal["auto", "light", "dark"]
_SCHEMES = {"auto": Qt.ColorScheme.Unknown, "light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark}


def set_theme(theme: Theme) -> None:
    """Choose the colours of the whole application; `auto` follows the desktop."""
    QApplication.setStyle("Fusion")
    QGuiApplication.styleHints().setColorScheme(_SCHEMES[theme])


def toggle_theme() -> None:
    """From light to dark, or back."""
    dark = QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Dark
    set_theme("light" if dark else "dark")
