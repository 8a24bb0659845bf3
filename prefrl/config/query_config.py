"""The settings of the queries: which are asked, and when."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from prefrl.config.checks import at_most, require


@dataclass(frozen=True)
class QueryConfig:
    """Selection and schedule of the queries (paper, sections 2.2.2 and 2.2.4)."""

    labels: int = 700
    """N, the label budget: the number of answers that count, e.g. comparisons answered left, right or equal."""
    initial_fraction: float = 0.25
    """Fraction of the budget that is asked before the agent trains (appendix A.1)."""
    schedule_constant: float | None = None
    """c of the label rate c / (T + c), in agent steps; null for a tenth of the run's steps."""
    schedule_bins: int = 0
    """Number of equal parts of the run within each of which the label rate is constant; 0 for a continuous decrease."""
    session_steps: int | None = None
    """Agent steps from one session of queries to the next, the first of which is before the agent trains, until the
    budget is spent, as in PEBBLE and B-Pref; null for the schedule above. `round_steps` must not be longer."""
    session_labels: int | None = None
    """Labels of each session; null for as many in each as `initial_fraction` gives the first."""
    segment_length: int = 30
    """L, the number of steps in a segment."""
    selection: Literal[
        "variance", "entropy", "random", "kcentre", "kcentre-variance", "same-stage", "answerable-variance"
    ] = "variance"
    """Selection rule, a name in `rules.RULES`. `variance`: highest variance of the predicted preference over the
    members; `entropy`: highest entropy of the predicted preference, as in B-Pref; `random`: uniform; `kcentre`:
    farthest from the pairs asked before, as in B-Pref; `kcentre-variance`: the same among the half with the highest
    variance; `same-stage`: segments of the same stage of an episode, after STAIR; `answerable-variance`: highest
    variance times the predicted probability that the pair can be told."""
    candidate_clips: int | None = None
    """Number of clips per query from which the candidate pairs are drawn; null for the whole pool. With images, most of
    the cost of selection is predicting these clips."""
    candidate_factor: int = 10
    """Number of candidate pairs per query (appendix A)."""
    pool: int = 1000
    """Number of newest segments from which candidates are drawn."""
    pool_episodes: int | None = None
    """Number of newest episodes from whose segments candidates are drawn (QPA: 10, PEBBLE: 100), of at most `pool`
    segments; null for no limit."""
    lead: int = 25
    """Number of labels that people may be behind the schedule before the agent waits for them (asynchronous mode)."""
    repeats: float = 0.05
    """Repeated queries to people, with the sides swapped, per answer. They do not count towards the budget."""

    rating_steps: int = 7
    """Number of steps on the scale of a rating, from 2 to 9."""
    reaction_seconds: float = 0.5
    """Time from what a person sees to the key that marks it, by which a mark is moved back. TAMER (Knox and Stone,
    2009) and COACH (MacGlashan et al., 2017) assume 0.2 to 0.8 s; the default is the middle."""
    initial_limit: int | None = None
    """Largest number of labels that are asked before the agent trains; null for no limit."""

    @property
    def initial_labels(self) -> int:
        """Number of labels before training starts."""
        if self.session_steps and self.session_labels:
            return min(self.session_labels, self.labels)
        share = self.labels * self.initial_fraction
        # Sessions of this share are to spend the whole budget, whose last one may be smaller.
        wanted = max(1, math.ceil(round(share, 6)) if self.session_steps else round(share))
        return min(wanted, self.initial_limit or wanted)

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        for name in ("labels", "segment_length", "candidate_factor"):
            require(getattr(self, name) >= 1, f"queries.{name} must be at least 1")
        require((self.candidate_clips or 2) >= 2, "queries.candidate_clips must be at least 2, or null")
        require(self.pool >= 2, "queries.pool must hold at least 2 segments")
        for name, most in (("labels", 10**7), ("segment_length", 10**5), ("candidate_factor", 10**6), ("pool", 10**6)):
            at_most(f"queries.{name}", getattr(self, name), most)
        require(self.lead >= 0, "queries.lead must not be negative")
        require(0 <= self.repeats <= 1, "queries.repeats must be in [0, 1]")
        require(0 < self.initial_fraction <= 1, "queries.initial_fraction must be in (0, 1]")
        require(self.initial_limit is None or self.initial_limit >= 1, "queries.initial_limit must be at least 1")
        require(
            self.schedule_constant is None or self.schedule_constant > 0, "queries.schedule_constant must be positive"
        )
        require(self.schedule_bins >= 0, "queries.schedule_bins must not be negative")
        require(2 <= self.rating_steps <= 9, "queries.rating_steps must be in [2, 9]: a scale needs two steps")
        require(0 <= self.reaction_seconds <= 5, "queries.reaction_seconds must be in [0, 5]")
        self._validate_optional()

    def _validate_optional(self) -> None:
        """Check the sessions and the pool of episodes."""
        for name in ("session_steps", "session_labels", "pool_episodes"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"queries.{name} must be at least 1, or null")
        require(
            self.session_labels is None or self.session_steps is not None,
            "queries.session_labels needs queries.session_steps",
        )
