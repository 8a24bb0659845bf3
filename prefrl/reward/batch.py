"""Batches: labels drawn for each member, with their segments."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from prefrl.reward.segment_table import SegmentTable


@dataclass(frozen=True)
class Batch:
    """B labels for each of K members. Each label has A segments: two for a comparison, one for a rating."""

    segments: SegmentTable
    slots: Tensor
    """(K, B, A) slots of the segments in the table."""
    target: Tensor
    """(K, B) targets; for a comparison, mu (1 if left is preferred, 0 if right, 0.5 for a tie). (K, B, L) by step."""
    drawn: Tensor
    """(K,) whether a member had labels to draw from. If not, its batch is meaningless."""
    kept: Tensor | None = None
    """(K, B, A, L) whether a step is in the label's crop; None if the segments are whole."""
    loss: str | None = None
    """Name of the loss in `registry.LOSSES`; None for the configuration's."""
    kind: str = "comparison"
    """The labels' feedback kind."""
    weight: float = 1.0
    """Weight of the mean loss: the share of this kind among all labels."""
    others: tuple[Batch, ...] = ()
    """Batches of other kinds, fitted in the same gradient step."""

    @property
    def parts(self) -> tuple[Batch, ...]:
        """The batches of all kinds, this one first."""
        return (self, *self.others)

    @property
    def labels(self) -> int:
        """Number of labels of all kinds."""
        return sum(part.target.shape[1] for part in self.parts)

    @property
    def steps(self) -> Tensor:
        """(K, B, A, L, *step) inputs of the reward model."""
        return self.segments.steps(self.slots)

    @property
    def true_rewards(self) -> Tensor:
        """(K, B, A, L) true rewards; zero outside of crops."""
        rewards = self.segments.true_rewards(self.slots)
        return rewards if self.kept is None else rewards * self.kept

    def cropped(self, kept: Tensor) -> Batch:
        """Return a batch of B * C labels: C crops, (K, B, C, A, L), of each label, one after the other."""
        slots, target = (each.repeat_interleave(kept.shape[2], dim=1) for each in (self.slots, self.target))
        return replace(self, slots=slots, target=target, kept=kept.flatten(1, 2))
