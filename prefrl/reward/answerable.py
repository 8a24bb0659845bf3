"""Whether a query can be told: a small model that learns from "can't tell" answers, apart from the reward model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from prefrl.arrays import Array
from prefrl.seeding import stream
from prefrl.storage.files import Tree

_HIDDEN = 8
"""Hidden units."""
FEWEST = 5
"""Answers of either class, told and can't tell, from which more than a rate is learned."""
_ITERATIONS = 100
_FARTHEST = 4.0
"""Standard deviations from the mean at which inputs are cut off, so that nothing is extrapolated far."""


@dataclass(frozen=True, eq=False)
class Answerable:
    """Predicts the probability that a labeller cannot tell."""

    rate: float
    """Share of "can't tell" among the answers, which is predicted if there are no weights."""
    weights: dict[str, Array]
    """Statistics of the inputs and weights of the network; empty if there were too few answers of either class."""

    def predict(self, inputs: Array) -> Array:
        """Return the (N,) probabilities that queries with these inputs, (N, D), cannot be told."""
        if not self.weights:
            return np.full(len(inputs), self.rate)
        arrays = {name: torch.from_numpy(array) for name, array in self.weights.items()}
        standard = _standardised(inputs, self.weights["mean"], self.weights["deviation"])
        return np.asarray(torch.sigmoid(_logit(arrays, torch.from_numpy(standard))).numpy())

    def to_tree(self) -> Tree:
        """Return the content for a file."""
        return {"rate": self.rate, "weights": self.weights}

    @classmethod
    def from_tree(cls, tree: Tree, width: int) -> Answerable:
        """Read the content of a file.

        Args:
            tree: From `to_tree`.
            width: D, the expected number of inputs; see `answerable_inputs.input_width`.

        Raises:
            ValueError: or another of `storage.files.WRONG_CONTENT`, if it is not such a model.
        """
        rate, weights = float(tree["rate"]), dict(tree.get("weights", {}))
        if not 0 <= rate <= 1:
            raise ValueError("a rate is not between 0 and 1")
        expected = _shapes(width) if weights else {}
        if {name: array.shape for name, array in weights.items()} != expected:
            raise ValueError("the weights of can't tell have other shapes")
        if not all(array.dtype == np.float64 and np.isfinite(array).all() for array in weights.values()):
            raise ValueError("the weights of can't tell are not finite numbers")
        if weights and not (weights["deviation"] > 0).all():
            raise ValueError("a deviation is not positive")
        return cls(rate, weights)


def fit(inputs: Array, untold: Array, prior: Array, seed: int) -> Answerable:
    """Fit a model to answers by the maximum of the posterior, with a normal prior of the weights.

    The network has one hidden layer, and a linear part next to it.

    Args:
        inputs: (N, D) inputs of the queries.
        untold: (N,) whether the answer was "can't tell".
        prior: (D,) standard deviation of the weights of each input once it is standardised; of other weights, it is 1.
        seed: Seed of the initial weights.
    """
    rate = rate_of(untold)
    if not can_fit(untold):
        return Answerable(rate, {})
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    deviation = np.where(deviation > 1e-9 * (1 + np.abs(mean)), deviation, 1.0)
    standard = torch.from_numpy(_standardised(inputs, mean, deviation) * prior)  # so that all weights have one prior
    target = torch.from_numpy(untold.astype(np.float64))
    arrays = _initial(inputs.shape[1], rate, seed)
    optimiser = torch.optim.LBFGS(arrays.values(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        fitted = binary_cross_entropy_with_logits(_logit(arrays, standard), target, reduction="sum")
        penalised = sum(array.square().sum() for name, array in arrays.items() if name != "bias")
        total = fitted + 0.5 * penalised
        total.backward()  # type: ignore[no-untyped-call]
        return torch.as_tensor(total)

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    weights = {name: array.detach().numpy().copy() for name, array in arrays.items()}
    weights |= {"hidden": weights["hidden"] * prior[:, None], "linear": weights["linear"] * prior}
    return Answerable(rate, {"mean": mean, "deviation": deviation, **weights})


def rate_of(untold: Array) -> float:
    """Return the share of "can't tell"; 0 without answers."""
    return float(untold.mean()) if len(untold) else 0.0


def can_fit(untold: Array) -> bool:
    """Return whether there are enough answers of either class to fit more than a rate."""
    return min(int(untold.sum()), int((~untold).sum())) >= FEWEST


def _shapes(width: int) -> dict[str, tuple[int, ...]]:
    return {
        "mean": (width,),
        "deviation": (width,),
        "hidden": (width, _HIDDEN),
        "hidden_bias": (_HIDDEN,),
        "output": (_HIDDEN,),
        "linear": (width,),
        "bias": (),
    }


def _initial(width: int, rate: float, seed: int) -> dict[str, Tensor]:
    rng, arrays = stream(seed, "can't tell"), {}
    for name, shape in _shapes(width).items():
        if name not in ("mean", "deviation"):
            deviation = 1 / np.sqrt(width) if name in ("hidden", "output") else 0.0
            arrays[name] = torch.from_numpy(np.asarray(deviation * rng.normal(size=shape)))
    arrays["bias"] += float(np.log(rate / (1 - rate)))
    return {name: array.requires_grad_() for name, array in arrays.items()}


def _logit(arrays: dict[str, Tensor], standard: Tensor) -> Tensor:
    hidden = torch.tanh(standard @ arrays["hidden"] + arrays["hidden_bias"])
    return hidden @ arrays["output"] + standard @ arrays["linear"] + arrays["bias"]


def _standardised(inputs: Array, mean: Array, deviation: Array) -> Array:
    with np.errstate(all="ignore"):  # a file may hold numbers that are too large to compute with
        return np.clip(np.nan_to_num((inputs - mean) / deviation), -_FARTHEST, _FARTHEST)
