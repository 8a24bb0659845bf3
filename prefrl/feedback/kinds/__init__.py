"""Feedback kinds by name. Store, teachers, viewer, query selection and reward learner read this registry.

To add a kind, add a file and an entry here. Another package can add a kind by an entry point of the group
`prefrl.feedback_kinds`, which names an instance of the kind. Entry points are loaded at every start, so the module must
have no slow imports.
"""

from __future__ import annotations

import json
from typing import Any

from prefrl.config import RunConfig
from prefrl.feedback.kinds.comparison import ComparisonKind
from prefrl.feedback.kinds.kind import Choice, FeedbackKind
from prefrl.feedback.kinds.marks import MarksKind
from prefrl.feedback.kinds.rating import RatingKind
from prefrl.registry import Registry

__all__ = ["KINDS", "Choice", "FeedbackKind"]


def checked_kind(kind: Any) -> FeedbackKind:
    """Return a kind of another package unchanged.

    Raises:
        TypeError: if it does not inherit from `FeedbackKind`, and may therefore lack newer members.
    """
    if FeedbackKind not in type(kind).__mro__:
        raise TypeError(f"{type(kind).__name__} does not inherit from prefrl.feedback.kinds.FeedbackKind")
    checked: FeedbackKind = kind
    return checked


_BUILT_IN: tuple[FeedbackKind, ...] = (
    ComparisonKind(),
    RatingKind(),
    MarksKind(),
)
KINDS: Registry[FeedbackKind] = Registry("feedback kind", {kind.name: kind for kind in _BUILT_IN})
KINDS.extended("prefrl.feedback_kinds", lambda entry_point: checked_kind(entry_point.load()))
LONGEST_VALUE = 100_000
"""Maximum number of characters of an answer's JSON."""


def kinds_of(config: RunConfig) -> dict[str, FeedbackKind]:
    """Return the feedback kinds that a run asks for, by name, as it asks them.

    Raises:
        UsageError: if a name is unknown.
    """
    return {name: KINDS[name].configured(config.queries) for name in config.shares}


def to_json(kind: FeedbackKind, value: Any) -> str:
    """Convert a value to JSON, as in the store.

    Raises:
        ValueError: if it is not a value of the kind, or is too long for the store.
    """
    text = json.dumps(kind.parse(value))
    if len(text) > LONGEST_VALUE:
        raise ValueError(f"its JSON is longer than {LONGEST_VALUE} characters")
    return text


def from_json(kind: FeedbackKind, text: str) -> Any:
    """Parse a value from JSON, as in the store.

    Raises:
        ValueError: if it is not a value of the kind.
    """
    try:
        return kind.parse(json.loads(text))
    except (RecursionError, TypeError) as error:
        raise ValueError(str(error)) from error


def listed_values() -> list[str]:
    """Return each kind's name with the JSON of each of its values, for kinds whose values can be enumerated."""
    return [f"{kind.name} {json.dumps(value)}" for kind in KINDS.values() for value in kind.values or ()]


def unlisted_kinds() -> list[str]:
    """Return the names of the kinds whose values cannot be enumerated."""
    return [kind.name for kind in KINDS.values() if kind.values is None]
