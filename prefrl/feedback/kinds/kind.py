"""The protocol of feedback kinds. A kind defines everything that depends on the type of question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from prefrl.arrays import Array, Floats
from prefrl.feedback.kinds.simulation import TeacherConfiguration


class Choice(NamedTuple):
    """An answer that a person can give with a key or a button."""

    value: Any
    key: str
    """Name of the key, as in Qt's `Key_...`, e.g. `Left` or `1`."""
    sign: str
    """Symbol of the key."""
    name: str
    """Text of the button."""
    does: str
    """Meaning of the answer, for the help."""
    note: str = ""
    """Message after the answer is stored, if it does not count."""


class FeedbackKind(Protocol):
    """A type of question. A `value` is the content of an answer, in a form that JSON can represent."""

    @property
    def name(self) -> str:
        """Name in the registry, the store and the configuration."""

    @property
    def arity(self) -> int:
        """Number of segments of a query."""

    @property
    def values(self) -> tuple[Any, ...] | None:
        """All values; None if they cannot be enumerated."""

    # -- what a viewer shows ------------------------------------------------------------------------------------------

    @property
    def question(self) -> str:
        """The question for people, in a few words."""

    @property
    def titles(self) -> tuple[str, ...]:
        """Title of each clip; empty if there is only one clip."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The answers, in the order of their buttons."""

    # -- values -------------------------------------------------------------------------------------------------------

    def parse(self, value: object) -> Any:
        """Parse a value from JSON data.

        Raises:
            ValueError: if it is not a value of this kind.
        """

    def counts(self, value: Any) -> bool:
        """Return whether an answer is a label, i.e. counts towards the budget."""

    def tally(self, value: Any) -> str:
        """Return the name under which the store counts the value."""

    def reverse(self, value: Any) -> Any:
        """Return the same answer for the segments in the opposite order."""

    # -- teachers and learners ----------------------------------------------------------------------------------------

    def simulate(
        self, rewards: Sequence[Floats], teacher: TeacherConfiguration, usual: float | None, chance: Array
    ) -> Any:
        """Return the answer of a simulated teacher.

        Args:
            rewards: (L,) true rewards of each segment.
            teacher: Parameters of the teacher.
            usual: Mean return of recent episodes, scaled to the length of a clip; None before the first episode ends.
            chance: (2,) uniform random numbers.
        """

    @property
    def likelihood(self) -> str:
        """Default of `reward.loss`: a name in `registry.LOSSES`."""

    def target(self, value: Any) -> float | None:
        """Return the target of the loss for an answer; None if nothing is learned from it."""

    def correct(self, sums: Floats, targets: Array) -> Array:
        """Compare predictions with labels.

        Args:
            sums: (B, A) predicted sums of rewards over the segments of each label.
            targets: (B,) targets of the labels.

        Returns:
            (B,) 1 if they agree, 0 if not, NaN for labels that no prediction can agree with, e.g. ties.
        """

    # -- quality ------------------------------------------------------------------------------------------------------

    @property
    def level(self) -> Literal["nominal", "ordinal"]:
        """Level of measurement, for Krippendorff's alpha."""

    def code(self, value: Any) -> float:
        """Return a number for a value that counts, for Krippendorff's alpha."""

    def agrees(self, value: Any, returns: Sequence[float]) -> bool | None:
        """Return whether an answer agrees with the segments' true returns; None if one of the two has no preference."""

    @property
    def rate_titles(self) -> Mapping[str, str]:
        """Names of the `rates`, with the headings of their columns."""

    @property
    def rate_legend(self) -> str:
        """Explanation of the headings, for the line below the table; ends in "; ", or is empty."""

    def rates(self, values: Sequence[Any]) -> dict[str, float | None]:
        """Compute the rates that a report shows; None for a rate without data."""
