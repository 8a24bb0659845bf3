"""The protocol of feedback kinds. A kind defines everything that depends on the type of question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from prefrl.arrays import Array, Floats
from prefrl.config import QueryConfig
from prefrl.feedback.kinds.simulation import TeacherConfiguration, Watched
from prefrl.feedback.terms import Target


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


def what_is_good(instruction: str, aim: str) -> str:
    """Return the aim as sentences; without one, the instruction."""
    return f"Good means that {aim}" if aim else instruction


class FeedbackKind(Protocol):
    """A type of question. A `value` is the content of an answer, in a form that JSON can represent.

    The registry holds a kind with every value that any run can store. A class that inherits from this one need not
    define the members with a default.
    """

    def configured(self, queries: QueryConfig) -> FeedbackKind:
        """Return the kind as a run with these settings asks it; by default, the kind itself."""
        return self

    @property
    def name(self) -> str:
        """Name in the registry, the store and the configuration."""

    @property
    def arity(self) -> int:
        """Number of segments of a query."""

    @property
    def values(self) -> tuple[Any, ...] | None:
        """All values; None if they cannot be enumerated."""

    @property
    def seconds(self) -> float:
        """Time in seconds that an answer takes a person, for labels without a measured one."""
        return 4.0

    # -- what a viewer shows ------------------------------------------------------------------------------------------

    @property
    def question(self) -> str:
        """The question for people, in a few words."""

    def instruct(self, instruction: str, aim: str) -> str:
        """Return what people read above the clips; by default, the run's instruction.

        Args:
            instruction: The instruction for comparisons.
            aim: What is good, see `RunConfig.aim`; may be empty.
        """
        return instruction

    @property
    def titles(self) -> tuple[str, ...]:
        """Title of each clip; empty if there is only one clip."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The answers, in the order of their buttons."""

    def said(self, value: Any) -> str:
        """Return an answer in a word or two; by default, the name of its button."""
        return next((choice.name for choice in self.choices if choice.value == value), str(value))

    @property
    def marks(self) -> tuple[Choice, ...]:
        """Signs that a person can set on steps while the clip plays; the only one of `choices` then sends them."""
        return ()

    @property
    def noun(self) -> str:
        """What people call the segments of a query."""
        return {1: "clip", 2: "pair"}.get(self.arity, "question")

    # -- values -------------------------------------------------------------------------------------------------------

    def parse(self, value: object) -> Any:
        """Parse a value from JSON data.

        Raises:
            ValueError: if it is not a value of this kind.
        """

    def check(self, value: Any, lengths: Sequence[int]) -> None:
        """Check a value against the segments of its query; by default, it fits all.

        Args:
            value: A parsed value.
            lengths: Number of steps of each segment.

        Raises:
            ValueError: if it does not fit them.
        """
        return None

    def counts(self, value: Any) -> bool:
        """Return whether an answer is a label, i.e. counts towards the budget."""

    def tally(self, value: Any) -> str:
        """Return the name under which the store counts the value."""

    @property
    def tallies(self) -> tuple[str, ...]:
        """All names that `tally` returns, in the order in which they are shown; by default, those of `values`."""
        return tuple(dict.fromkeys(self.tally(value) for value in self.values or ()))

    def reverse(self, value: Any) -> Any:
        """Return the same answer for the segments in the opposite order."""

    # -- teachers and learners ----------------------------------------------------------------------------------------

    def simulate(
        self,
        rewards: Sequence[Floats],
        teacher: TeacherConfiguration,
        usual: float | None,
        chance: Array,
        watched: Watched,
    ) -> Any:
        """Return the answer of a simulated teacher.

        Args:
            rewards: (L,) true rewards of each segment.
            teacher: Parameters of the teacher.
            usual: Mean return of recent episodes, scaled to the length of a clip; None before the first episode ends.
            chance: (2 + 2 L,) uniform random numbers.
            watched: Returns (N, L): the true rewards of all segments that the run has asked about by queries of this
                kind, including those of this round.
        """

    @property
    def likelihood(self) -> str:
        """Default of `reward.loss`: a name in `registry.LOSSES`."""

    @property
    def by_step(self) -> bool:
        """Whether a target has a number for each step of a segment."""
        return False

    def target(self, value: Any) -> Target | None:
        """Return the target of the loss for an answer; None if nothing is learned from it.

        Targets by step may be shorter than the segment; the rest are zeros.
        """

    def correct(self, rewards: Floats, targets: Array) -> Array:
        """Compare predictions with labels.

        Args:
            rewards: (B, A, L) predicted rewards of the segments of each label.
            targets: (B,) targets of the labels, or (B, L) by step.

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

    def likeness(self, one: Any, other: Any) -> float:
        """Return how alike two values are that count, from 0 to 1; by default, whether they are the same."""
        return float(one == other)

    def concordance(self, values: Sequence[Any], rewards: Sequence[Sequence[Floats]]) -> float | None:
        """Return the share of agreement of many answers with the true reward, if it cannot be told of each alone.

        Args:
            values: Answers that count.
            rewards: (L,) true rewards of the segments of each answer.

        Returns:
            None if `agrees` tells it, or there are no data.
        """
        return None

    @property
    def rate_titles(self) -> Mapping[str, str]:
        """Names of the `rates`, with the headings of their columns."""

    @property
    def rate_legend(self) -> str:
        """Explanation of the headings, for the line below the table; ends in "; ", or is empty."""

    def rates(self, values: Sequence[Any]) -> dict[str, float | None]:
        """Compute the rates that a report shows; None for a rate without data."""
