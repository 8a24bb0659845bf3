"""Light and dark, in the style that has both on every system; and large letters."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QWidget

Theme = Literal["auto", "light", "dark"]
_SCHEMES = {"auto": Qt.ColorScheme.Unknown, "light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark}


def set_theme(theme: Theme) -> None:
    """Choose the colours of the whole application; `auto` follows the desktop."""
    QApplication.setStyle("Fusion")
    hints = QGuiApplication.styleHints()
    hints.setColorScheme(_SCHEMES[theme])
    palette = QApplication.style().standardPalette()
    if theme == "dark" and hints.colorScheme() != Qt.ColorScheme.Dark:  # a desktop of which Qt knows no colours
        palette = QPalette(QColor("#3a3f45"), QColor("#25282c"))
        palette.setColor(QPalette.ColorRole.Highlight, QColor("#2f6fb5"))
    QApplication.setPalette(palette)


def toggle_theme() -> None:
    """From light to dark, or back."""
    dark = QApplication.palette().window().color().lightness() < 128
    set_theme("light" if dark else "dark")


def enlarge(widget: QWidget, factor: float, *, bold: bool = False) -> None:
    """Give it larger letters; by its font, since what has a style sheet keeps its colours when the theme changes."""
    font = widget.font()
    font.setPointSizeF(factor * font.pointSizeF())
    font.setBold(bold)
    widget.setFont(font)
