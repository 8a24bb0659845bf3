"""How `--teacher` names a teacher: NAME, NAME+NAME, or NAME:ARGUMENT."""

from __future__ import annotations

from collections.abc import Collection

from prefrl.feedback.terms import JUDGE


def split_source(text: str, others: Collection[str]) -> tuple[str, str | None]:
    """Separate a judge's source from the names of the teachers: `judge:RUN+human` is `judge+human` with source RUN.

    A path may contain a plus sign, so only names of teachers are taken from its end.

    Args:
        text: The value of `--teacher`.
        others: Names of teachers that a judge can pass queries on to.

    Returns:
        The teachers' names, and the source; None without one.
    """
    head, colon, source = text.partition(":")
    if head != JUDGE or not colon:
        return text, None
    names: list[str] = []
    while "+" in source and source.rpartition("+")[2] in others:
        source, _, name = source.rpartition("+")
        names.insert(0, name)
    return "+".join([JUDGE, *names]), source


def base_name(teacher: str) -> str:
    """Return the name in the registry of teachers: the first name, without an argument."""
    return teacher.partition(":")[0].partition("+")[0]


def passed_on_to(teacher: str) -> str | None:
    """Return the teacher to whom a judge passes queries on; None if it answers all, or the teacher is no judge."""
    first, _, rest = teacher.partition("+")
    return rest if first == JUDGE and rest else None
