"""A scripted person at the real window, who reads screenshots and presses keys.

What is on which side it knows from the screen alone: it compares the pictures there with the films of the pairs that
viewers have in hand.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from prefrl_benchmarks.measure.screen import Box, Screen, clip_areas
from runs import DEADLINE, PREFRL, until

from prefrl.experience.clips import ClipFolder
from prefrl.rendering.clip_video import read_clip_video

KEYS = {"left": "Left", "right": "Right", "equal": "Up", "incomparable": "Down"}
_LOOKS = 6
"""Pictures of the screen in a row, of which one alone may show two clips alike."""
_PAUSE = 0.07
_SMALL = 48
"""Pixels of a side to which pictures are shrunk before they are compared."""
_ALIKE, _CLEARER, _APART = 0.15, 1.5, 0.004
"""How far a picture may be from a film's frame, and how much further the next best pair must be."""


class Seen(NamedTuple):
    """What was on the screen."""

    query: int
    left: int
    """Segment id."""
    right: int
    """Segment id."""
    told: bool = True
    """Whether it could be told from the other pairs in hand; a guess else, since they look alike."""


class Said(NamedTuple):
    """One key that the person pressed, and what was on the screen then."""

    query: int
    left: int
    right: int
    told: bool
    key: str
    at: float


class Person:
    """One person with one viewer at a time, on a screen."""

    def __init__(self, screen: Screen, root: Path, name: str = "ann", patience: float = math.inf) -> None:
        """
        Args:
            screen: Where the window is.
            root: The run's folder.
            name: The labeller's.
            patience: Seconds after which it guesses which of the pairs in hand it sees, where they look alike.
        """
        self.screen, self.root, self.name, self.patience = screen, root, name, patience
        self.said: list[Said] = []
        self._clips = ClipFolder(root / "clips")
        self._films: dict[int, np.ndarray] = {}
        self.viewer: subprocess.Popen[str] | None = None

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        if self.viewer is not None:  # what a failed test left
            self.viewer.kill()
            self.viewer.communicate()

    def open(self, *flags: str) -> None:
        """Start the viewer, and have keys go to its window."""
        command = [PREFRL, "label", str(self.root), "--labeller", self.name, *flags]
        self.viewer = subprocess.Popen(command, env=self.screen.environment(), stderr=subprocess.PIPE, text=True)
        self.screen.focus(self.viewer, DEADLINE)

    def close(self) -> None:
        """Close the viewer; it must end well."""
        assert self.viewer is not None
        self.screen.key("ctrl+q")
        _, complaints = self.viewer.communicate(timeout=30)
        assert (self.viewer.returncode, complaints) == (0, ""), complaints
        self.viewer = None

    def better(self, seen: Seen) -> str:
        """The true reward's verdict."""
        left, right = (float(self._clips.load(segment).true_rewards.sum()) for segment in (seen.left, seen.right))
        return "left" if left > right else "right"

    def say(self, seen: Seen, judgement: str) -> None:
        """Press the key of an answer to what was seen; the viewer takes none before a person can have looked."""
        self.said.append(Said(*seen, judgement, time.time()))
        self.screen.key(KEYS[judgement])

    def take_back(self) -> Said:
        """Press Backspace; what was said last is no more."""
        self.screen.key("BackSpace")
        return self.said.pop()

    def see(self, besides: int | None = None) -> Seen:
        """Which pair is on the screen, once it is another than `besides`."""
        guess_at = time.monotonic() + self.patience
        what = "a pair that can be told from the others"
        # The first clips wait for the renderer, which gives way to everything else at work.
        return until(lambda: self._look(besides, guess=time.monotonic() > guess_at), what, 3 * DEADLINE)

    def _look(self, besides: int | None, guess: bool) -> Seen | None:
        assert self.viewer is not None
        assert self.viewer.poll() is None, self.viewer.communicate()[1]
        pictures = [self.screen.grab() for _ in range(_LOOKS) if time.sleep(_PAUSE) is None]
        pairs = in_hand(self.root)
        places = clip_areas(pictures[-1])
        if not pairs or places is None:
            return None
        segments = {segment for pair in pairs for segment in pair[1:]}
        at = [{segment: self._unlike(pictures, place, segment) for segment in segments} for place in places]
        sides = [Seen(*pair) for pair in pairs] + [Seen(query, right, left) for query, left, right in pairs]
        # Both clips are at the same frame; of several pictures each may be at another.
        distances = sorted((float((at[0][s.left] + at[1][s.right]).min(axis=1).mean() / 2), s) for s in sides)
        (least, seen), (next_best, _) = distances[:2]
        if least > _ALIKE:
            return None
        if next_best > _CLEARER * least + _APART:
            return seen if seen.query != besides else None
        others = [s for distance, s in distances if distance < _ALIKE and s.query != besides]
        return others[0]._replace(told=False) if guess and others else None

    def _unlike(self, pictures: list[np.ndarray], place: Box, segment: int) -> np.ndarray:
        """(P, F) how far each picture of the screen is from each frame of a film: 0 the same, 1 nothing in common."""
        if segment not in self._films:
            self._films[segment] = read_clip_video(self._clips.video(segment))
        film = self._films[segment]
        seen = np.stack([_small(place.of(picture)) for picture in pictures])[:, None]
        frames = np.stack([_small(frame) for frame in film])
        return np.abs(seen - frames).sum((2, 3, 4)) / np.maximum(1, (seen + frames).sum((2, 3, 4)))


def _small(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(np.ascontiguousarray(picture), (_SMALL, _SMALL), interpolation=cv2.INTER_AREA).astype(np.float32)


def in_hand(root: Path) -> list[tuple[int, int, int]]:
    """Query, left and right segment of the pairs that viewers have in hand."""
    query = (
        "SELECT leases.query_id, one.segment_id, other.segment_id FROM leases "
        "JOIN query_segments AS one ON one.query_id = leases.query_id AND one.place = 0 "
        "JOIN query_segments AS other ON other.query_id = leases.query_id AND other.place = 1 ORDER BY 1"
    )
    if not (root / "labels.sqlite").exists():
        return []
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite", timeout=30)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []  # the run is making its tables


def standing(root: Path) -> list[tuple[int, int, str]]:
    """Query, the segment shown on the left, and the judgement of each answer that stands, in order."""
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite", timeout=30)) as connection:
        return connection.execute("SELECT query_id, shown_left, judgement FROM labels ORDER BY id").fetchall()


def increasing(said: list[Said]) -> bool:
    """Whether they were said one after the other."""
    return all(one.at < two.at for one, two in itertools.pairwise(said))
