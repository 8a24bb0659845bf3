"""The learner that lets the agent imitate its own segments that were rated best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prefrl.agents.agent import Agent
from prefrl.experience.clips import ClipFolder
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Label, Undone
from prefrl.registry import IMITATION_RULES, located
from prefrl.reward.label_reader import LabelReader
from prefrl.runs.directory import RunDirectory
from prefrl.seeding import stream
from prefrl.storage.files import Tree


class ImitationLearner:
    """Lets the agent clone the best of its rated segments whenever there are new ratings.

    Nothing predicts a reward, and no reinforcement learning takes place. Rating, choosing and cloning alternate with
    acting, in the agent's process.
    """

    def __init__(self, run: RunDirectory, store: LabelStore, inputs: Inputs, agent: Callable[[], Agent]) -> None:
        """Initialise the learner.

        Args:
            run: The run.
            store: The run's label store.
            inputs: The expected inputs of a step; clips with others are treated as damaged.
            agent: Returns the agent, which imitates. It exists before the first call of `fit`.
        """
        self._config, self._agent = run.config, agent
        self._labels, self._clips = LabelReader(run, store, inputs), ClipFolder(run.clips)
        self._ratings: dict[int, tuple[int, float]] = {}
        """Segment and rating of each label, by the id of its answer."""
        self._segments: dict[int, Segment] = {}
        """The segments imitated last, by id."""
        self._last_id = self._version = self._imitated = 0
        self._begun = False

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the last imitation."""
        return {"imitated": float(self._imitated)} if self._version else {}

    @property
    def ready(self) -> bool:
        """Whether the first ratings were read."""
        return self._begun

    def check(self, agent_step: int) -> None:
        """Do nothing: there is no process that could end."""

    def fit(self, agent_step: int, max_round: int | None) -> None:
        """Read new ratings, and let the agent imitate the best of the newest; see `Learner.fit`."""
        upto = None if max_round is None else self._labels.last_row(max_round, agent_step)
        before, self._begun = self._last_id, True
        for change in self._labels.changes(after=before, upto=upto):
            self._note(change)
        if self._last_id > before and self._ratings:
            self._version += 1
            self._imitate()

    def _note(self, change: Label | Undone) -> None:
        self._last_id = change.id
        if isinstance(change, Undone):
            self._ratings.pop(change.answer, None)
        else:
            assert isinstance(change.target, float)
            self._ratings[change.id] = (change.segments[0], change.target)

    def _imitate(self) -> None:
        config, settings = self._config, self._config.imitation
        rng = stream(config.seed, "imitation", self._version)
        newest = [self._ratings[number] for number in sorted(self._ratings)[-settings.newest :]]
        ratings = np.array([rating for _, rating in newest])
        chosen = located(IMITATION_RULES[settings.rule])(ratings, config.queries.rating_steps, settings, rng)
        best = [segment for (segment, _), kept in zip(newest, chosen, strict=True) if kept]
        self._segments = {segment: self._segments.get(segment) or self._clips.load(segment) for segment in best}
        self._imitated = len(best)
        if best:
            shown = Demonstrations(config.env_id, config.env_kwargs, tuple(self._segments[segment] for segment in best))
            self._agent().clone(shown, settings, rng, lambda: None, known=len(best))

    def state_dict(self) -> Tree:
        """Return what cannot be read from the store again."""
        return {"last_id": self._last_id, "version": self._version, "imitated": self._imitated}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state. The ratings are read again."""
        self._ratings.clear()
        for label in self._labels.standing(upto=state["last_id"]):
            self._note(label)
        self._last_id, self._version, self._imitated = state["last_id"], state["version"], state["imitated"]
        self._begun = True

    def close(self) -> None:
        """Do nothing: there is no process to stop."""

    def finish(self) -> None:
        """Do nothing: all ratings were read at the last round."""
