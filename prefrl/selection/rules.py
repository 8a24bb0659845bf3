"""Select pairs of segments to ask about (paper, section 2.2.4)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch

from prefrl.arrays import Array
from prefrl.experience.segment import Segment

_FEWEST_CLIPS = 8
"""Minimum number of candidate clips. They form 28 pairs, more than the ten candidates of a single query."""

PredictPreferences = Callable[[Sequence[Segment], Array], Array]
"""(segments, (B, 2) pairs) -> (K, B): each member's probability that the left segment is preferred."""
Rule = Callable[[Array], Array]
"""(K, B) probabilities -> (B,) scores of the pairs; pairs with the highest scores are asked about."""


def draw_pairs(rng: np.random.Generator, segments: int, count: int) -> Array:
    """Draw pairs of segments uniformly without replacement, each in random left/right order.

    Args:
        rng: Random generator.
        segments: Number of segments.
        count: Number of pairs; at most all pairs are returned.

    Returns:
        (B, 2) indices. No segment is paired with itself, and no pair occurs twice in either order.
    """
    total = segments * (segments - 1) // 2
    codes = np.sort(rng.choice(total, size=min(count, total), replace=False))
    # Pair (i, j), i < j, has the code i (2S - i - 1) / 2 + (j - i - 1): the upper triangle, row by row.
    rows = np.arange(segments - 1)
    starts = rows * (2 * segments - rows - 1) // 2
    first = np.searchsorted(starts, codes, side="right") - 1
    second = codes - starts[first] + first + 1
    pairs = rng.permutation(np.stack([first, second], axis=1))
    return np.where(rng.random(len(pairs))[:, None] < 0.5, pairs, pairs[:, ::-1])


def _codes(pairs: Array) -> Array:
    """Encode each unordered pair of ids as one number.

    Args:
        pairs: (B, 2) ids in [-2^31, 2^31); imported segments have negative ids.

    Returns:
        (B,)
    """
    lesser, greater = np.sort(pairs, axis=1).T
    return np.asarray((lesser << 32) + (greater + 2**31))


def disagreement(probabilities: Array) -> Array:
    """Return the variance of the predicted preference over the members (paper, section 2.2.4).

    Args:
        probabilities: (K, B): each member's probability that the left segment is preferred.

    Returns:
        (B,)
    """
    return np.asarray(probabilities.var(axis=0))


def uncertainty(probabilities: Array) -> Array:
    """Return the entropy of the predicted preference, averaged over the members (B-Pref: Lee et al., 2021).

    Args:
        probabilities: (K, B): each member's probability that the left segment is preferred.

    Returns:
        (B,) in nats.
    """
    left = torch.from_numpy(probabilities)
    return np.asarray((torch.special.entr(left) + torch.special.entr(1 - left)).mean(dim=0))


RULES: dict[str, Rule] = {"variance": disagreement, "entropy": uncertainty}
"""Rules by their names in `QueryConfig.selection`. The selection `random` needs no rule."""


def choose(
    segments: Sequence[Segment],
    count: int,
    rng: np.random.Generator,
    *,
    asked: Collection[tuple[int, int]] = (),
    candidate_factor: int = 10,
    candidate_clips: int | None = None,
    predict: PredictPreferences | None = None,
    rule: Rule = disagreement,
) -> list[tuple[Segment, Segment]]:
    """Choose pairs to ask about.

    Args:
        segments: The pool.
        count: Number of pairs.
        rng: Random generator.
        asked: Pairs of segment ids (smaller first) that were already asked; they are not asked again.
        candidate_factor: Number of candidate pairs per chosen pair.
        candidate_clips: Number of segments per chosen pair from which candidates are drawn, themselves drawn
            uniformly; None for the whole pool. Each segment is predicted once, even if it is in several candidates.
        predict: The ensemble's predicted preferences; None for a uniform choice.
        rule: Scores the candidates.

    Returns:
        Ordered pairs (left, right), highest scores first; fewer than `count` only if the pool has no more.
    """
    if len(segments) < 2 or count < 1:
        return []
    some = max(_FEWEST_CLIPS, (candidate_clips or 0) * count)
    if candidate_clips and predict is not None and some < len(segments):
        places = np.sort(rng.choice(len(segments), some, replace=False))
        among = [segments[place] for place in places.tolist()]
        found = choose(among, count, rng, asked=asked, candidate_factor=candidate_factor, predict=predict, rule=rule)
        if len(found) == count:
            return found  # otherwise, most pairs of these segments were already asked
    drawn = draw_pairs(rng, len(segments), count * candidate_factor + len(asked))
    ids = np.array([segment.id for segment in segments])
    before = np.array(list(asked), dtype=np.int64).reshape(-1, 2)
    fresh = ~np.isin(_codes(ids[drawn]), _codes(before))
    candidates = drawn[fresh][: count * candidate_factor]
    if predict is not None and len(candidates) > count:
        scores = rule(predict(segments, candidates))
        candidates = candidates[np.argsort(-scores, kind="stable")]
    return [(segments[left], segments[right]) for left, right in candidates[:count].tolist()]
