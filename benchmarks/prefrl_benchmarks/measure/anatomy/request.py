"""The arguments of `prefrl bench anatomy`, which are checked before slow imports."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefrl.config import RunConfig
from prefrl.config.request import parse_settings
from prefrl.config.settings import replace
from prefrl.errors import UsageError
from prefrl.feedback.run_store import run_store
from prefrl.feedback.terms import Label
from prefrl.reward.fit_request import fit_request, split
from prefrl.runs.directory import RunDirectory

_SPLIT_SEED = 0
"""Every fit is judged by the same held-out labels, whatever its own seed is."""
_MOST_SEEDS, _MOST_EPISODES = 1000, 1000
_RUN = "run"
"""Name of the variant with the run's own settings."""


@dataclass(frozen=True)
class Variant:
    """A reward model to fit."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of `reward.*` that differ from the run's."""


@dataclass(frozen=True)
class Games:
    """The games to play."""

    noise: tuple[float, ...] = (0.0, 0.3, 1.0)
    """Fractions of random actions; none for no games."""
    episodes: int = 3
    """Whole episodes with each fraction."""

    def validate(self) -> Games:
        """Raise UsageError for invalid values."""
        if not all(0 <= noise <= 1 for noise in self.noise):
            raise UsageError("--noise must be in [0, 1]")
        if not 1 <= self.episodes <= _MOST_EPISODES:
            raise UsageError(f"--episodes must be in [1, {_MOST_EPISODES:,}]")
        return dataclasses.replace(self, noise=tuple(dict.fromkeys(self.noise)))


@dataclass(frozen=True)
class AnatomyRequest:
    """Which reward models to fit to which labels of a run, and the games to play."""

    run: RunDirectory
    variants: tuple[Variant, ...]
    labels: tuple[int, ...]
    """Numbers of labels to fit, ascending; none for a quarter, half and all of those that are not held out."""
    holdout: float
    comparisons: int
    """Comparisons that each member fits."""
    seeds: int
    """Fits with each variant and number of labels."""
    games: Games

    def config(self, variant: Variant, seed: int = 0) -> RunConfig:
        """Return the run's configuration with a variant's settings."""
        return dataclasses.replace(replace(self.run.config, variant.settings), seed=seed)

    def split(self, labels: Sequence[Label]) -> tuple[list[Label], list[Label]]:
        """Split labels into those to fit, in order, and those held out.

        Raises:
            UsageError: if there are fewer than `self.labels` to fit.
        """
        training, held_out = split(labels, self.holdout, _SPLIT_SEED)
        if (most := max(self.labels, default=1)) > len(training):
            left = f"{len(labels)} labels, of which {len(held_out)} are held out"
            raise UsageError(f"--labels must be at most {len(training)}, not {most}: {self.run.root} has {left}")
        return training, held_out

    def counts(self, training: int) -> tuple[int, ...]:
        """Return the numbers of labels to fit, of those that are not held out."""
        return self.labels or tuple(sorted({max(1, training // part) for part in (4, 2, 1)}))


def anatomy_request(
    root: Path,
    *,
    labels: Sequence[int] = (),
    settings: dict[str, Any] | None = None,
    variants: Sequence[Sequence[str]] = (),
    comparisons: int | None = None,
    holdout: float = 0.2,
    seeds: int = 1,
    games: Games | None = None,
    trust: Sequence[str] = (),
) -> AnatomyRequest:
    """Check the arguments.

    Args:
        root: The run directory; the run may be training.
        labels: Numbers of labels to fit.
        settings: Settings of all variants.
        variants: The name of each variant, followed by its settings as KEY=VALUE.
        comparisons: Comparisons that each member fits (default: as for `prefrl reward fit`).
        holdout: Fraction of the labels that is held out.
        seeds: Fits with each variant and number of labels.
        games: The games to play.
        trust: Modules that a run made by someone else may import to create its environment.

    Raises:
        UsageError: if the folder is not a run with labels, or an argument is invalid.
    """
    run = _labelled(root)
    if any(count < 1 for count in labels):
        raise UsageError("--labels must be at least 1")
    if not 1 <= seeds <= _MOST_SEEDS:
        raise UsageError(f"--seeds must be in [1, {_MOST_SEEDS:,}]")
    wanted = fit_request(root, holdout=holdout, seed=_SPLIT_SEED, comparisons=comparisons)
    chosen = parse_variants(variants, settings or {})
    games = (games or Games()).validate()
    request = AnatomyRequest(
        run.admit(trust), chosen, tuple(sorted(set(labels))), holdout, wanted.comparisons, seeds, games
    )
    for variant in chosen:
        _check(request, variant)
    with run_store(run) as store:
        request.split(store.labels(*run.config.shares))
    return request


def parse_variants(given: Sequence[Sequence[str]], shared: dict[str, Any]) -> tuple[Variant, ...]:
    """Parse variants. Without any, there is one with the run's own settings.

    Args:
        given: The name of each variant, followed by its settings as KEY=VALUE.
        shared: Settings of all variants, which their own override.

    Raises:
        UsageError: if one has no name, or two have the same.
    """
    variants = []
    for words in given or [(_RUN,)]:
        name, *pairs = [*words] or [""]
        if not name or "=" in name:
            raise UsageError(f"--variant {' '.join(words)}: write NAME KEY=VALUE ...")
        variants.append(Variant(name, shared | parse_settings("variant", pairs)))
    name, count = Counter(variant.name for variant in variants).most_common(1)[0]
    if count > 1:
        raise UsageError(f"two variants have the name {name}")
    return tuple(variants)


def _labelled(root: Path) -> RunDirectory:
    """Open a run that has labels."""
    run = RunDirectory.open(root)
    if not run.config.learns_reward:
        raise UsageError(f"{root} trains on the true reward: it has no labels")
    if len(run.config.shares) > 1:
        raise UsageError(f"{root} asks for several feedback kinds; this measurement is for runs of one")
    counted = 0
    if run.labels.exists():
        with run_store(run) as store:
            counted = len(store.labels(*run.config.shares))
    if not counted:
        raise UsageError(f"{root} has no labels yet")
    return run


def _check(request: AnatomyRequest, variant: Variant) -> None:
    """Raise UsageError for settings that a reward model cannot have."""
    for key in variant.settings:
        if not key.startswith("reward."):
            raise UsageError(f"variant {variant.name}: {key} is not a setting of the reward model (reward.*)")
    try:
        changed = request.config(variant).validate()
    except UsageError as error:
        raise UsageError(f"variant {variant.name}: {error}") from None
    if changed.images != request.run.config.images:
        reads, seen = ("images", "vectors") if changed.images else ("vectors", "images")
        network = f"reward.network={changed.reward.network}"
        raise UsageError(f"variant {variant.name}: {network} reads {reads}, but the observations are {seen}")
    if changed.draws_actions != request.run.config.draws_actions:
        raise UsageError(f"variant {variant.name}: reward.reads_actions must be as in the run")
