"""Fetch and decode the next pairs in a background thread, so that the next pair appears without delay."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage

from clip_viewer.session import IN_HAND, Progress, Session
from prefrl.arrays import Array
from prefrl.errors import explain
from prefrl.feedback.leases import Lease

_POLL_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class Shown:
    """The clips of a query as images."""

    lease: Lease
    clips: tuple[list[QImage], ...]
    """Frames of each clip."""


def images(frames: Array) -> list[QImage]:
    """Convert frames of shape (F, H, W, 3) to images in the screen's format, which own their pixels."""
    height, width = frames.shape[1:3]
    kept = (np.ascontiguousarray(frame) for frame in frames)
    views = (QImage(frame.data, width, height, 3 * width, QImage.Format.Format_RGB888) for frame in kept)
    return [view.convertToFormat(QImage.Format.Format_RGB32) for view in views]


class Fetcher(QObject):
    """A background thread that keeps the next pairs ready."""

    ready = Signal(object)
    """Emits a `Shown` pair."""
    progressed = Signal(object)
    """Emits a `Progress`."""
    failed = Signal(str)
    """Emits a message if the files of the run cannot be read."""

    def __init__(self, session: Session) -> None:
        """Create the thread; call `start` to begin."""
        super().__init__()
        self._session = session
        self._known: set[int] = set()
        self._lock = threading.Lock()
        self._wake, self._stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Start fetching."""
        self._thread.start()

    def wake(self, forget: int | None = None) -> None:
        """Check for new pairs immediately.

        Args:
            forget: Id of a query to fetch again.
        """
        with self._lock:
            self._known.discard(forget or -1)
        self._wake.set()

    def close(self) -> None:
        """Stop the thread and wait for it."""
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
                        self.ready.emit(Shown(lease, tuple(images(frames) for frames in pair.frames)))
            except Exception as error:  # if the thread died, outdated information would stay on the screen
                self.failed.emit(f"The run's files cannot be read: {explain(error)}")
            self._wake.wait(_POLL_SECONDS)
            self._wake.clear()
