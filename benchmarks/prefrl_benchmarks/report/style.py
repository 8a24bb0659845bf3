"""The style of figures, and panels as files. A `Draw` fills one pair of axes, so panels can stand together or alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

Draw = Callable[[Axes], None]

_PANEL = (4.2, 3.1)
"""Width and height in inches; readable on a phone."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f3fbf")
"""Colour-blind-safe palette (Okabe and Ito); the true reward is black."""
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "prefrl",
}


def panel(draw: Draw) -> bytes:
    """Render one panel as SVG."""
    return _render(_figure([draw], 1), "svg")


def write_figure(path: Path, draws: Sequence[Draw], columns: int = 4, size: tuple[float, float] = _PANEL) -> None:
    """Write panels to one figure as SVG and PNG.

    Args:
        path: The figure, without suffix.
        draws: The panels.
        columns: Largest number of panels in a row.
        size: Width and height of a panel in inches.
    """
    figure = _figure(draws, min(columns, len(draws)), size)
    for kind in ("svg", "png"):
        path.with_suffix(f".{kind}").write_bytes(_render(figure, kind))


def finish(axes: Axes, title: str, vertical: str, horizontal: str | None = None) -> None:
    """Add the title, the names of the axes, and a legend if there is anything to explain."""
    axes.set_title(title, fontsize=10, loc="left", fontweight="bold")
    axes.set_ylabel(vertical)
    if horizontal:
        axes.set_xlabel(horizontal)
        if horizontal == "agent steps":
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best")


def _figure(draws: Sequence[Draw], columns: int, size: tuple[float, float] = _PANEL) -> Figure:
    rows = math.ceil(len(draws) / columns)
    columns = math.ceil(len(draws) / rows)  # four panels are two rows of two, not three and one
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        for index, draw in enumerate(draws):
            draw(figure.add_subplot(rows, columns, index + 1))
    return figure


def _render(figure: Figure, kind: str) -> bytes:
    stream = BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    with mpl.rc_context(_STYLE):
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
    return stream.getvalue()
