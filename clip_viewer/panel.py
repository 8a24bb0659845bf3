"""The panel below the clips: state, last answer, progress and labelling rate."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QGridLayout, QProgressBar

from clip_viewer.pace import Pace
from clip_viewer.session import Progress
from clip_viewer.situation import ENDED
from clip_viewer.texts import PlainLabel
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.leases import TakenBack
from prefrl.printable import printable

_NOTE_SECONDS = 4.0
"""Duration of a temporary message."""


def said_in(taken: TakenBack) -> str:
    """An answer in a word or two, such as the label of its button."""
    return "Broken clip" if taken.value is None else KINDS[taken.kind].said(taken.value)


class StatusPanel(QGridLayout):
    """Shows state, playback, last answer and progress."""

    def __init__(self) -> None:
        super().__init__()
        self.setHorizontalSpacing(12)
        self.setVerticalSpacing(4)
        self.status = PlainLabel("Starting", letters=1.7, bold=True)
        self.playing, self.last = PlainLabel(letters=1.3), PlainLabel()
        for label in (self.playing, self.last):
            label.setWordWrap(False)
            label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.notice = PlainLabel()
        self.notice.hide()
        self.last.hide()
        self.done = QProgressBar()
        self.done.setMinimumHeight(24)
        self.setColumnStretch(0, 1)
        self.addWidget(self.status, 0, 0)
        self.addWidget(self.playing, 0, 1)
        self.addWidget(self.notice, 1, 0, 1, 2)
        self.addWidget(self.done, 2, 0)
        self.addWidget(self.last, 2, 1)
        self._usual = "Starting"
        self._news_until = 0.0

    def news(self, text: str, seconds: float = _NOTE_SECONDS) -> None:
        """Show a temporary message."""
        self.status.say(printable(text))
        self._news_until = time.monotonic() + seconds

    def tell(self, text: str) -> None:
        """Show the state, unless a temporary message is visible."""
        self._usual = text
        if time.monotonic() >= self._news_until:
            self.status.say(text)

    def forget_news(self) -> None:
        """Show the state immediately and drop temporary messages."""
        self._news_until = 0.0
        self.status.say(self._usual)

    def show_playing(self, paused: bool, speed: float) -> None:
        """Show whether the clips play, and their speed."""
        self.playing.say(f"{'❚❚ paused' if paused else '▶ playing'} ×{speed:g}")

    def show_nothing_playing(self) -> None:
        """Show no playback state, as there are no clips."""
        self.playing.say("")

    def show_last(self, last: TakenBack | None) -> None:
        """Show the answer that undo would take back."""
        self.last.say("" if last is None else f"Your last: {said_in(last)}")
        self.last.setHidden(last is None)

    def show_notice(self, text: str) -> None:
        """Show a note below a pair."""
        self.notice.say(text)
        self.notice.setHidden(not text)

    def show_progress(self, progress: Progress, pace: Pace) -> None:
        """Update the progress bar: labels, budget, uncounted answers, rate and remaining time."""
        self.done.setMaximum(max(1, progress.budget, progress.answered))
        self.done.setValue(progress.answered)
        self.done.setFormat("   ·   ".join(_counts(progress) + _pace(progress, pace)))
        self.done.setAccessibleName(self.done.text())  # otherwise screen readers read only the number


def _counts(progress: Progress) -> list[str]:
    uncounted = [
        *([f"{progress.incomparable} can't tell"] if progress.incomparable else []),
        *([f"{progress.repeats} repeated"] if progress.repeats else []),
    ]
    counts = [f"{progress.answered:,} of {progress.budget:,} labels"]
    return [*counts, f"not counted: {', '.join(uncounted)}"] if uncounted else counts


def _pace(progress: Progress, pace: Pace) -> list[str]:
    if progress.situation.state in ENDED:
        return ["labelling is finished"]
    if (rate := pace.per_minute) is None or progress.answered >= progress.budget:
        return []
    left = pace.seconds_left(progress.budget - progress.answered) or 0
    return [f"{rate:.0f} a minute", "less than a minute left" if left < 60 else f"about {left / 60:.0f} min left"]
