"""Teachers answer queries. `--teacher` takes one of these names, or several simulated teachers joined by `+`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

from prefrl.config.schema import HUMAN, NO_TEACHER
from prefrl.errors import unknown
from prefrl.experience.episodes import Episodes
from prefrl.feedback.kinds import KINDS, FeedbackKind
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.teachers.human import HumanTeacher
from prefrl.teachers.simulated import NOTHING, SimulatedTeacher, WatchedOfKind
from prefrl.teachers.teacher import Teacher

__all__ = ["HUMAN", "NO_TEACHER", "TEACHERS", "check_teacher", "make_teacher"]

TEACHERS: dict[str, TeacherConfiguration] = {
    "oracle": TeacherConfiguration(),
    "boltzmann": TeacherConfiguration(rationality=1.0),
    "mistake": TeacherConfiguration(mistake=0.1),
    "skip": TeacherConfiguration(skip=0.1),
    "equal": TeacherConfiguration(equal=0.1),
    "myopic": TeacherConfiguration(discount=0.9),
    # People called 2 to 15 % of MuJoCo pairs equal, and mislabelled 5 to 10 %.
    # In a clip of 30 steps they set three marks: more than two a second cannot be said of what is seen.
    "people-like": TeacherConfiguration(noticeable=0.1, mistake=0.075, attention=0.1),
    # A quarter of a second, at the 20 to 30 steps a second at which clips are played.
    "late": TeacherConfiguration(delay=6),
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


def make_teacher(
    name: str,
    seed: int,
    episodes: Callable[[], Episodes | None],
    kinds: Mapping[str, FeedbackKind] = KINDS,
    watched: WatchedOfKind = lambda kind: NOTHING,
) -> Teacher:
    """Create a teacher by name; arguments as for `SimulatedTeacher`."""
    if name == HUMAN:
        return HumanTeacher()
    configuration = reduce(TeacherConfiguration.__add__, (TEACHERS[part] for part in check_teacher(name).split("+")))
    return SimulatedTeacher(name, configuration, seed, episodes, kinds, watched)
