"""One clock for two looping clips. Knows nothing of windows."""

from __future__ import annotations

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Playback speeds to choose from, relative to the task's own rate."""


class Player:
    """Which frame is to be shown now."""

    def __init__(self, fps: float) -> None:
        """Make a player.

        Args:
            fps: Frames per second at speed 1.
        """
        self.fps = fps
        self.paused = False
        self._frames = 1
        self._position = 0.0
        self._speed = SPEEDS.index(1.0)

    def load(self, frames: int) -> None:
        """Start clips of this many frames from their beginning."""
        self._frames, self._position = max(1, frames), 0.0

    @property
    def frame(self) -> int:
        """The frame to be shown."""
        return int(self._position) % self._frames

    @property
    def speed(self) -> float:
        """The present speed."""
        return SPEEDS[self._speed]

    def advance(self, seconds: float) -> int:
        """Let time pass; the frame to be shown then."""
        if not self.paused:
            self._position = (self._position + seconds * self.fps * self.speed) % self._frames
        return self.frame

    def step(self, frames: int) -> int:
        """Pause, and go this many frames on, or back where negative."""
        self.paused = True
        self._position = (self.frame + frames) % self._frames
        return self.frame

    def faster(self, steps: int) -> float:
        """Change the speed by steps, slower where negative; the speed then."""
        self._speed = min(max(self._speed + steps, 0), len(SPEEDS) - 1)
        return self.speed
