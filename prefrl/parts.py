"""The parts of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefrl.agents.agent import Agent
from prefrl.agents.reward_terms import AgentReward, RewardTerm
from prefrl.config import RunConfig
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.environments import EnvStack
from prefrl.experience.recorder import SegmentRecorder
from prefrl.reward.workers import RewardWorker
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
    learner: RewardWorker
    reward: AgentReward
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
    feedback: Feedback | None
    """None if the run trains on the true reward."""
    shown: Demonstrations | None = None
    """The demonstrations; None if there are none."""

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.run.config

    @property
    def budget(self) -> int:
        """The label budget; 0 if the run trains on the true reward."""
        return self.config.queries.labels if self.feedback else 0

    @property
    def counts(self) -> dict[str, int]:
        """Counts of labels: `answered` (all that count), `pending`, and one per judgement. All 0 without feedback."""
        if self.feedback:
            return self.feedback.asker.counts
        return dict.fromkeys(("answered", "pending", "equal", "incomparable"), 0)

    @property
    def unusable_labels(self) -> int:
        """Number of labels that could not be learned from; 0 if the run trains on the true reward."""
        return self.feedback.asker.unusable if self.feedback else 0
