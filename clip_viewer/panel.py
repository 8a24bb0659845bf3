"""What is written below the clips: the state, what was said last, counts and pace."""

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
"""How long news stays before the usual line returns."""


def said_in(taken: TakenBack) -> str:
    """What somebody said, as the button has it."""
    names = {choice.value: choice.name for choice in KINDS[taken.kind].choices}
    return "Broken clip" if taken.value is None else names.get(taken.value, str(taken.value))


class StatusPanel(QGridLayout):
    """The present state in large letters, how the clips play, what was said last, and how far the labelling is."""

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
        """Say what has just happened; it stays for a while."""
        self.status.say(printable(text))
        self._news_until = time.monotonic() + seconds

    def tell(self, text: str) -> None:
        """Say how things are, unless there is news."""
        self._usual = text
        if time.monotonic() >= self._news_until:
            self.status.say(text)

    def forget_news(self) -> None:
        """Say how things are at once: what was news is answered."""
        self._news_until = 0.0
        self.status.say(self._usual)

    def show_playing(self, paused: bool, speed: float) -> None:
        """Say whether the clips play, and how fast."""
        self.playing.say(f"{'❚❚ paused' if paused else '▶ playing'} ×{speed:g}")

    def show_nothing_playing(self) -> None:
        """There are no clips."""
        self.playing.say("")

    def show_last(self, last: TakenBack | None) -> None:
        """Say what an undo would take back."""
        self.last.say("" if last is None else f"Your last: {said_in(last)}")
        self.last.setHidden(last is None)

    def show_notice(self, text: str) -> None:
        """Say what there is to be known beside a pair."""
        self.notice.say(text)
        self.notice.setHidden(not text)

    def show_progress(self, progress: Progress, pace: Pace) -> None:
        """Fill the bar: labels of the budget, what is no label, pace, time left."""
        self.done.setMaximum(max(1, progress.budget, progress.answered))
        self.done.setValue(progress.answered)
        self.done.setFormat("   ·   ".join(_counts(progress) + _pace(progress, pace)))
        self.done.setAccessibleName(self.done.text())  # the number alone is what it says otherwise


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
