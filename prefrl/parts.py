"""The parts of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefrl.agents.agent import Agent
from prefrl.agents.kl_penalty import KLPenalty
from prefrl.agents.reference import Reference
from prefrl.agents.reward_terms import AgentReward, RewardTerm
from prefrl.config import RunConfig
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.environments import EnvStack
from prefrl.experience.recorder import SegmentRecorder
from prefrl.registry import ALGORITHMS
from prefrl.reward.workers import Learner, RewardModel
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory
from prefrl.selection.asker import Asker
from prefrl.selection.automatic_labels import AutomaticLabels

if TYPE_CHECKING:
    from prefrl.rendering.renderer import RendererProcess


@dataclass(frozen=True)
class Feedback:
    """The parts of a training that learns its reward."""

    recorder: SegmentRecorder
    asker: Asker
    learner: Learner
    model: RewardModel | None
    """The reward model that is learned; None if the learner is another."""
    exploration: RewardTerm | None
    """The agent's reward before the first labels; None if it does not train before them."""
    automatic: AutomaticLabels | None
    """Labels that prefer demonstrated clips; None without demonstrations."""
    renderer: RendererProcess | None
    """Renders clips for people; None if no person labels."""


@dataclass(frozen=True)
class Parts:
    """All parts of a training, built by `prefrl.assembly`."""

    run: RunDirectory
    control: Control
    env: EnvStack
    agent: Agent
    reward: AgentReward | None
    """The agent's reward; None if the environments' own is used as it is."""
    reference: Reference | None
    """The policy from which the divergence is measured; None without one."""
    penalty: KLPenalty | None
    """Holds the agent near the reference; None if the divergence is only measured."""
    feedback: Feedback | None
    """None if the run does not learn its reward from feedback."""
    shown: Demonstrations | None = None
    """The demonstrations; None if there are none."""

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.run.config

    @property
    def compares(self) -> bool:
        """Whether the agent's policy has a divergence from a reference: whether it gives every action a probability."""
        return ALGORITHMS[self.config.algo].stochastic

    @property
    def budget(self) -> int:
        """The label budget; 0 if the run trains on the true reward."""
        return self.config.queries.labels if self.feedback else 0

    @property
    def counts(self) -> dict[str, int]:
        """Counts of labels by judgement, and in total; all 0 without feedback.

        `answered` are those that count, `spent` those that count towards the budget, `pending` those that are missing.
        """
        if self.feedback:
            return self.feedback.asker.counts
        return dict.fromkeys(("answered", "spent", "pending", "equal", "incomparable"), 0)

    @property
    def label_seconds(self) -> float:
        """Time in seconds that the answers took a labeller; 0 if the run trains on the true reward."""
        return self.feedback.asker.label_seconds if self.feedback else 0.0

    @property
    def unusable_labels(self) -> int:
        """Number of labels that could not be learned from; 0 if the run trains on the true reward."""
        return self.feedback.asker.unusable if self.feedback else 0
