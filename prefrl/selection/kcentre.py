"""K-centre: candidates that are far from each other and from the queries asked before (B-Pref: Lee et al., 2021).

B-Pref takes the greedy solution of the k-centre problem (Sener and Savarese, 2018, algorithm 1). A pair's features are
the states of both segments. B-Pref's states are vectors. Here, images are averaged over blocks of 8 x 8 pixels.
"""

from __future__ import annotations

import numpy as np
import torch

from prefrl.arrays import Array
from prefrl.experience.segment import Segment

_BLOCK = 8


def kcentre_greedy(points: Array, centres: Array, count: int) -> Array:
    """Choose points one after the other, each the farthest from its nearest centre; it then becomes a centre itself.

    Args:
        points: (B, D) candidates.
        centres: (N, D) centres; if there are none, the first point is chosen first.
        count: Number of points to choose, at most B.

    Returns:
        (count,) places of the chosen points, in the order of choice. Of points equally far, the first is chosen.
    """
    exact, known = (torch.from_numpy(each).double() for each in (points, centres))
    nearest = torch.cdist(exact, known).amin(dim=1) if len(centres) else torch.full((len(points),), torch.inf)
    chosen: list[int] = []
    for _ in range(min(count, len(points))):
        place = int(nearest.argmax())
        chosen.append(place)
        nearest = torch.minimum(nearest, torch.cdist(exact, exact[[place]])[:, 0])
        nearest[chosen] = -torch.inf
    return np.array(chosen, dtype=np.int64)


def state_features(segment: Segment) -> Array:
    """Return the observations of a segment as a vector, (D,); actions are left out, as in B-Pref."""
    frames = np.asarray(segment.frames, dtype=np.float32)
    if frames.ndim == 3:  # (L, H, W)
        length, *size = frames.shape
        rows, columns = (max(1, side // _BLOCK) for side in size)
        frames = frames[:, : size[0] // rows * rows, : size[1] // columns * columns]
        frames = frames.reshape(length, rows, -1, columns, frames.shape[2] // columns).mean(axis=(2, 4))
    return frames.ravel()
