"""The request for a run: the arguments of `prefrl train`, of `prefrl.train`, and of a suite's cells.

`prefrl --help` shows the docstrings of the fields.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from prefrl.config.kl_config import NEEDS_REFERENCE, ONE_COEFFICIENT
from prefrl.config.schema import ASYNC, NO_TEACHER, ONE_REWARD, REWARD_MODEL, Device, Mode, includes_people
from prefrl.errors import UsageError


def parse_settings(option: str, pairs: Sequence[str]) -> dict[str, Any]:
    """Parse KEY=VALUE pairs. A value that is not JSON is taken as text.

    Args:
        option: Name of the command line option, for error messages.
        pairs: The pairs as text.

    Raises:
        UsageError: if the text is not a KEY=VALUE pair.
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
    """Format settings as KEY=VALUE pairs, the inverse of `parse_settings`."""
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def _pairs(option: str, metavar: str) -> PrimitiveConstructorSpec[dict[str, Any]]:
    """Return tyro's specification of an option that takes KEY=VALUE pairs."""
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
    """The label and step budgets of a run, which can be raised when the run is resumed."""

    labels: int | None = None
    """Label budget (default: 700, or the number of labels in --labels-from). A resumed run accepts a higher number."""
    steps: int | None = None
    """Total number of agent steps (default: the recipe's). A resumed run accepts a higher number."""

    @property
    def chosen(self) -> dict[str, Any]:
        """Settings that the request changes, by dotted names."""
        given = {"queries.labels": self.labels, "steps": self.steps}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Request(Budget):
    """The arguments of one run. The recipe supplies all other settings."""

    task: Positional[str]
    """Name of a task (see `prefrl tasks`), or a Gymnasium id."""
    _: KW_ONLY
    teacher: str = "oracle"
    """Who answers: oracle, human (with `prefrl label`), another simulated teacher of B-Pref such as mistake, the reward
    model of a run or file (judge:RUN; judge:RUN+human asks people where it is unsure), or none (train on the true
    reward)."""
    algo: str = "ppo"
    """Algorithm of the agent: ppo, a2c or trpo; sac, tqc or crossq for continuous actions; dqn or
    qrdqn for discrete ones."""
    learner: Literal["reward-model", "imitation"] = "reward-model"
    """What learns from labels: a reward model, or the agent itself, which imitates its best-rated clips."""
    feedback: str = "comparison"
    """Kind of the queries, e.g. comparison, or several: comparison,rating, or with shares comparison:1,rating:3."""
    labels_from: Path | None = None
    """File of labels to start with, made by `prefrl labels export`."""
    minutes: float | None = None
    """Label budget in a labeller's minutes, in place of --labels: as many labels as people give in that time."""
    reward: Path | None = None
    """Run of the same task whose reward model, frozen, is the agent's reward; nobody is asked for labels."""
    reference: Path | None = None
    """Run of the same task whose policy is the reference of a KL penalty; the divergence from it is recorded."""
    kl: float | None = None
    """Coefficient of the KL penalty, in units of the reward per nat; 0 records the divergence alone."""
    kl_target: float | None = None
    """KL divergence from the reference per step, in nats, that an adaptive coefficient holds."""
    demonstrations: str | None = None
    """Demonstrations that the agent imitates first, and that automatic labels prefer: a trained run, a file of `prefrl
    demonstrate`, or minari:NAME for a data set of Minari."""
    seed: int = 0
    """Seed of all random number generators."""
    mode: Mode = "async"
    """async: the reward learner runs in its own process; sync: it alternates with the agent, which is reproducible."""
    device: Device = "auto"
    """Device of the reward model."""
    out: Path | None = None
    """Run directory (default: a new one in runs/)."""
    ablation: str | None = None
    """Name of one of the paper's ablations, or horizon-one."""
    recipe: str = "default"
    """default; paper for the paper's own settings and scale; pebble, surf, rune or qpa (SAC on vectors) for those of
    the methods that are called so."""
    settings: Settings = field(default_factory=dict, hash=False)
    """Single settings that override the recipe, e.g. reward.members=5."""
    env_kwargs: EnvKwargs = field(default_factory=dict, hash=False)
    """Arguments of the environment's constructor, e.g. level=3. A value that is not JSON is taken as text."""

    @property
    def chosen(self) -> dict[str, Any]:
        """Settings that the request changes, by dotted names."""
        given: dict[str, Any] = {"seed": self.seed, "mode": self.mode, "device": self.device}
        self._check_labels()
        if self.demonstrations is not None:
            given["demonstrations.source"] = self.demonstrations
        return super().chosen | given | self._source | self._penalty | self.settings

    def _check_labels(self) -> None:
        """Raise UsageError if there is no teacher for what needs labels."""
        if self.answered_by == NO_TEACHER and self.learner != REWARD_MODEL:
            raise UsageError("--learner imitation learns from labels: it needs a teacher, and no --reward")
        if self.answered_by == NO_TEACHER and self.minutes is not None:
            raise UsageError("--minutes is a label budget: it needs a teacher, and no --reward")

    @property
    def _source(self) -> dict[str, Any]:
        """The run whose reward model is used, if any.

        Raises:
            UsageError: if there is to be a teacher too.
        """
        if self.reward is None:
            return {}
        if self.teacher not in (Request.teacher, NO_TEACHER) or self.labels is not None or self.labels_from:
            raise UsageError(ONE_REWARD)
        return {"reward_model": str(self.reward.expanduser().absolute())}

    @property
    def answered_by(self) -> str:
        """The teacher; none for a run on a frozen reward model."""
        return self.teacher if self.reward is None else NO_TEACHER

    @property
    def _penalty(self) -> dict[str, Any]:
        """Settings of the KL penalty.

        Raises:
            UsageError: if they exclude each other, or there is no reference.
        """
        if self.kl is not None and self.kl_target is not None:
            raise UsageError(ONE_COEFFICIENT)
        if self.reference is None and (self.kl is not None or self.kl_target is not None):
            raise UsageError(NEEDS_REFERENCE)
        reference = str(self.reference.expanduser().absolute()) if self.reference else None
        given = {"kl.reference": reference, "kl.beta": self.kl, "kl.target": self.kl_target}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def asks_people(self) -> bool:
        """As for `RunConfig`."""
        return includes_people(self.teacher)

    @property
    def has_learner_process(self) -> bool:
        """Whether the reward learner runs in its own process."""
        return self.mode == ASYNC and self.answered_by != NO_TEACHER

    def words(self) -> list[str]:
        """Return the arguments of `prefrl train` that make the same request."""
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
