"""Check that a configuration's feedback kind, loss and label budget fit together."""

from __future__ import annotations

import math

from prefrl.config import RunConfig
from prefrl.errors import UsageError
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.comparison import COMPARISON
from prefrl.registry import LOSSES


def check_feedback(config: RunConfig) -> RunConfig:
    """Check a run's feedback kind, loss and label budget, and return the configuration.

    Raises:
        UsageError: if the kind is unknown, the loss is for another number of segments, or the run records too few
            segments for distinct queries.
    """
    kind, loss = KINDS[config.feedback], LOSSES[config.reward.loss]
    if not config.learns_reward:
        return config
    if loss.arity not in (None, kind.arity):
        raise UsageError(
            f"reward.loss={config.reward.loss} needs labels of {loss.arity} segments, but those of --feedback "
            f"{config.feedback} have {kind.arity}"
        )
    needs_pairs = {
        "reward.pseudo_threshold": config.reward.pseudo_threshold is not None,
        "reward.trust_filter": config.reward.trust_filter,
    }
    for name in (name for name, on in needs_pairs.items() if on and loss.arity != 2):
        raise UsageError(
            f"{name} needs a loss of comparisons, and reward.loss={config.reward.loss} is none: leave {name} off"
        )
    if config.reward.crop is not None and kind.arity < 2:
        raise UsageError(f"reward.crop is for labels that compare segments, and --feedback {config.feedback} does not")
    _check_automatic_labels(config)
    _check_sessions(config, kind.arity)
    distinct = math.comb(config.segments_in_run, kind.arity)
    if config.queries.labels > distinct:
        them = {1: "segments", 2: "pairs of segments"}.get(kind.arity, f"sets of {kind.arity} segments")
        raise UsageError(
            f"{config.queries.labels} labels are more than the {distinct} distinct {them} that {config.steps} steps "
            "can give"
        )
    return config


def _check_automatic_labels(config: RunConfig) -> None:
    """Check that the run learns from comparisons, if there are automatic ones."""
    if config.automatic_labels and config.feedback != COMPARISON:
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
