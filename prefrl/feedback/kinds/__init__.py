"""Feedback kinds by name. Everything reads this registry: asking, store, teachers, viewer and reward learner.

Adding a kind is a file and a line here; or, in another package, an entry point of the group `prefrl.feedback_kinds`,
which names an instance of the kind. It is loaded at every start, so its module must not import anything slow.
"""

from __future__ import annotations

import json
from typing import Any

from prefrl.feedback.kinds.comparison import ComparisonKind
from prefrl.feedback.kinds.kind import Choice, FeedbackKind
from prefrl.registry import Registry

__all__ = ["KINDS", "Choice", "FeedbackKind"]

KINDS: Registry[FeedbackKind] = Registry("feedback kind", {kind.name: kind for kind in (ComparisonKind(),)})
KINDS.extended("prefrl.feedback_kinds", lambda entry_point: entry_point.load())
LONGEST_VALUE = 100_000
"""Characters of an answer's JSON."""


def to_json(kind: FeedbackKind, value: Any) -> str:
    """A value as the store holds it.

    Raises:
        ValueError: if it is none of the kind's, or longer than the store reads.
    """
    text = json.dumps(kind.parse(value))
    if len(text) > LONGEST_VALUE:
        raise ValueError(f"its JSON is longer than {LONGEST_VALUE} characters")
    return text


def from_json(kind: FeedbackKind, text: str) -> Any:
    """A value as the store holds it, read back.

    Raises:
        ValueError: if it is none of the kind's.
    """
    try:
        return kind.parse(json.loads(text))
    except (RecursionError, TypeError) as error:
        raise ValueError(str(error)) from error


def listed_values() -> list[str]:
    """Each kind's name and each of its values' JSON, where these can be listed."""
    return [f"{kind.name} {json.dumps(value)}" for kind in KINDS.values() for value in kind.values or ()]


def unlisted_kinds() -> list[str]:
    """Names of the kinds whose values cannot be listed."""
    return [kind.name for kind in KINDS.values() if kind.values is None]
