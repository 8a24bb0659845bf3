"""Suites of experiments, defined in small TOML files: those in `suites/`, or a user's own.

A suite lists tasks, seeds and the variants to compare. Each combination of task, variant and seed is a cell. Tasks can
have seeds and steps of their own, and a variant can be limited to some tasks. The variant whose teacher is `none`
trains on the true reward and is the baseline of the others.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prefrl.config.schema import NO_TEACHER, Mode
from prefrl.config.typed import conform
from prefrl.errors import DamagedFileError, UsageError, unknown
from prefrl.experience.tasks import known_tasks
from prefrl.feedback.terms import JUDGE
from prefrl.printable import printable
from prefrl.safety.trust import module_of
from prefrl.storage.reading import read_toml
from prefrl.teachers.naming import base_name
from prefrl_benchmarks.cells import TAKEN, Cell

_FOLDER = Path(__file__).parent / "suites"
_TEACHERS = {"reward": NO_TEACHER, JUDGE: JUDGE}
"""The teacher, or the first one, of variants that use what is named so; for the rest of `TAKEN`, it may be any."""


@dataclass(frozen=True)
class Variant:
    """One training method in a comparison."""

    name: str
    teacher: str = "oracle"
    labels: int | None = None
    """Label budget; None uses the suite's."""
    steps: int | None = None
    """Agent steps of each run; None uses the task's or the suite's."""
    mode: Mode = "sync"
    """Synchronous, unlike the default of `prefrl train`, so that cells are repeatable."""
    ablation: str | None = None
    algo: str | None = None
    """Algorithm; None uses the suite's."""
    recipe: str | None = None
    """Recipe; None uses the suite's."""
    feedback: str = "comparison"
    """Feedback kinds, as for `prefrl train --feedback`."""
    learner: Literal["reward-model", "imitation"] = "reward-model"
    """What learns from the labels, as for `prefrl train --learner`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings, which override those of the suite."""
    uses: dict[str, str] = field(default_factory=dict)
    """Variants from whose runs of the same task and seed it takes something, by what it takes: reference, reward,
    demonstrations or judge."""
    tasks: tuple[str, ...] = ()
    """Tasks that it is run on; empty for all tasks of the suite."""
    later: bool = False
    """Whether its cells come after those of the other variants with the same seed."""


@dataclass(frozen=True)
class Suite:
    """A set of experiments."""

    name: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    """Agent steps of each run."""
    variants: tuple[Variant, ...]
    labels: int | None = None
    """Label budget of variants without one."""
    task_steps: dict[str, int] = field(default_factory=dict)
    """Agent steps of tasks that differ from `steps`."""
    task_seeds: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Seeds of tasks that differ from `seeds`."""
    algo: str = "ppo"
    recipe: str = "default"
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of all variants."""
    description: str = ""

    def cells(self) -> list[Cell]:
        """All cells, ordered by seed, so that early results cover all tasks and variants; then the `later` variants.

        Raises:
            UsageError: for a variant without labels, or whose runs would use runs that the suite does not have.
        """
        seeds = list(dict.fromkeys(itertools.chain(self.seeds, *self.task_seeds.values())))
        cells = [
            (task, variant, seed)
            for task in self.tasks
            for variant in self._variants_of(task)
            for seed in self.task_seeds.get(task, self.seeds)
        ]
        return _used_first(
            [self._cell(*which) for which in sorted(cells, key=lambda each: (seeds.index(each[2]), each[1].later))]
        )

    def validate(self) -> Suite:
        """Check that every cell can run.

        Returns:
            The suite itself.

        Raises:
            UsageError: for the first setting that cannot work.
        """
        if not (self.tasks and self.seeds and self.variants):
            raise UsageError("a suite needs at least one of tasks, seeds and variants")
        self._check_tasks()
        cells = self.cells()
        for cell in cells:
            if cell.teacher == "human":
                raise UsageError(f"variant {cell.variant}: a suite cannot ask people")
            cell.config  # noqa: B018 - raises for what `prefrl train` would refuse
        if twice := [name for name, count in Counter(cell.name for cell in cells).items() if count > 1]:
            raise UsageError(f"two cells are the same: {twice[0]}")
        return self

    def _check_tasks(self) -> None:
        """Raise UsageError for a task that the suite does not have, and for one without seeds."""
        named = {"task_steps": tuple(self.task_steps), "task_seeds": tuple(self.task_seeds)}
        named |= {f"variants.{variant.name}.tasks": variant.tasks for variant in self.variants}
        for place, tasks in named.items():
            for task in tasks:
                if task not in self.tasks:
                    raise unknown(f"task under {place}", task, self.tasks)
        for task, seeds in self.task_seeds.items():
            if not seeds:
                raise UsageError(f"task_seeds.{task} needs at least one seed")

    def _cell(self, task: str, variant: Variant, seed: int, users: tuple[str, ...] = ()) -> Cell:
        if variant.name in users:
            raise UsageError(f"variants use each other's runs: {', '.join(users)}")
        names = (*users, variant.name)
        used = {what: self._used(task, variant, what, seed, names) for what in variant.uses}
        labels = 0 if variant.teacher == NO_TEACHER else variant.labels or self.labels
        if labels is None:
            raise UsageError(f"variant {variant.name} needs labels, its own or the suite's")
        return Cell(
            task,
            teacher=variant.teacher,
            algo=variant.algo or self.algo,
            labels=used["reward"].labels if "reward" in used else labels,
            steps=variant.steps or self.task_steps.get(task, self.steps),
            seed=seed,
            mode=variant.mode,
            ablation=variant.ablation,
            recipe=variant.recipe or self.recipe,
            feedback=variant.feedback,
            learner=variant.learner,
            settings=self.settings | variant.settings,
            variant=variant.name,
            named=variant.recipe is not None or variant.steps is not None or bool(used),
            uses={what: cell.name for what, cell in used.items()},
        )

    def _used(self, task: str, variant: Variant, what: str, seed: int, users: tuple[str, ...]) -> Cell:
        """The cell from whose run a variant takes something."""
        place, known = f"variants.{variant.name}.uses", {each.name: each for each in self._variants_of(task)}
        if what not in TAKEN:
            raise unknown(f"entry under {place}", what, list(TAKEN))
        if (name := variant.uses[what]) not in known:
            raise unknown(f"variant of {task} under {place}", name, list(known))
        if base_name(variant.teacher) != (needed := _TEACHERS.get(what, base_name(variant.teacher))):
            raise UsageError(f'{place}.{what} needs teacher = "{needed}"')
        return self._cell(task, known[name], seed, users)

    def _variants_of(self, task: str) -> list[Variant]:
        return [variant for variant in self.variants if task in (variant.tasks or self.tasks)]


def _used_first(cells: Sequence[Cell]) -> list[Cell]:
    """Put each cell after those whose runs it uses, and otherwise leave the order as it is."""
    named = {cell.name: cell for cell in cells}
    ordered: dict[int, Cell] = {}

    def add(cell: Cell) -> None:
        for name in cell.uses.values():
            add(named[name])
        ordered.setdefault(id(cell), cell)

    for cell in cells:
        add(cell)
    return list(ordered.values())


def known_suites() -> list[str]:
    """Names of the built-in suites."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def find_suite(name: str, trusted: Sequence[str] = ()) -> Suite:
    """Find a suite by name, or read it from a TOML file.

    Args:
        name: Name of a built-in suite, or a path that ends in .toml.
        trusted: Modules that tasks of a file may import.

    Raises:
        UsageError: if there is no such suite (with the nearest names), it cannot run, or a task would import a module
            that is not trusted.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if path.parent == _FOLDER and path.stem not in known_suites():
        raise unknown("suite", name, known_suites())
    try:
        data = read_toml(path)
    except DamagedFileError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{printable(path)} is not TOML: {printable(error)}") from None
    try:
        suite = parse_suite(path.stem, data)
        if path.parent != _FOLDER:
            _check_modules(suite, trusted)
        return suite.validate()
    except UsageError as error:
        raise UsageError(f"suite {path.name if path.parent == _FOLDER else path}: {error}") from None


def _check_modules(suite: Suite, trusted: Sequence[str]) -> None:
    """Raise UsageError if a task would import a module that is not trusted."""
    known = {name for task in known_tasks().values() for name in (task.name, task.env_id)}
    for task in suite.tasks:
        module = module_of(task)
        if ":" in task and task not in known and module not in trusted:
            shown = printable(module, 80)
            raise UsageError(f"task {printable(task, 80)} imports a module: if you trust it, add --trust {shown}")


def parse_suite(name: str, data: dict[str, Any]) -> Suite:
    """Parse a suite from plain data.

    Raises:
        UsageError: for unknown or missing keys, and values of the wrong type.
    """
    tables = data.get("variants", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError("variants must be tables: [variants.NAME]")
    variants = [conform(Variant, {"name": key} | table, f"variants.{key}") for key, table in tables.items()]
    suite: Suite = conform(Suite, {"name": name} | data | {"variants": ()}, "")
    return dataclasses.replace(suite, variants=tuple(variants))
