"""Teachers: whoever answers queries. A name here, or several joined by `+`, is what `--teacher` takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from prefrl.errors import unknown
from prefrl.teachers.simulated import Episodes, Shortcomings, SimulatedTeacher

NO_TEACHER = "none"
"""Trains on the true reward: the baseline."""

TEACHERS: dict[str, Shortcomings] = {
    "oracle": Shortcomings(),
    "boltzmann": Shortcomings(rationality=1.0),
    "mistake": Shortcomings(mistake=0.1),
    "skip": Shortcomings(skip=0.1),
    "equal": Shortcomings(equal=0.1),
    "myopic": Shortcomings(discount=0.9),
    # People called 2 to 15 % of MuJoCo pairs equal, and mislabelled 5 to 10 %.
    "people-like": Shortcomings(noticeable=0.1, mistake=0.075),
}
"""The paper's oracle (section 3.1), B-Pref's teachers with its settings, and one from the rates of real people."""


def check_teacher(name: str) -> str:
    """The name, if it is one.

    Raises:
        UsageError: if it is not.
    """
    parts = [NO_TEACHER] if name == NO_TEACHER else name.split("+")
    for part in parts:
        if part not in TEACHERS and name != NO_TEACHER:
            raise unknown("teacher", part, [*TEACHERS, NO_TEACHER])
    return name


def make_teacher(name: str, seed: int, episodes: Callable[[], Episodes | None]) -> SimulatedTeacher:
    """The teacher of that name; arguments as for `SimulatedTeacher`."""
    ways = reduce(Shortcomings.__add__, (TEACHERS[part] for part in check_teacher(name).split("+")))
    return SimulatedTeacher(name, ways, seed, episodes)
