"""Select segments to ask about (paper, section 2.2.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from itertools import permutations

import numpy as np
import torch

from prefrl.arrays import Array
from prefrl.experience.segment import Segment

_FEWEST_CLIPS = 8
"""Minimum number of candidate clips. They form 28 pairs, more than the ten candidates of a single query."""

PredictPreferences = Callable[[Sequence[Segment], Array], Array]
"""(segments, (B, A) queries) -> (K, B): each member's probability that the first segment is preferred."""
Rule = Callable[[Array], Array]
"""(K, B) probabilities -> (B,) scores of the queries; those with the highest scores are asked."""


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


RULES: dict[str, Rule] = {"variance": disagreement, "entropy": uncertainty}
"""Rules by their names in `QueryConfig.selection`. The selection `random` needs no rule."""


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
    rule: Rule = disagreement,
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
        rule: Scores the candidates.

    Returns:
        Each query's segments in the order shown, highest scores first; fewer than `count` only if the pool has no more.
    """
    if len(segments) < arity or count < 1:
        return []
    some = max(_FEWEST_CLIPS, (candidate_clips or 0) * count)
    if candidate_clips and predict is not None and some < len(segments):
        places = np.sort(rng.choice(len(segments), some, replace=False))
        among = [segments[place] for place in places.tolist()]
        found = choose(
            among, count, rng, arity=arity, asked=asked, candidate_factor=candidate_factor, predict=predict, rule=rule
        )
        if len(found) == count:
            return found  # otherwise, most queries of these segments were already asked
    drawn = draw_queries(rng, len(segments), count * candidate_factor + len(asked), arity)
    ids = np.array([segment.id for segment in segments])
    fresh = [tuple(query) not in asked for query in np.sort(ids[drawn], axis=1).tolist()]
    candidates = drawn[fresh][: count * candidate_factor]
    if predict is not None and len(candidates) > count:
        scores = rule(predict(segments, candidates))
        candidates = candidates[np.argsort(-scores, kind="stable")]
    return [tuple(segments[place] for place in query) for query in candidates[:count].tolist()]
