"""The configuration of a run: its schema, the check of plain data, and how older files are read."""

from prefrl.config.schema import AgentConfig, EvaluationConfig, QueryConfig, RewardConfig, RunConfig
from prefrl.config.settings import replace

__all__ = ["AgentConfig", "EvaluationConfig", "QueryConfig", "RewardConfig", "RunConfig", "replace"]
