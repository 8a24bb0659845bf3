"""Simulated teachers: an oracle, and B-Pref's imperfect teachers (Lee et al., 2021, section 4.1).

A teacher is a configuration, and configurations can be added: `mistake+skip` has both imperfections. The feedback kind
determines how a configuration answers a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter

import numpy as np

from prefrl.arrays import Floats
from prefrl.experience.episodes import Episodes
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds import KINDS, FeedbackKind
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.feedback.terms import Answer, Query
from prefrl.seeding import stream

Judged = Callable[[Segment], Floats]
"""Segment -> (L,) numbers of its steps, of which the usual one is 0."""
WatchedOfKind = Callable[[str], Floats]
"""Feedback kind -> (N, L) true rewards of the segments that it was asked about."""
NOTHING = np.zeros((0, 0), np.float32)


class SimulatedTeacher:
    """Answers queries from the true reward, with the imperfections of its configuration."""

    def __init__(
        self,
        name: str,
        configuration: TeacherConfiguration,
        seed: int,
        episodes: Callable[[], Episodes | None],
        kinds: Mapping[str, FeedbackKind] = KINDS,
        watched: WatchedOfKind = lambda kind: NOTHING,
        judged: Judged | None = None,
    ) -> None:
        """Initialise the teacher.

        Args:
            name: The teacher's name in its answers.
            configuration: How it differs from the oracle.
            seed: The run's seed. Random numbers of a query depend only on this seed and the query's (round, rank).
            episodes: Returns the agent's newest episodes. It returns None before the first has ended; thresholds that
                depend on episodes do not apply then.
            kinds: The feedback kinds, as the run asks them.
            watched: Returns the true rewards of the segments of all queries of a kind so far; see
                `FeedbackKind.simulate`.
            judged: Returns what is judged in place of the true rewards; None for these.
        """
        self._kinds, self._watched, self._judged = kinds, watched, judged
        self._name, self._configuration, self._seed, self._episodes = name, configuration, seed, episodes
        self._answers: list[Answer] = []

    def submit(self, queries: dict[int, Query]) -> None:
        """Answer queries, given by their ids in the store."""
        episodes = self._episodes()
        for query_id, query in queries.items():
            judged = self._judged or attrgetter("true_rewards")
            rewards = [judged(segment) for segment in query.segments]
            usual = 0.0 if self._judged else _usual(episodes, len(rewards[0]))
            chance = stream(self._seed, "teacher", query.round, query.rank).random(2 + 2 * len(rewards[0]))
            teacher, watched = self._configuration.in_round(query.round), partial(self._watched, query.kind)
            value = self._kinds[query.kind].simulate(rewards, teacher, usual, chance, watched)
            self._answers.append(Answer(query_id, value, self._name, query.agent_step))

    def collect(self) -> Sequence[Answer]:
        """Return the answers since the last call."""
        answers, self._answers = self._answers, []
        return answers


def _usual(episodes: Episodes | None, length: int) -> float | None:
    """Return the mean return of episodes, scaled to a number of steps."""
    return None if episodes is None else length / episodes.mean_length * episodes.mean_return
