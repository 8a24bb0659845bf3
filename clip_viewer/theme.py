"""Light and dark themes, and font sizes."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QWidget

Theme = Literal["auto", "light", "dark"]
_SCHEMES = {"auto": Qt.ColorScheme.Unknown, "light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark}


def set_theme(theme: Theme) -> None:
    """Set the colours of the application; `auto` follows the desktop."""
    QApplication.setStyle("Fusion")
    hints = QGuiApplication.styleHints()
    hints.setColorScheme(_SCHEMES[theme])
    palette = QApplication.style().standardPalette()
    if theme == "dark" and hints.colorScheme() != Qt.ColorScheme.Dark:  # Qt cannot set the colours on this desktop
        palette = QPalette(QColor("#3a3f45"), QColor("#25282c"))
        palette.setColor(QPalette.ColorRole.Highlight, QColor("#2f6fb5"))
    QApplication.setPalette(palette)


def toggle_theme() -> None:
    """Toggle between light and dark."""
    dark = QApplication.palette().window().color().lightness() < 128
    set_theme("light" if dark else "dark")


def enlarge(widget: QWidget, factor: float, *, bold: bool = False) -> None:
    """Scale the font. A style sheet would keep its colours when the theme changes."""
    font = widget.font()
    font.setPointSizeF(factor * font.pointSizeF())
    font.setBold(bold)
    widget.setFont(font)
