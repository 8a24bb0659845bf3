"""Teachers: whoever answers queries. A name here is what `--teacher` takes."""

from __future__ import annotations

from collections.abc import Callable

from prefrl.errors import unknown
from prefrl.teachers.oracle import Oracle
from prefrl.types import Teacher

NO_TEACHER = "none"
"""Trains on the true reward: the baseline."""

TEACHERS: dict[str, Callable[[], Teacher]] = {"oracle": Oracle}


def check_teacher(name: str) -> str:
    """The name, if it is one.

    Raises:
        UsageError: if it is not.
    """
    if name not in TEACHERS and name != NO_TEACHER:
        raise unknown("teacher", name, [*TEACHERS, NO_TEACHER])
    return name


def make_teacher(name: str) -> Teacher:
    """The teacher of that name."""
    return TEACHERS[check_teacher(name)]()
