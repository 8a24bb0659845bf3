"""What is written around the clips: the instruction above, the state, counts and pace below."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QVBoxLayout

from clip_viewer.pace import Pace
from clip_viewer.session import Progress
from clip_viewer.theme import enlarge

_NOTE_SECONDS = 4.0
"""How long news stays before the usual line returns."""
QUESTION = "Which is better?"
WAITS = "The agent waits for labels."
FINISH = "Ask no more, and let the run go on to its end with the labels there are?"


class Instruction(QLabel):
    """What is to be preferred; always in view."""

    def __init__(self, text: str) -> None:
        super().__init__(text, accessibleName="Instruction")
        self.setWordWrap(True)
        self.setMargin(4)
        enlarge(self, 1.4, bold=True)


class StatusPanel(QVBoxLayout):
    """The present state in large letters, how the clips play, and how far the labelling is."""

    def __init__(self) -> None:
        super().__init__(spacing=8)
        self.status = QLabel("starting", accessibleName="Status", wordWrap=True)
        enlarge(self.status, 1.8, bold=True)
        self.playing = QLabel(accessibleName="Playback")
        enlarge(self.playing, 1.4)
        self.done = QProgressBar(accessibleName="Labels done")
        self.done.setMinimumHeight(24)
        lines = QHBoxLayout()
        lines.addWidget(self.status, stretch=1)
        lines.addWidget(self.playing, alignment=Qt.AlignmentFlag.AlignRight)
        self.addLayout(lines)
        self.addWidget(self.done)
        self._news_until = 0.0

    def news(self, text: str) -> None:
        """Say what has just happened; it stays for a while."""
        self.status.setText(text)
        self._news_until = time.monotonic() + _NOTE_SECONDS

    def tell(self, text: str) -> None:
        """Say how things are, unless there is news."""
        if time.monotonic() >= self._news_until:
            self.status.setText(text)

    def show_playing(self, paused: bool, speed: float) -> None:
        """Say whether the clips play, and how fast."""
        self.playing.setText(f"{'❚❚ paused' if paused else '▶ playing'} ×{speed:g}")

    def show_progress(self, progress: Progress, pace: Pace) -> None:
        """Fill the bar: labels of the budget, pace, time left."""
        parts = ["%v of %m labels"]
        if (rate := pace.per_minute) is not None:
            minutes = (pace.seconds_left(progress.budget - progress.answered) or 0) / 60
            parts += [f"{rate:.0f} a minute", f"about {minutes:.0f} min left"]
        self.done.setFormat("   ·   ".join(parts))
        self.done.setMaximum(max(progress.budget, progress.answered))
        self.done.setValue(progress.answered)
