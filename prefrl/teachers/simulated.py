"""Simulated teachers: an oracle, and the ways in which B-Pref (Lee et al., 2021, section 4.1) has one fall short.

A teacher is a line of data, and lines add up: `mistake+skip` does both. What it says of a query is the feedback kind's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prefrl.experience.episodes import Episodes
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.feedback.terms import Answer, Query
from prefrl.seeding import stream


class SimulatedTeacher:
    """Answers from the true reward, as its configuration says."""

    def __init__(
        self, name: str, configuration: TeacherConfiguration, seed: int, episodes: Callable[[], Episodes | None]
    ) -> None:
        """Make a teacher.

        Args:
            name: What its answers are signed with.
            configuration: How it differs from the oracle.
            seed: Of its chance. What a query meets depends on its (round, rank) too, and on nothing else.
            episodes: The agent's newest episodes; None before the first has ended, when no threshold applies.
        """
        self._name, self._configuration, self._seed, self._episodes = name, configuration, seed, episodes
        self._answers: list[Answer] = []

    def submit(self, queries: dict[int, Query]) -> None:
        """Answer queries, by their ids in the store."""
        episodes = self._episodes()
        for query_id, query in queries.items():
            rewards = [segment.true_rewards for segment in query.segments]
            usual = None if episodes is None else len(rewards[0]) / episodes.mean_length * episodes.mean_return
            chance = stream(self._seed, "teacher", query.round, query.rank).random(2)
            value = KINDS[query.kind].simulate(rewards, self._configuration, usual, chance)
            self._answers.append(Answer(query_id, value, self._name, query.agent_step))

    def collect(self) -> Sequence[Answer]:
        """Give the answers since the last call."""
        answers, self._answers = self._answers, []
        return answers
