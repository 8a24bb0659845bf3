"""A learned judge as a teacher, which passes queries of which it is unsure on to another teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor
from typing import Any

import numpy as np

from prefrl.arrays import Floats
from prefrl.config.judge_config import JudgeConfig
from prefrl.config.typed import conform
from prefrl.errors import DamagedFileError, UsageError
from prefrl.feedback.kinds.comparison import COMPARISON, Judgement
from prefrl.feedback.notes import Notes
from prefrl.feedback.outcomes import sureness
from prefrl.feedback.terms import JUDGE, Answer, Query
from prefrl.registry import Registry
from prefrl.teachers.teacher import Teacher

Predict = Callable[[Sequence[Query]], Floats]
"""Queries -> (B,) probability that the first segment is preferred, averaged over the judge's members."""
ANSWERS: Registry[Callable[[float], Any]] = Registry(
    "feedback kind of a judge", {COMPARISON: lambda first: Judgement.LEFT if first > 0.5 else Judgement.RIGHT}
)
"""The answer for a probability that the first segment is preferred, by feedback kind."""
UNTOLD: dict[str, Any] = {COMPARISON: Judgement.INCOMPARABLE}
"""The answer of a labeller who cannot tell, by feedback kind."""


def all_told(queries: Sequence[Query]) -> Floats:
    """Predict that every query can be told."""
    return np.zeros(len(queries), np.float32)


class JudgeTeacher:
    """Answers queries by a reward model's predictions.

    Its decisions to pass queries on are kept in the store. A query that was passed on before a run was stopped is
    therefore passed on again, even if the others of its round were answered.
    """

    def __init__(
        self,
        predict: Predict,
        config: JudgeConfig,
        notes: Notes,
        other: Teacher | None = None,
        untold: Predict = all_told,
    ) -> None:
        """Initialise the teacher.

        Args:
            predict: The judge.
            config: Which queries it passes on.
            notes: Keeps its decisions.
            other: Answers the queries that are passed on; None to answer all.
            untold: Predicts the probability that a query cannot be told.
        """
        self._predict, self._config, self._notes, self._other = predict, config, notes, other
        self._untold = untold
        self._answers: list[Answer] = []

    def submit(self, queries: dict[int, Query]) -> None:
        """Answer queries, or pass them on; see `Teacher.submit`."""
        if not queries:
            return
        asked = list(queries.values())
        first = dict(zip(queries, self._predict(asked).tolist(), strict=True))
        untold = dict(zip(queries, self._untold(asked).tolist(), strict=True))
        sure = {number: sureness(first[number], untold[number]) for number in queries}
        passed = self._passed_on(sure) if self._other else set()
        for number, query in queries.items():
            if number not in passed:
                value = most_likely(query.kind, first[number], untold[number])
                self._answers.append(Answer(number, value, JUDGE, query.agent_step))
        if self._other and passed:
            self._other.submit({number: query for number, query in queries.items() if number in passed})

    def collect(self) -> Sequence[Answer]:
        """Return the judge's answers, and those of the other teacher; see `Teacher.collect`."""
        answers, self._answers = self._answers, []
        return [*answers, *(self._other.collect() if self._other else ())]

    def _passed_on(self, sure: dict[int, float]) -> set[int]:
        """Decide which queries are passed on, unless that was decided before.

        Args:
            sure: The sureness, by the query's id.
        """
        last, seen, before = self._decisions()
        new = {number: probability for number, probability in sure.items() if number > last}
        passed = before | choose_unsure(new, self._config, seen, len(before))
        if new:
            self._notes.write({"last": max(new), "seen": seen + len(new), "passed_on": sorted(passed)})
        return passed & sure.keys()

    def _decisions(self) -> tuple[int, int, set[int]]:
        """Return the last query and the number of queries decided about, and the ids of those passed on."""
        noted = self._notes.read()
        if noted is None:
            return 0, 0, set()
        try:
            return noted["last"] + 0, noted["seen"] + 0, set(conform(list[int], noted["passed_on"], "passed_on"))
        except (KeyError, TypeError, UsageError):
            raise DamagedFileError("the judge's decisions in labels.sqlite are damaged") from None


def most_likely(kind: str, first: float, untold: float) -> Any:
    """Return the most likely answer.

    Args:
        kind: The feedback kind.
        first: Probability that the first segment is preferred if the labeller can tell.
        untold: Probability that the labeller cannot tell.
    """
    if kind in UNTOLD and untold > sureness(first, untold):
        return UNTOLD[kind]
    return ANSWERS[kind](first)


def choose_unsure(sure: dict[int, float], config: JudgeConfig, seen: int, passed: int) -> set[int]:
    """Choose the queries to pass on.

    Args:
        sure: The judge's probability of the likelier side, by the query's id.
        config: The threshold, or the share.
        seen: Number of earlier queries.
        passed: Number of those that were passed on.
    """
    if config.share is None:
        return {number for number, probability in sure.items() if probability < config.confidence}
    due = max(0, floor(config.share * (seen + len(sure)) + 1e-9) - passed)
    return set(sorted(sure, key=lambda number: (sure[number], number))[:due])


def predictor(predict_preferences: Callable[[Sequence[Any], np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Predict:
    """Return the judge of an ensemble's `predict_preferences`."""

    def predict(queries: Sequence[Query]) -> Floats:
        segments = [segment for query in queries for segment in query.segments]
        places = np.arange(len(segments)).reshape(len(queries), -1)
        return np.asarray(predict_preferences(segments, places).mean(axis=0))

    return predict
