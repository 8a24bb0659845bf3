"""Features of mean zero and deviation one, by the labelled segments; images go in as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from prefrl.arrays import Array, Floats
from prefrl.errors import PrefrlError
from prefrl.experience.inputs import Inputs
from prefrl.storage.files import Tree

_CLIP = 10.0
_SMALLEST_VARIANCE = 1e-8


class InputNormaliser(nn.Module):
    """Normalises what a network reads, by statistics that travel with the weights.

    They are never the agent's own running normalisation, which would drift under the model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self._images = inputs.images
        shape = (1,) if inputs.images else inputs.step
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def forward(self, steps: Tensor) -> Tensor:
        """(..., *step) to the same shape; vectors are clipped at ten deviations."""
        return steps if self._images else ((steps - self.mean) / self.std).clamp(-_CLIP, _CLIP)

    def fit(self, moments: InputMoments, segments: int) -> None:
        """Take the statistics of so many labelled segments."""
        if not moments.sums.size:
            return
        mean, square = moments.sums / max(1, segments)
        std = np.sqrt(np.maximum(square - mean**2, _SMALLEST_VARIANCE)) if segments else np.ones_like(mean)
        self.mean.copy_(torch.from_numpy(mean))
        self.std.copy_(torch.from_numpy(std))


class InputMoments:
    """Sums over the labelled segments of each feature's mean and mean square, in double precision; none of images."""

    def __init__(self, inputs: Inputs) -> None:
        self.sums = np.zeros(0) if inputs.images else np.zeros((2, *inputs.step))
        """(2, F)"""

    def add(self, features: Array) -> None:
        """Count a segment's (L, F) features."""
        if self.sums.size:
            self.sums += _moments(features)

    def remove(self, segments: Iterable[int], read: Callable[[int], tuple[Array, Floats]], left: int) -> None:
        """Forget a label's segments.

        Args:
            segments: Their ids.
            read: Reads a segment.
            left: Labels that still count.
        """
        if not left:
            self.sums[...] = 0
        elif self.sums.size:
            try:
                for segment in segments:
                    self.sums -= _moments(read(segment)[0])
            except PrefrlError:  # its clip was damaged since: it is taken for an average one
                self.sums *= left / (left + 1)

    def state_dict(self) -> Tree:
        """The sums."""
        return {"moments": self.sums}

    def load_state_dict(self, state: Tree, share: float) -> None:
        """Go back to a saved state, of whose labels this share is left."""
        self.sums = state["moments"] * share


def _moments(features: Array) -> Array:
    """A segment's mean and mean square of each feature, (2, F)."""
    return np.stack([features.mean(axis=0), np.square(features, dtype=np.float64).mean(axis=0)])
