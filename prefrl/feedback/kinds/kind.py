"""What a feedback kind is: everything that depends on the question asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from prefrl.arrays import Array, Floats
from prefrl.feedback.kinds.simulation import TeacherConfiguration


class Choice(NamedTuple):
    """One answer that a person can give with a key or a button."""

    value: Any
    key: str
    """The key's name, as in Qt's `Key_...`: `Left`, `1`."""
    sign: str
    """The key, as it is written."""
    name: str
    """The button's text."""
    does: str
    """What it says, for the help."""
    note: str = ""
    """Told once it is stored, where it does not count."""


class FeedbackKind(Protocol):
    """A kind of question. `value` is what an answer says, as JSON holds it."""

    @property
    def name(self) -> str:
        """Its name in the registry, the store and the configuration."""

    @property
    def arity(self) -> int:
        """How many segments a query is about."""

    @property
    def values(self) -> tuple[Any, ...] | None:
        """Every value there is; None where they cannot be listed."""

    # -- what a viewer shows ------------------------------------------------------------------------------------------

    @property
    def question(self) -> str:
        """What a person is asked, in a few words."""

    @property
    def titles(self) -> tuple[str, ...]:
        """What is written above each clip; empty where there is but one."""

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The answers that keys and buttons give, in the order of the buttons."""

    # -- values -------------------------------------------------------------------------------------------------------

    def parse(self, value: object) -> Any:
        """A value from JSON.

        Raises:
            ValueError: if it is none of this kind's.
        """

    def counts(self, value: Any) -> bool:
        """Whether an answer is a label: it counts towards the budget."""

    def tally(self, value: Any) -> str:
        """Under which name the store counts it."""

    def reverse(self, value: Any) -> Any:
        """The same answer for the segments in the opposite order."""

    # -- teachers and learners ----------------------------------------------------------------------------------------

    def simulate(
        self, rewards: Sequence[Floats], teacher: TeacherConfiguration, usual: float | None, chance: Array
    ) -> Any:
        """What a simulated teacher says.

        Args:
            rewards: (L,) true rewards of each segment.
            teacher: How it differs from the oracle.
            usual: The mean return of recent episodes, scaled to the length of a clip; None before the first has ended.
            chance: (2,) uniform numbers, this query's own.
        """

    @property
    def likelihood(self) -> str:
        """The loss that reward models are fitted by, unless `reward.loss` is set: a name in `registry.LOSSES`."""

    def target(self, value: Any) -> float | None:
        """What the loss takes for an answer; None where nothing is learned from it."""

    def correct(self, sums: Floats, targets: Array) -> Array:
        """Whether predictions agree with labels.

        Args:
            sums: (B, A) predicted sums of reward over the labels' segments.
            targets: (B,)

        Returns:
            (B,) 1 where they agree, 0 where they do not, NaN where a label says nothing that could be predicted.
        """

    # -- quality ------------------------------------------------------------------------------------------------------

    @property
    def level(self) -> Literal["nominal", "ordinal"]:
        """The level of measurement, for Krippendorff's alpha."""

    def code(self, value: Any) -> float:
        """A value that counts as a number, for Krippendorff's alpha."""

    def agrees(self, value: Any, returns: Sequence[float]) -> bool | None:
        """Whether an answer agrees with the segments' true returns; None where one of the two prefers nothing."""

    @property
    def rate_titles(self) -> Mapping[str, str]:
        """The names of `rates`, each with the heading of its column."""

    @property
    def rate_legend(self) -> str:
        """What the headings leave open, for the line under the table; ends in "; ", or is empty."""

    def rates(self, values: Sequence[Any]) -> dict[str, float | None]:
        """Shares of answers, as a report gives them; None where there is nothing to say them from."""
