"""What a loss takes: labels drawn for each member, with the segments that they are about."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prefrl.reward.segment_table import SegmentTable


@dataclass(frozen=True)
class Batch:
    """B labels for each of K members, each label about A segments: two of a comparison, one of a rating."""

    segments: SegmentTable
    slots: Tensor
    """(K, B, A) places in the table."""
    target: Tensor
    """(K, B) what the labels say; of comparisons the share of the preference that the first segment got."""
    drawn: Tensor
    """(K,) whether a member had labels to draw from; where not, its labels mean nothing."""

    @property
    def steps(self) -> Tensor:
        """(K, B, A, L, *step) what the reward model reads."""
        return self.segments.steps(self.slots)

    @property
    def true_rewards(self) -> Tensor:
        """(K, B, A, L) the task's own rewards."""
        return self.segments.true_rewards(self.slots)
