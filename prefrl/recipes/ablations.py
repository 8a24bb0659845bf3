"""Ablations, each a line of settings that overrides a recipe."""

from __future__ import annotations

from typing import Any

from prefrl.registry import Registry

PAPER_ABLATIONS: dict[str, dict[str, Any]] = {
    "random-queries": {"queries.selection": "random"},
    "no-ensemble": {"reward.members": 1, "queries.selection": "random"},
    "no-online": {
        "queries.initial_fraction": 1.0,
        "queries.initial_limit": None,
        "queries.session_steps": None,
        "queries.session_labels": None,
    },
    "no-regularisation": {"reward.l2": 0.0},
    "no-segments": {"queries.segment_length": 1},
    "target": {"reward.loss": "true-reward"},
}
"""Those of the paper (section 3.3)."""
ABLATIONS: Registry[dict[str, Any]] = Registry(
    "ablation",
    PAPER_ABLATIONS
    | {
        "horizon-one": {"agent.gamma": 0.0},  # the agent maximises the reward of the next step alone
    },
)
