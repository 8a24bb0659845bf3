"""The configuration of a run: its schema, validation, and migrations from older formats."""

from prefrl.config.schema import (
    AgentConfig,
    EvaluationConfig,
    ExplorationConfig,
    OffPolicyConfig,
    QueryConfig,
    RewardConfig,
    RunConfig,
)
from prefrl.config.settings import replace

__all__ = [
    "AgentConfig",
    "EvaluationConfig",
    "ExplorationConfig",
    "OffPolicyConfig",
    "QueryConfig",
    "RewardConfig",
    "RunConfig",
    "replace",
]
