"""Check that a configuration's feedback kind, loss and label budget fit together."""

from __future__ import annotations

import math

from prefrl.config import RunConfig
from prefrl.errors import UsageError
from prefrl.feedback.kinds import FeedbackKind, kinds_of
from prefrl.feedback.kinds.comparison import COMPARISON
from prefrl.registry import LOSSES


def check_feedback(config: RunConfig) -> RunConfig:
    """Check a run's feedback kind, loss and label budget, and return the configuration.

    Raises:
        UsageError: if the kind is unknown, the loss is for another number of segments, or the run records too few
            segments for distinct queries.
    """
    kinds = kinds_of(config)
    if not config.takes_labels:
        return config
    for name, kind in kinds.items():
        _check_kind(config, name, kind)
    _check_pairs(config)
    _check_automatic_labels(config)
    return config


def _check_kind(config: RunConfig, name: str, kind: FeedbackKind) -> None:
    """Check that a kind and its loss fit together, and that there are enough segments for its share of the queries."""
    loss = LOSSES[config.losses[name]]
    if loss.arity not in (None, kind.arity) or loss.by_step not in (None, kind.by_step):
        needs = {None: "", True: " and marks of steps", False: ""}[loss.by_step]
        raise UsageError(
            f"reward.loss={config.losses[name]} needs labels of {loss.arity} segments{needs}, but those of --feedback "
            f"{name} have {kind.arity}"
        )
    if config.reward.crop is not None and kind.arity < 2:
        raise UsageError(f"reward.crop is for labels that compare segments, and --feedback {name} does not")
    _check_sessions(config, kind.arity)
    labels, distinct = (
        math.ceil(config.shares[name] * config.queries.labels),
        math.comb(config.segments_in_run, kind.arity),
    )
    if labels > distinct:
        them = {1: "segments", 2: "pairs of segments"}.get(kind.arity, f"sets of {kind.arity} segments")
        raise UsageError(
            f"{labels} labels are more than the {distinct} distinct {them} that {config.steps} steps can give"
        )


def _check_pairs(config: RunConfig) -> None:
    """Check that every label compares two segments, if a setting needs that."""
    losses = config.losses.values()
    needs_pairs = {
        "reward.pseudo_threshold": config.reward.pseudo_threshold is not None,
        "reward.trust_filter": config.reward.trust_filter,
    }
    pairs = all(LOSSES[loss].arity == 2 for loss in losses)
    for name in (name for name, on in needs_pairs.items() if on and not pairs):
        raise UsageError(
            f"{name} needs a loss of comparisons, and reward.loss={config.reward.loss} is none: leave {name} off"
        )


def _check_automatic_labels(config: RunConfig) -> None:
    """Check that the run learns from comparisons, if there are automatic ones."""
    if config.automatic_labels and COMPARISON not in config.shares:
        raise UsageError(
            f"automatic labels compare clips, and --feedback {config.feedback} does not: turn them off with --set "
            "demonstrations.labels=0"
        )


def _check_sessions(config: RunConfig, arity: int) -> None:
    """Check that the pool has enough segments for a session of queries, as far as that is known beforehand."""
    queries, pool = config.queries, config.queries.pool
    if queries.pool_episodes is not None and config.horizon is not None:
        pool = min(pool, queries.pool_episodes * (config.horizon // queries.segment_length))
    labels, most = max(queries.initial_labels, queries.session_labels or 0), math.comb(pool, arity)
    if (queries.session_steps or queries.pool_episodes) and labels > most:
        raise UsageError(
            f"a session asks for {labels} labels, but the {pool} clips to choose from give only {most} queries: raise "
            "queries.pool or queries.pool_episodes, or ask for fewer labels in a session"
        )
