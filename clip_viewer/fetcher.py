"""Fetches and decodes the next pairs off the window's thread, so that each answer is followed by one at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage

from clip_viewer.session import IN_HAND, Progress, Session
from prefrl.errors import explain
from prefrl.feedback.leases import Lease
from prefrl.types import Array

_POLL_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class Shown:
    """A query's clips, ready to be painted."""

    lease: Lease
    films: tuple[list[QImage], ...]


def images(frames: Array) -> list[QImage]:
    """(F, H, W, 3) frames as images that own their pixels, in the format that the screen takes without conversion."""
    height, width = frames.shape[1:3]
    kept = (np.ascontiguousarray(frame) for frame in frames)
    views = (QImage(frame.data, width, height, 3 * width, QImage.Format.Format_RGB888) for frame in kept)
    return [view.convertToFormat(QImage.Format.Format_RGB32) for view in views]


class Fetcher(QObject):
    """A thread that keeps some pairs ready."""

    ready = Signal(object)
    """A `Shown` pair."""
    progressed = Signal(object)
    """A `Progress`."""
    failed = Signal(str)
    """Something is wrong with the run's files."""

    def __init__(self, session: Session) -> None:
        """Get ready for a session; `start` begins."""
        super().__init__()
        self._session = session
        self._known: set[int] = set()
        self._lock = threading.Lock()
        self._wake, self._stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin to fetch."""
        self._thread.start()

    def wake(self, forget: int | None = None) -> None:
        """Look for pairs at once.

        Args:
            forget: A query that is to be fetched again.
        """
        with self._lock:
            self._known.discard(forget or -1)
        self._wake.set()

    def close(self) -> None:
        """Stop; waits for what it is at."""
        self._stopped = True
        self._wake.set()
        self._thread.join(timeout=5)

    def _work(self) -> None:
        report: Callable[[Progress], None] = self.progressed.emit
        while not self._stopped:
            try:
                leases = self._session.leases(IN_HAND)
                report(self._session.progress())
                for lease in leases:
                    with self._lock:
                        new = lease.query_id not in self._known
                        self._known.add(lease.query_id)
                    if new and (pair := self._session.load(lease)):
                        self.ready.emit(Shown(lease, tuple(images(film) for film in pair.films)))
            except Exception as error:  # a thread that died would leave what it said last on the screen, true or not
                self.failed.emit(f"The run's files cannot be read: {explain(error)}")
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()
