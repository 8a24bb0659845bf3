"""Teachers answer queries. `--teacher` takes one of these names, or several simulated teachers joined by `+`."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from prefrl.config.schema import HUMAN, NO_TEACHER
from prefrl.errors import unknown
from prefrl.experience.episodes import Episodes
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.teachers.human import HumanTeacher
from prefrl.teachers.simulated import SimulatedTeacher
from prefrl.teachers.teacher import Teacher

__all__ = ["HUMAN", "NO_TEACHER", "TEACHERS", "check_teacher", "make_teacher", "skips_count"]

TEACHERS: dict[str, TeacherConfiguration] = {
    "oracle": TeacherConfiguration(),
    "boltzmann": TeacherConfiguration(rationality=1.0),
    "mistake": TeacherConfiguration(mistake=0.1),
    "skip": TeacherConfiguration(skip=0.1),
    "equal": TeacherConfiguration(equal=0.1),
    "myopic": TeacherConfiguration(discount=0.9),
    # The two as B-Pref's code has them.
    "bpref-skip": TeacherConfiguration(skip=0.1, squares=True, skips_count=True),
    "bpref-equal": TeacherConfiguration(equal=0.1, squares=True),
    # People called 2 to 15 % of MuJoCo pairs equal, and mislabelled 5 to 10 %.
    "people-like": TeacherConfiguration(noticeable=0.1, mistake=0.075),
}
"""The paper's oracle (section 3.1), B-Pref's teachers with its settings, and a teacher with the rates of people."""


def check_teacher(name: str) -> str:
    """Return the name of a teacher unchanged.

    Raises:
        UsageError: if the name is unknown.
    """
    if name in {NO_TEACHER, HUMAN}:
        return name
    for part in name.split("+"):
        if part not in TEACHERS:
            raise unknown("teacher", part, [*TEACHERS, HUMAN, NO_TEACHER])
    return name


def make_teacher(name: str, seed: int, episodes: Callable[[], Episodes | None]) -> Teacher:
    """Create a teacher by name; arguments as for `SimulatedTeacher`."""
    if name == HUMAN:
        return HumanTeacher()
    return SimulatedTeacher(name, _configuration(name), seed, episodes)


def skips_count(name: str) -> bool:
    """Return whether queries that a teacher skips count towards the label budget; a person's never do."""
    return name not in {NO_TEACHER, HUMAN} and _configuration(name).skips_count


def _configuration(name: str) -> TeacherConfiguration:
    return reduce(TeacherConfiguration.__add__, (TEACHERS[part] for part in check_teacher(name).split("+")))
