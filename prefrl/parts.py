"""What a training is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefrl.agents.protocol import Agent
from prefrl.agents.reward_terms import AgentReward
from prefrl.config import RunConfig
from prefrl.experience.environments import EnvStack
from prefrl.experience.recorder import SegmentRecorder
from prefrl.reward.workers import RewardWorker
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory
from prefrl.selection.asker import Asker

if TYPE_CHECKING:
    from prefrl.rendering.renderer import RendererProcess


@dataclass(frozen=True)
class Feedback:
    """The parts of a training that learns its reward."""

    recorder: SegmentRecorder
    asker: Asker
    learner: RewardWorker
    reward: AgentReward
    renderer: RendererProcess | None
    """Films clips for people; None where none are asked."""


@dataclass(frozen=True)
class Parts:
    """The parts of a training."""

    run: RunDirectory
    control: Control
    env: EnvStack
    agent: Agent
    feedback: Feedback | None
    """None for a run on the true reward."""

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.run.config

    @property
    def budget(self) -> int:
        """Labels that the run asks for in all."""
        return self.config.queries.labels if self.feedback else 0

    @property
    def counts(self) -> dict[str, int]:
        """Labels by judgement; all zero on the true reward."""
        if self.feedback:
            return self.feedback.asker.counts
        return dict.fromkeys(("answered", "pending", "equal", "incomparable"), 0)

    @property
    def unusable_labels(self) -> int:
        """Labels that could not be learned from; 0 on the true reward."""
        return self.feedback.asker.unusable if self.feedback else 0
