"""Which pairs of segments are worth asking about (paper, section 2.2.4)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch

from prefrl.arrays import Array
from prefrl.experience.segment import Segment

_FEWEST_CLIPS = 8
"""With 28 pairs: more than the ten candidates that a single query is chosen from."""

PredictPreferences = Callable[[Sequence[Segment], Array], Array]
"""(segments, pairs (B, 2)) -> (K, B): each member's probability that the left segment is preferred."""
Rule = Callable[[Array], Array]
"""(K, B) of these -> (B,): how much pairs are worth asking about."""


def draw_pairs(rng: np.random.Generator, segments: int, count: int) -> Array:
    """Distinct unordered pairs of distinct segments, uniformly, in random left/right order.

    Args:
        rng: Source of randomness.
        segments: How many segments there are.
        count: Pairs wanted; all there are, if that is fewer.

    Returns:
        (B, 2) indices; no segment is paired with itself and no pair comes twice, in either order.
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
    """One number (B,) for each unordered pair (B, 2) of ids in [-2^31, 2^31); imported segments have negative ones."""
    lesser, greater = np.sort(pairs, axis=1).T
    return np.asarray((lesser << 32) + (greater + 2**31))


def disagreement(probabilities: Array) -> Array:
    """Variance between members of the predicted preference.

    Args:
        probabilities: (K, B) each member's probability that the left segment is preferred.

    Returns:
        (B,)
    """
    return np.asarray(probabilities.var(axis=0))


def uncertainty(probabilities: Array) -> Array:
    """Entropy in nats of the predicted preference, averaged over members (B-Pref: Lee et al., 2021).

    Args:
        probabilities: (K, B) each member's probability that the left segment is preferred.

    Returns:
        (B,)
    """
    left = torch.from_numpy(probabilities)
    return np.asarray((torch.special.entr(left) + torch.special.entr(1 - left)).mean(dim=0))


RULES: dict[str, Rule] = {"variance": disagreement, "entropy": uncertainty}
"""By the names of `QueryConfig.selection`; `random` needs no prediction."""


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
    """Choose the pairs to ask about.

    Args:
        segments: The pool.
        count: Pairs wanted.
        rng: Source of randomness.
        asked: Pairs of segment ids (smaller first) that were asked before; they are not asked again.
        candidate_factor: Candidates drawn for each pair wanted.
        candidate_clips: Segments for each pair wanted among which candidates are drawn, themselves drawn uniformly;
            None for the whole pool. Each is predicted once, however many candidates it is in.
        predict: The ensemble's predicted preferences; without it the choice is uniform.
        rule: What pairs are worth.

    Returns:
        Ordered pairs (left, right), those that are worth most first; fewer than `count` only where the pool has no
        more.
    """
    if len(segments) < 2 or count < 1:
        return []
    some = max(_FEWEST_CLIPS, (candidate_clips or 0) * count)
    if candidate_clips and predict is not None and some < len(segments):
        places = np.sort(rng.choice(len(segments), some, replace=False))
        among = [segments[place] for place in places.tolist()]
        found = choose(among, count, rng, asked=asked, candidate_factor=candidate_factor, predict=predict, rule=rule)
        if len(found) == count:
            return found  # else most of their pairs were asked before
    drawn = draw_pairs(rng, len(segments), count * candidate_factor + len(asked))
    ids = np.array([segment.id for segment in segments])
    before = np.array(list(asked), dtype=np.int64).reshape(-1, 2)
    fresh = ~np.isin(_codes(ids[drawn]), _codes(before))
    candidates = drawn[fresh][: count * candidate_factor]
    if predict is not None and len(candidates) > count:
        scores = rule(predict(segments, candidates))
        candidates = candidates[np.argsort(-scores, kind="stable")]
    return [(segments[left], segments[right]) for left, right in candidates[:count].tolist()]
