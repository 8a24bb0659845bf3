"""Statistics of the states that a policy visits: their entropy, and their divergence from those of another policy."""

from __future__ import annotations

import math

import numpy as np

from prefrl.agents.exploration import neighbour_distances
from prefrl.arrays import Array, Floats

NEIGHBOURS = 5
"""k of the k-NN estimates."""
_SMALLEST = 1e-10
"""Smallest distance: states that are alike would have an infinite density."""


def knn_entropy(states: Array, k: int = NEIGHBOURS) -> float | None:
    """Estimate the differential entropy of the distribution that states are drawn from, in nats.

    This is the estimate of Kozachenko and Leonenko (1987) with the k-th neighbour:
    D / N sum_i log rho_i + log V_D + psi(N) - psi(k), where rho_i is the distance to the k-th neighbour, and V_D the
    volume of the unit ball.

    Args:
        states: (N, D) in their own units, on which the entropy depends.
        k: 1 for the nearest neighbour.

    Returns:
        None if there are at most k states.
    """
    count, length = states.shape
    if count <= k:
        return None
    distances = _distances(states, states, k + 1)  # without the state itself
    ball = 0.5 * length * math.log(math.pi) - math.lgamma(0.5 * length + 1)
    return float(length * np.log(distances).mean() + ball + _digamma(count) - _digamma(k))


def knn_divergence(states: Array, references: Array, k: int = NEIGHBOURS) -> float | None:
    """Estimate the divergence KL(p || q) of the distributions of two samples of states, in nats.

    This is the estimate of Wang, Kulkarni and Verdu (2009, equation 5):
    D / N sum_i log(nu_i / rho_i) + log(M / (N - 1)), where rho_i and nu_i are the distances of a state to its k-th
    neighbour among the states and among the references. The parts of a state are divided by the references' deviations,
    because neighbours, though not the divergence itself, depend on their units.

    Args:
        states: (N, D) states, from p.
        references: (M, D) states, from q.
        k: 1 for the nearest neighbour.

    Returns:
        None if there are at most k of either.
    """
    (count, length), others = states.shape, len(references)
    if min(count, others) <= k:
        return None
    deviation = np.maximum(references.std(axis=0), 1e-3 * (states.std(axis=0) + references.std(axis=0)))
    scale = np.where(deviation > 0, deviation, 1)
    states, references = states / scale, references / scale
    among, between = _distances(states, states, k + 1), _distances(states, references, k)
    return float(length * np.log(between / among).mean() + math.log(others / (count - 1)))


def _distances(states: Array, references: Array, k: int) -> Floats:
    return np.maximum(neighbour_distances(states, references, k).astype(np.float64), _SMALLEST)


def _digamma(n: int) -> float:
    """Return the digamma function of a positive integer: -gamma + sum_{j < n} 1 / j."""
    return -float(np.euler_gamma) + math.fsum(1 / j for j in range(1, n))


_CELLS = 7
"""Cells along each side of an image, over each of which its newest frame is averaged."""


def state_features(observations: Array) -> Floats:
    """Return the features on which states are compared: vectors themselves, images as means over 7 x 7 cells.

    Args:
        observations: (N, *observation) raw observations; images have channels, or frames, first.

    Returns:
        (N, D)
    """
    if observations.ndim != 4:
        return observations.reshape(len(observations), -1).astype(np.float32)
    newest = observations[:, -1].astype(np.float32) / 255
    rows, columns = (np.array_split(np.arange(size), min(_CELLS, size)) for size in newest.shape[1:])
    cells = [newest[:, row[0] : row[-1] + 1, column[0] : column[-1] + 1] for row in rows for column in columns]
    return np.stack([cell.mean(axis=(1, 2)) for cell in cells], axis=1)
