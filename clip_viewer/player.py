"""Playback position shared by looping clips. Independent of Qt."""

from __future__ import annotations

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Playback speeds relative to the frame rate of the task."""


class Player:
    """Keeps track of the current frame."""

    def __init__(self, fps: float) -> None:
        """Create a player.

        Args:
            fps: Frames per second at speed 1.
        """
        self.fps = fps
        self.paused = False
        self.looped = False
        """Whether the clips have been played to their end."""
        self._frames = 1
        self._position = 0.0
        self._speed = SPEEDS.index(1.0)

    def load(self, frames: int) -> None:
        """Start clips with this number of frames."""
        self._frames, self._position, self.looped = max(1, frames), 0.0, False

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self._frames

    @property
    def frame(self) -> int:
        """Index of the current frame."""
        return int(self._position) % self._frames

    @property
    def speed(self) -> float:
        """Current speed."""
        return SPEEDS[self._speed]

    def advance(self, seconds: float) -> int:
        """Advance by a number of seconds. Returns the current frame."""
        if not self.paused:
            position = self._position + seconds * self.fps * self.speed
            self.looped |= position >= self._frames
            self._position = position % self._frames
        return self.frame

    def step(self, frames: int) -> int:
        """Pause and step by a number of frames (negative: backwards). Returns the current frame."""
        self.paused = True
        self._position = (self.frame + frames) % self._frames
        return self.frame

    def faster(self, steps: int) -> float:
        """Change the speed by a number of steps (negative: slower). Returns the new speed."""
        self._speed = min(max(self._speed + steps, 0), len(SPEEDS) - 1)
        return self.speed
