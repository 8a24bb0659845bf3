"""Select segments to ask about (paper, section 2.2.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import torch

from prefrl.arrays import Array
from prefrl.experience.segment import Segment
from prefrl.selection.kcentre import kcentre_greedy, state_features

_FEWEST_CLIPS = 8
"""Minimum number of candidate clips. They form 28 pairs, more than the ten candidates of a single query."""

PredictPreferences = Callable[[Sequence[Segment], Array], Array]
"""(segments, (B, A) queries) -> (K, B): each member's probability that the first segment is preferred."""

PredictAnswerable = Callable[[Sequence[Segment], Array], Array]
"""(segments, (B, A) queries) -> (B,): the probability that a query can be told, i.e. is not answered "can't tell"."""


def all_answerable(segments: Sequence[Segment], queries: Array) -> Array:
    """Predict that every query can be told."""
    return np.ones(len(queries))


@dataclass(frozen=True)
class Candidates:
    """Candidate queries, of which a rule chooses."""

    segments: Sequence[Segment]
    queries: Array
    """(B, A) indices of their segments."""
    predict: PredictPreferences
    """The ensemble's predicted preferences."""
    asked: Callable[[], Array] = lambda: np.zeros((0, 0), np.float32)
    """Returns the features of the queries that were asked before, (N, D); see `features`."""
    predict_answerable: PredictAnswerable = all_answerable
    """Which queries are predicted to be answered otherwise than by "can't tell"."""

    def __len__(self) -> int:
        """Return B, the number of candidates."""
        return len(self.queries)

    @property
    def probabilities(self) -> Array:
        """(K, B) each member's probability that the first segment is preferred."""
        return self.predict(self.segments, self.queries)

    @property
    def answerable(self) -> Array:
        """(B,) the probability that a query can be told."""
        return self.predict_answerable(self.segments, self.queries)

    @property
    def features(self) -> Array:
        """(B, D) the states of each query's segments, in the order of their ids, whichever is shown first."""
        used, places = np.unique(self.queries, return_inverse=True)
        states = np.stack([state_features(self.segments[index]) for index in used])
        ids = np.array([self.segments[index].id for index in used])[places.reshape(self.queries.shape)]
        order = np.take_along_axis(places.reshape(self.queries.shape), np.argsort(ids, axis=1), axis=1)
        return np.asarray(states[order].reshape(len(self), -1))

    def among(self, places: Array) -> Candidates:
        """Return some of the candidates."""
        return replace(self, queries=self.queries[places])


Rule = Callable[[Candidates, int], Array]
"""(candidates, count) -> places of the candidates that are asked, best first."""


def draw_queries(rng: np.random.Generator, segments: int, count: int, arity: int = 2) -> Array:
    """Draw sets of segments uniformly without replacement, each in random order.

    Args:
        rng: Random generator.
        segments: Number of segments.
        count: Number of sets; at most all sets are returned.
        arity: A, the segments in a set.

    Returns:
        (B, A) indices. No segment occurs twice in a set, and no set occurs twice in any order.
    """
    total = math.comb(segments, arity)
    codes = np.sort(rng.choice(total, size=min(count, total), replace=False))
    queries = rng.permutation(_sets(codes, segments, arity))
    orders = np.array(list(permutations(range(arity))))
    order = orders[(rng.random(len(queries)) * len(orders)).astype(np.int64)]
    return np.take_along_axis(queries, order, axis=1)


def _sets(codes: Array, segments: int, arity: int) -> Array:
    """Return the sets that have these places in the lexicographic order of all sets: (B, A), each ascending.

    The sets that follow are counted with the combinatorial number system (Knuth, The Art of Computer Programming,
    volume 4A, section 7.2.1.3).
    """
    sizes = [np.ones(segments, np.int64)]
    for _ in range(arity):  # to sizes[k][m], the number of sets of k among m
        sizes.append(np.cumsum(sizes[-1]) - sizes[-1])
    following, columns = math.comb(segments, arity) - 1 - codes, []
    for counts in sizes[:0:-1]:
        larger = np.searchsorted(counts, following, side="right") - 1
        following = following - counts[larger]
        columns.append(segments - 1 - larger)
    return np.stack(columns, axis=1)


def disagreement(probabilities: Array) -> Array:
    """Return the variance of the predicted preference over the members (paper, section 2.2.4).

    Args:
        probabilities: (K, B): each member's probability that the first segment is preferred.

    Returns:
        (B,)
    """
    return np.asarray(probabilities.var(axis=0))


def uncertainty(probabilities: Array) -> Array:
    """Return the entropy of the predicted preference, averaged over the members (B-Pref: Lee et al., 2021).

    Args:
        probabilities: (K, B): each member's probability that the first segment is preferred.

    Returns:
        (B,) in nats.
    """
    first = torch.from_numpy(probabilities)
    return np.asarray((torch.special.entr(first) + torch.special.entr(1 - first)).mean(dim=0))


def highest(score: Callable[[Array], Array]) -> Rule:
    """Return the rule that chooses the candidates whose predictions, (K, B), have the highest scores, (B,)."""
    return lambda candidates, count: np.argsort(-score(candidates.probabilities), kind="stable")[:count]


def kcentre(candidates: Candidates, count: int) -> Array:
    """Choose the candidates that are farthest from the queries asked before and from each other (B-Pref)."""
    return kcentre_greedy(candidates.features, candidates.asked(), count)


def kcentre_variance(candidates: Candidates, count: int) -> Array:
    """Choose by `kcentre` among the half of the candidates with the highest variance (B-Pref)."""
    best = highest(disagreement)(candidates, max(count, len(candidates) // 2))
    return np.asarray(best[kcentre(candidates.among(best), count)])


def same_stage(candidates: Candidates, count: int) -> Array:
    """Choose segments of the same stage of an episode (after STAIR: Luan et al., 2025, arXiv 2509.23802).

    STAIR learns a temporal distance by contrastive learning, and prefers pairs of segments that are close by it. Here,
    a segment's stage is the number of steps of its episode before it. That needs no learning, but does not adapt to how
    fast an agent gets from stage to stage. Also ours: the 2 * count candidates whose stages differ least are kept, and
    those of them with the highest variance are chosen.
    """
    stages = np.array([segment.start for segment in candidates.segments])[candidates.queries]
    near = np.argsort(np.ptp(stages, axis=1), kind="stable")[: 2 * count]
    return np.asarray(near[highest(disagreement)(candidates.among(near), count)])


def newest(candidates: Candidates, count: int) -> Array:
    """Choose the candidates whose newer segment is newest, whatever the other one is.

    What the agent does now is thus compared with all that it ever did. Pairs of new segments alone leave open whether
    it does better or worse than before.
    """
    ids = np.array([segment.id for segment in candidates.segments])[candidates.queries]
    return np.argsort(-ids.max(axis=1), kind="stable")[:count]


def answerable_variance(candidates: Candidates, count: int) -> Array:
    """Choose the candidates with the highest variance times the probability that they can be told."""
    score = disagreement(candidates.probabilities) * candidates.answerable
    return np.argsort(-score, kind="stable")[:count]


RULES: dict[str, Rule] = {
    "variance": highest(disagreement),
    "answerable-variance": answerable_variance,
    "entropy": highest(uncertainty),
    "kcentre": kcentre,
    "kcentre-variance": kcentre_variance,
    "newest": newest,
    "same-stage": same_stage,
}
"""Rules by their names in `QueryConfig.selection`. The selection `random` needs no rule."""


def of_newest_episodes(segments: Sequence[Segment], count: int | None) -> Sequence[Segment]:
    """Return the segments of the newest episodes (PEBBLE's code; QPA: Hu et al., 2024, section 5).

    Args:
        segments: The pool.
        count: Number of episodes, of those that have segments in the pool; None for all.
    """
    if count is None:
        return segments
    newest = set(sorted({segment.episode for segment in segments})[-count:])
    return [segment for segment in segments if segment.episode in newest]


def choose(
    segments: Sequence[Segment],
    count: int,
    rng: np.random.Generator,
    *,
    arity: int = 2,
    asked: AbstractSet[tuple[int, ...]] = frozenset(),
    candidate_factor: int = 10,
    candidate_clips: int | None = None,
    predict: PredictPreferences | None = None,
    rule: Rule = RULES["variance"],
    asked_features: Callable[[], Array] = lambda: np.zeros((0, 0), np.float32),
    answerable: PredictAnswerable = all_answerable,
) -> list[tuple[Segment, ...]]:
    """Choose queries to ask.

    Args:
        segments: The pool.
        count: Number of queries.
        rng: Random generator.
        arity: A, the segments of a query.
        asked: Segment ids (smallest first) of the queries that were already asked; they are not asked again.
        candidate_factor: Number of candidates per chosen query.
        candidate_clips: Number of segments per chosen query from which candidates are drawn, themselves drawn
            uniformly; None for the whole pool. Each segment is predicted once, even if it is in several candidates.
        predict: The ensemble's predicted preferences; None for a uniform choice.
        rule: Chooses among the candidates.
        asked_features: Returns the features of the queries that were asked before; see `Candidates`.
        answerable: Predicts which queries can be told; see `Candidates`.

    Returns:
        Each query's segments in the order shown, best first; fewer than `count` only if the pool has no more.
    """
    if len(segments) < arity or count < 1:
        return []
    some = max(_FEWEST_CLIPS, (candidate_clips or 0) * count)
    if candidate_clips and predict is not None and some < len(segments):
        places = np.sort(rng.choice(len(segments), some, replace=False))
        among = [segments[place] for place in places.tolist()]
        found = choose(
            among,
            count,
            rng,
            arity=arity,
            asked=asked,
            candidate_factor=candidate_factor,
            predict=predict,
            rule=rule,
            asked_features=asked_features,
            answerable=answerable,
        )
        if len(found) == count:
            return found  # otherwise, most queries of these segments were already asked
    drawn = draw_queries(rng, len(segments), count * candidate_factor + len(asked), arity)
    ids = np.array([segment.id for segment in segments])
    fresh = [tuple(query) not in asked for query in np.sort(ids[drawn], axis=1).tolist()]
    candidates = drawn[fresh][: count * candidate_factor]
    if predict is not None and len(candidates) > count:
        candidates = candidates[rule(Candidates(segments, candidates, predict, asked_features, answerable), count)]
    return [tuple(segments[place] for place in query) for query in candidates[:count].tolist()]
