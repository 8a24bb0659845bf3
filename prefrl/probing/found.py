"""A clip that a probe found, and the clips of the reference next to it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Found:
    """A clip of a probe, and the clips of the reference that it is compared with."""

    agent: str
    """Name of the agent's run."""
    excess: float
    """Its predicted sum of rewards, less the mean of the reference's clips."""
    true_excess: float
    """The same of the true rewards."""
    segments: tuple[int, ...]
    """Numbers of the clip and of the reference's clips, in the folder of the probe, in the order to ask about them."""

    @property
    def agent_first(self) -> tuple[int, ...]:
        """The same numbers with the agent's clip first. It has the smallest number, because it was written first."""
        return tuple(sorted(self.segments))
