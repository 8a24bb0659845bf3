"""Teachers answer queries. `--teacher` takes a name of `MAKERS`, see `prefrl.teachers.naming`.

Simulated teachers are configurations, which `+` joins. Another package can add a teacher by an entry point of the group
`prefrl.teachers`, which names a function that makes it of a `Setting`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce

from prefrl.config.schema import HUMAN, NO_TEACHER
from prefrl.errors import UsageError, unknown
from prefrl.experience.episodes import Episodes
from prefrl.feedback.kinds import KINDS, FeedbackKind
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.feedback.notes import Notes
from prefrl.feedback.terms import DEMONSTRATIONS, JUDGE
from prefrl.registry import Registry, located
from prefrl.runs.directory import RunDirectory
from prefrl.teachers.human import HumanTeacher
from prefrl.teachers.naming import base_name, passed_on_to, split_source
from prefrl.teachers.simulated import NOTHING, SimulatedTeacher, WatchedOfKind
from prefrl.teachers.teacher import Teacher

__all__ = [
    "HUMAN",
    "JUDGE",
    "MAKERS",
    "NO_TEACHER",
    "TEACHERS",
    "Setting",
    "check_teacher",
    "judges_by_advantage",
    "make_other",
    "make_teacher",
    "marks_late",
    "parse_teacher",
    "skips_count",
    "uses_true_reward",
]

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
    # In a clip of 30 steps they set three marks: more than two a second cannot be said of what is seen.
    "people-like": TeacherConfiguration(noticeable=0.1, mistake=0.075, attention=0.1),
    "advantage": TeacherConfiguration(advantage=True),
    # A quarter of a second, at the 20 to 30 steps a second at which clips are played.
    "late": TeacherConfiguration(delay=6),
}
"""The paper's oracle (section 3.1), B-Pref's teachers with its settings, and a teacher with the rates of people."""


@dataclass(frozen=True)
class Setting:
    """What a teacher is made of."""

    name: str
    """The teacher's name, e.g. `oracle`, `mistake+skip`, `judge+human`, or `NAME:ARGUMENT`."""
    seed: int
    """The run's seed."""
    episodes: Callable[[], Episodes | None]
    """Returns the agent's newest episodes; None before the first has ended."""
    kinds: Mapping[str, FeedbackKind] = field(default_factory=lambda: KINDS)
    """The feedback kinds, as the run asks them."""
    watched: WatchedOfKind = lambda kind: NOTHING
    """Returns the true rewards of the segments of all queries of a kind so far."""
    run: RunDirectory | None = None
    """The run, with its folder and its configuration."""
    notes: Notes | None = None
    """Keeps a state in the run's label store."""

    @property
    def argument(self) -> str | None:
        """The text after the colon of the name; None without one."""
        return self.name.partition(":")[2] or None


Maker = Callable[[Setting], Teacher] | str
"""Makes a teacher of a setting; or its "module:name"."""


def _simulated(setting: Setting) -> Teacher:
    configuration = _configuration(setting.name)
    judged = located(_ADVANTAGES)(setting) if configuration.advantage else None
    seed, episodes, kinds, watched = setting.seed, setting.episodes, setting.kinds, setting.watched
    return SimulatedTeacher(setting.name, configuration, seed, episodes, kinds, watched, judged)


def _configuration(name: str) -> TeacherConfiguration:
    return reduce(TeacherConfiguration.__add__, (TEACHERS[part] for part in name.split("+")))


_ADVANTAGES = "prefrl.agents.advantages:advantages_of"
_MAKERS: dict[str, Maker] = dict.fromkeys(TEACHERS, _simulated)
_MAKERS |= {HUMAN: lambda setting: HumanTeacher(), JUDGE: "prefrl.reward.judging:make_judge"}
MAKERS: Registry[Maker] = Registry("teacher", _MAKERS)
"""How teachers are made, by the first name of `--teacher`."""
MAKERS.extended("prefrl.teachers", lambda entry_point: entry_point.value)
for _reserved in (NO_TEACHER, DEMONSTRATIONS):
    MAKERS.pop(_reserved, None)


def parse_teacher(text: str) -> tuple[str, str | None]:
    """Separate the value of `--teacher` into a name, which is checked, and the source of a judge, or None.

    Raises:
        UsageError: if the name is unknown.
    """
    name, source = split_source(text, {*MAKERS, NO_TEACHER})
    return check_teacher(name), source


def check_teacher(name: str) -> str:
    """Return the name of a teacher unchanged.

    Raises:
        UsageError: if the name is unknown, or its parts cannot be joined.
    """
    if name == NO_TEACHER:
        return name
    if name.partition("+")[0] == JUDGE:
        other = passed_on_to(name)
        if other is not None and (base_name(check_teacher(other)) in {JUDGE, NO_TEACHER}):
            raise UsageError(f"--teacher {name}: a judge passes queries on to people or to a simulated teacher")
        return name
    simulated = all(part in TEACHERS for part in name.split("+"))
    if simulated or name in MAKERS or (":" in name and base_name(name) in MAKERS.keys() - {*TEACHERS, HUMAN}):
        return name
    wrong = next((part for part in name.split("+") if part not in TEACHERS), name)
    if wrong in MAKERS:
        raise UsageError(f"--teacher {name}: {wrong} cannot be joined with others by +, only simulated teachers can")
    raise unknown("teacher", wrong.partition(":")[0], [*MAKERS, NO_TEACHER])


def uses_true_reward(name: str) -> bool:
    """Return whether a teacher answers from the true reward."""
    return base_name(passed_on_to(name) or name) in TEACHERS


def judges_by_advantage(name: str) -> bool:
    """Return whether a teacher judges by the true advantage over the run's reference policy, and so needs one."""
    return _simulation(name).advantage


def marks_late(name: str) -> bool:
    """Return whether a teacher marks later steps than those that it means."""
    return _simulation(name).delay > 0


def skips_count(name: str) -> bool:
    """Return whether queries that a teacher skips count towards the label budget; a person's never do."""
    return _simulation(name).skips_count


def _simulation(name: str) -> TeacherConfiguration:
    """Return the configuration of a simulated teacher, or of the one to whom a judge passes on; else of none."""
    simulated = passed_on_to(name) or name
    return _configuration(simulated) if base_name(simulated) in TEACHERS else TeacherConfiguration()


def make_teacher(
    name: str,
    seed: int,
    episodes: Callable[[], Episodes | None],
    kinds: Mapping[str, FeedbackKind] = KINDS,
    watched: WatchedOfKind = lambda kind: NOTHING,
    *,
    run: RunDirectory | None = None,
    notes: Notes | None = None,
) -> Teacher:
    """Make a teacher by its name; arguments as for `Setting`."""
    maker = MAKERS[base_name(check_teacher(name))]
    teacher: Teacher = located(maker)(Setting(name, seed, episodes, kinds, watched, run, notes))
    return teacher


def make_other(setting: Setting) -> Teacher | None:
    """Make the teacher to whom a judge passes queries on; None if it answers all."""
    other = passed_on_to(setting.name)
    if other is None:
        return None
    made: Teacher = located(MAKERS[base_name(other)])(dataclasses.replace(setting, name=other))
    return made
