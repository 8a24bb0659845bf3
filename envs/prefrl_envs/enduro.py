"""Enduro judged otherwise than by its score: for effort, and for driving level with the traffic (section 3.2).

The rewards are ours, for simulated teachers; in the paper, people judged. The returns that are reported are the game's
scores, as for every game.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from prefrl_envs.atari import GAMES, NOOPS, AtariGame

STANDING, FULL_SPEED = 6, 60
"""The speed in the game's memory, standing and after some five seconds of acceleration. At most 71 was seen."""
ROWS = 7
"""Rows of the road in which the game keeps the other cars, from the own car to the horizon; at most one car in each."""
_SPEED, _FIRST_ROW, _OFFSET = 22, 27, 59
"""Where the game's memory keeps the speed, the nearest row and the place within a row. Measured by accelerating and
braking: a car that drives away moves from row to row, and the offset grows from 0 to 127 within each. The other cars
all drive as fast as the own car does at a speed of 24."""
_OFFSETS = 128
_MOST_LOST = 40
"""Offsets by which one step can fall behind, which is standing still. At the highest speed, 80 are gained."""


@dataclass(frozen=True)
class Road:
    """A moment of the game, as a person sees it."""

    speed: int
    """From `STANDING` to about `FULL_SPEED`."""
    offset: int
    """Place of the other cars within their rows, 0 to 127; it grows as they drive away."""
    cars: tuple[bool, ...]
    """Whether there is a car in each of the `ROWS`, the nearest first."""

    @classmethod
    def read(cls, memory: NDArray[Any]) -> Road:
        """Read the emulator's memory, shape (128,)."""
        cars = memory[_FIRST_ROW : _FIRST_ROW + ROWS] > 0
        return cls(int(memory[_SPEED]), int(memory[_OFFSET]), tuple(cars.tolist()))

    def gained(self, before: Road) -> float:
        """Rows by which the other cars have come closer since the step before; negative if they draw away."""
        return ((before.offset - self.offset + _MOST_LOST) % _OFFSETS - _MOST_LOST) / _OFFSETS

    def passed(self, before: Road) -> int:
        """1 if a car was passed since the step before, -1 if a car has passed, otherwise 0."""
        rows = round(self.gained(before) + (self.offset - before.offset) / _OFFSETS)
        return int(before.cars[0]) if rows > 0 else -int(self.cars[0]) if rows < 0 else 0


def effort(before: Road, after: Road) -> float:
    """What a person rewards in Enduro: driving fast, gaining on the cars in view, passing them.

    A step at full speed pays 0.1, and standing nothing. Each car passed pays 1, and each that passes costs 1, even at a
    score of 0, which cannot fall. Where cars are in view, each row gained pays 1/7, and each row lost costs as much: a
    car's whole way from the horizon counts as much as the pass.

    Args:
        before: The road before a step.
        after: The road after it.
    """
    speed = min(1.0, (after.speed - STANDING) / (FULL_SPEED - STANDING))
    seen = any(before.cars) or any(after.cars)
    return 0.1 * speed + seen * after.gained(before) / ROWS + after.passed(before)


class EnduroEffort(AtariGame):
    """Enduro, judged by `effort` instead of the score.

    The score changes only when a car is passed, which an agent that acts at random never does. In the paper, people's
    labels trained a better agent than the oracle's, because people reward any progress towards passing cars (section
    3.1.2).
    """

    def __init__(self, *, noops: int = NOOPS, render_mode: str | None = None) -> None:
        super().__init__("enduro", noops=noops, render_mode=render_mode)

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Step the game; as in `AtariGame`."""
        self._before = Road.read(self.ale.getRAM())
        return super().step(action)

    def paid(self, scored: int, *, over: bool) -> float:
        """The effort of a step; the last of a game costs what the end costs."""
        return -GAMES["enduro"].penalty if over else effort(self._before, Road.read(self.ale.getRAM()))


class EnduroEven(AtariGame):
    """Enduro, to be driven level with the other cars: neither passing nor being passed (section 3.2).

    A car passed, or passing, costs 1; driving at half of full speed or more pays 0.1, in proportion below, so that
    standing still while nobody comes is no way out.
    """

    _HALF = 30

    def __init__(self, *, noops: int = NOOPS, render_mode: str | None = None) -> None:
        super().__init__("enduro", noops=noops, render_mode=render_mode)

    def paid(self, scored: int, *, over: bool) -> float:
        """What the class says, less the penalty for the end of a game."""
        driving = min(1.0, Road.read(self.ale.getRAM()).speed / self._HALF)
        return 0.1 * driving - abs(scored) - GAMES["enduro"].penalty * over
