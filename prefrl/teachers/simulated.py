"""Simulated teachers: an oracle, and B-Pref's imperfect teachers (Lee et al., 2021, section 4.1).

A teacher is a configuration, and configurations can be added: `mistake+skip` has both imperfections. The feedback kind
determines how a configuration answers a query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prefrl.experience.episodes import Episodes
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.feedback.terms import Answer, Query
from prefrl.seeding import stream


class SimulatedTeacher:
    """Answers queries from the true reward, with the imperfections of its configuration."""

    def __init__(
        self, name: str, configuration: TeacherConfiguration, seed: int, episodes: Callable[[], Episodes | None]
    ) -> None:
        """Initialise the teacher.

        Args:
            name: The teacher's name in its answers.
            configuration: How it differs from the oracle.
            seed: The run's seed. Random numbers of a query depend only on this seed and the query's (round, rank).
            episodes: Returns the agent's newest episodes. It returns None before the first has ended; thresholds that
                depend on episodes do not apply then.
        """
        self._name, self._configuration, self._seed, self._episodes = name, configuration, seed, episodes
        self._answers: list[Answer] = []

    def submit(self, queries: dict[int, Query]) -> None:
        """Answer queries, given by their ids in the store."""
        episodes = self._episodes()
        for query_id, query in queries.items():
            rewards = [segment.true_rewards for segment in query.segments]
            usual = None if episodes is None else len(rewards[0]) / episodes.mean_length * episodes.mean_return
            chance = stream(self._seed, "teacher", query.round, query.rank).random(2)
            value = KINDS[query.kind].simulate(rewards, self._configuration.in_round(query.round), usual, chance)
            self._answers.append(Answer(query_id, value, self._name, query.agent_step))

    def collect(self) -> Sequence[Answer]:
        """Return the answers since the last call."""
        answers, self._answers = self._answers, []
        return answers
