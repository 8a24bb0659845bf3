"""What a run is asked for: the arguments of `prefrl train`, of Python's `train`, and of a suite's cells.

`prefrl --help` shows the texts under the fields.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from prefrl.config.schema import ASYNC, HUMAN, NO_TEACHER, Device, Mode
from prefrl.errors import UsageError


def parse_settings(option: str, pairs: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE pairs; a value is JSON, or else the text that it is.

    Args:
        option: Whose they are.
        pairs: As they were written.

    Raises:
        UsageError: for one that is no pair.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--{option} {pair}: write {'NAME' if option == 'env-kwargs' else 'KEY'}=VALUE")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def _words(settings: dict[str, Any]) -> list[str]:
    """The opposite of `parse_settings`."""
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def _pairs(option: str, metavar: str) -> PrimitiveConstructorSpec[dict[str, Any]]:
    """How the command line reads KEY=VALUE pairs."""
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=metavar,
        instance_from_str=lambda pairs: parse_settings(option, pairs),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=_words,
    )


Settings = Annotated[dict[str, Any], arg(name="set"), _pairs("set", "KEY=VALUE ...")]
EnvKwargs = Annotated[dict[str, Any], _pairs("env-kwargs", "NAME=VALUE ...")]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a run is, in labels and in steps: what can be raised when it is resumed."""

    labels: int | None = None
    """Comparisons in all (default: 700, or as many as --labels-from holds); when resumed, a higher number."""
    steps: int | None = None
    """Agent steps in all (default: the recipe's); when resumed, a higher number."""

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings that it makes, by their dotted names."""
        given = {"queries.labels": self.labels, "steps": self.steps}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Request(Budget):
    """The arguments of one run. A recipe has whatever they leave open."""

    task: Positional[str]
    """A task's name (see `prefrl tasks`), or any Gymnasium id."""
    _: KW_ONLY
    teacher: str = "oracle"
    """Who compares: oracle, human (with `prefrl label`), mistake and others of B-Pref's, or none (the true reward)."""
    algo: str = "ppo"
    """ppo, a2c or trpo."""
    labels_from: Path | None = None
    """A file of labels to start from, made by `prefrl labels export`."""
    seed: int = 0
    """Of everything random."""
    mode: Mode = "async"
    """Whether the reward learner runs in its own process (async) or alternates with the agent, repeatably (sync)."""
    device: Device = "auto"
    """Where the reward model computes."""
    out: Path | None = None
    """The run directory (default: a new one under runs/)."""
    ablation: str | None = None
    """One of the paper's ablations."""
    recipe: str = "default"
    """default, or paper for the paper's own scale."""
    settings: Settings = field(default_factory=dict, hash=False)
    """Single settings over those of the recipe, e.g. reward.members=5."""
    env_kwargs: EnvKwargs = field(default_factory=dict, hash=False)
    """Arguments of the environment's constructor, e.g. level=3; values are JSON, or else text."""

    @property
    def chosen(self) -> dict[str, Any]:
        """The settings that it makes, by their dotted names."""
        return super().chosen | {"seed": self.seed, "mode": self.mode, "device": self.device} | self.settings

    @property
    def asks_people(self) -> bool:
        """As for `RunConfig`."""
        return self.teacher == HUMAN

    @property
    def has_learner_process(self) -> bool:
        """Whether the reward learner runs in its own process."""
        return self.mode == ASYNC and self.teacher != NO_TEACHER

    def words(self) -> list[str]:
        """The command line that asks for the same: `prefrl train` and these words."""
        words = [self.task]
        for each in dataclasses.fields(Request):
            value = getattr(self, each.name)
            if each.name != "task" and value != _default(each):
                words += _option(each.name, value)
        return words


def _default(each: dataclasses.Field[Any]) -> Any:
    return each.default if each.default_factory is dataclasses.MISSING else each.default_factory()


def _option(name: str, value: Any) -> list[str]:
    words = _words(value) if isinstance(value, dict) else [str(value)]
    return [f"--{'set' if name == 'settings' else name.replace('_', '-')}", *words]
