"""Suites of experiments, defined in small TOML files: those in `suites/`, or a user's own.

A suite lists tasks, seeds and the variants to compare. Each combination of task, variant and seed is a cell. The
variant whose teacher is `none` trains on the true reward and is the baseline of the others.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefrl.errors import DamagedFileError, UsageError, unknown
from prefrl.experience.tasks import known_tasks
from prefrl.printable import printable
from prefrl.safety.trust import module_of
from prefrl.storage.reading import read_toml
from prefrl_benchmarks.cells import Cell

_FOLDER = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Variant:
    """One training method in a comparison."""

    name: str
    teacher: str = "oracle"
    labels: int | None = None
    """Label budget; None uses the suite's."""
    mode: str = "sync"
    ablation: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_baseline(self) -> bool:
        """Whether it trains on the true reward."""
        return self.teacher == "none"


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
    algo: str = "ppo"
    recipe: str = "default"
    description: str = ""

    def cells(self) -> list[Cell]:
        """All cells, ordered by seed, so that early results cover all tasks and variants."""
        return [
            self._cell(*which) for which in ((t, v, s) for s in self.seeds for t in self.tasks for v in self.variants)
        ]

    def validate(self) -> Suite:
        """Check that every cell can run.

        Returns:
            The suite itself.

        Raises:
            UsageError: for the first setting that cannot work.
        """
        if not (self.tasks and self.seeds and self.variants):
            raise UsageError("a suite needs at least one of tasks, seeds and variants")
        for task in self.task_steps:
            if task not in self.tasks:
                raise unknown("task under task_steps", task, self.tasks)
        cells = self.cells()
        for cell in cells:
            if cell.teacher == "human":
                raise UsageError(f"variant {cell.variant}: a suite cannot ask people")
            cell.config  # noqa: B018 - raises for what `prefrl train` would refuse
        if twice := [name for name, count in Counter(cell.name for cell in cells).items() if count > 1]:
            raise UsageError(f"two cells are the same: {twice[0]}")
        return self

    def _cell(self, task: str, variant: Variant, seed: int) -> Cell:
        labels = 0 if variant.is_baseline else variant.labels or self.labels
        if labels is None:
            raise UsageError(f"variant {variant.name} needs labels, its own or the suite's")
        return Cell(
            task,
            self.algo,
            variant.teacher,
            variant.mode,
            seed,
            self.task_steps.get(task, self.steps),
            labels,
            variant.ablation,
            variant.settings,
            self.recipe,
            variant.name,
        )


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
    variants = data.get("variants", {})
    if not isinstance(variants, dict) or not all(isinstance(value, dict) for value in variants.values()):
        raise UsageError("variants must be tables: [variants.NAME]")
    parsed = tuple(_parse(Variant, {"name": key} | value, f"variant {key}: ") for key, value in variants.items())
    suite: Suite = _parse(Suite, {"name": name} | data | {"variants": parsed}, "")
    return suite


_KINDS: dict[str, tuple[type, type | None]] = {
    "tasks": (tuple, str),
    "seeds": (tuple, int),
    "variants": (tuple, Variant),
    "steps": (int, None),
    "labels": (int, None),
    "task_steps": (dict, int),
    "settings": (dict, None),
}
"""Type of each value and of its items; values that are not listed are strings."""


def _parse(cls: type[Any], data: dict[str, Any], where: str) -> Any:
    fields = {each.name: each for each in dataclasses.fields(cls)}
    for name in data:
        if name not in fields:
            known = unknown("key", name, (each for each in fields if each != "name"))
            raise UsageError(f"{where}{known}")
    required = (dataclasses.MISSING, dataclasses.MISSING)
    for name, each in fields.items():
        if name not in data and (each.default, each.default_factory) == required:
            raise UsageError(f"{where}{name} is missing")
    return cls(**{name: _checked(name, value, where) for name, value in data.items()})


def _checked(name: str, value: Any, where: str) -> Any:
    kind, inner = _KINDS.get(name, (str, None))
    value = tuple(value) if kind is tuple and isinstance(value, list) else value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    if type(value) is not kind or (inner and any(type(item) is not inner for item in items)):
        raise UsageError(f"{where}{name} cannot be {value!r}")
    return value
