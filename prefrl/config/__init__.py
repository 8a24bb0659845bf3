"""The configuration of a run: its schema, validation, and migrations from older formats."""

from prefrl.config.agent_config import AgentConfig
from prefrl.config.evaluation_config import EvaluationConfig
from prefrl.config.exploration_config import ExplorationConfig
from prefrl.config.imitation_config import ImitationConfig
from prefrl.config.kl_config import KLConfig
from prefrl.config.off_policy_config import OffPolicyConfig
from prefrl.config.query_config import QueryConfig
from prefrl.config.reward_config import RewardConfig
from prefrl.config.schema import RunConfig
from prefrl.config.settings import replace

__all__ = [
    "AgentConfig",
    "EvaluationConfig",
    "ExplorationConfig",
    "ImitationConfig",
    "KLConfig",
    "OffPolicyConfig",
    "QueryConfig",
    "RewardConfig",
    "RunConfig",
    "replace",
]
