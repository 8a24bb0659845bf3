"""The settings of a judge: a reward model that answers queries."""

from __future__ import annotations

from dataclasses import dataclass

from prefrl.config.checks import require


@dataclass(frozen=True)
class JudgeConfig:
    """A judge, and which queries it passes on to another teacher."""

    source: str | None = None
    """The run or file whose reward model judges; see `Request.teacher`. The run keeps a copy; null for no judge."""
    confidence: float = 0.8
    """The judge passes on a query if its probability of the likelier side, averaged over the members, is below this. In
    [0.5, 1]: 0.5 passes on nothing (but what cannot be told), 1 everything."""
    share: float | None = None
    """Share of the queries that the judge passes on, those of which it is least sure in each round; null to decide by
    `confidence`."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        require(0.5 <= self.confidence <= 1, "judge.confidence must be in [0.5, 1]")
        require(self.share is None or 0 <= self.share <= 1, "judge.share must be in [0, 1], or null")
