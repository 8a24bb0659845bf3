"""The oracle: a synthetic teacher that knows the task's reward and never errs (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

from prefrl.types import Answer, Judgement, Query


class Oracle:
    """Prefers the segment with the higher sum of true reward; calls equal sums equal."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []

    def submit(self, queries: dict[int, Query]) -> None:
        """Judge queries, by their ids in the store."""
        for query_id, query in queries.items():
            self._answers.append(Answer(query_id, judge(query), "oracle", query.agent_step))

    def collect(self) -> Sequence[Answer]:
        """Give the answers since the last call."""
        answers, self._answers = self._answers, []
        return answers


def judge(query: Query) -> Judgement:
    """Which segment has the higher undiscounted sum of true reward."""
    left, right = (float(segment.true_rewards.sum(dtype="float64")) for segment in (query.left, query.right))
    if left == right:
        return Judgement.EQUAL
    return Judgement.LEFT if left > right else Judgement.RIGHT
