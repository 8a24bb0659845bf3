"""Normalise input vectors to mean zero and standard deviation one. Images are not normalised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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
    """Normalises a network's inputs by statistics of the labelled segments, which are saved with the weights.

    The agent's running normalisation is not used, because its drift would change the predictions.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, inputs: Inputs, *, enabled: bool = True) -> None:
        super().__init__()
        self._keeps, self._unread = inputs.images or not enabled, inputs.unread
        shape = (1,) if inputs.images else inputs.step
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    def forward(self, steps: Tensor) -> Tensor:
        """Normalise (..., *step) inputs to what the networks read; vectors are clipped at ten standard deviations."""
        given = steps if self._keeps else ((steps - self.mean) / self.std).clamp(-_CLIP, _CLIP)
        return given[..., : -self._unread] if self._unread else given

    def fit(self, moments: InputMoments, segments: int) -> None:
        """Set the statistics from the moments of a number of segments."""
        if not moments.sums.size:
            return
        mean, square = moments.sums / max(1, segments)
        std = np.sqrt(np.maximum(square - mean**2, _SMALLEST_VARIANCE)) if segments else np.ones_like(mean)
        self.mean.copy_(torch.from_numpy(mean))
        self.std.copy_(torch.from_numpy(std))


class InputMoments:
    """Sums of each feature's mean and mean square over the labelled segments, in double precision; empty for images."""

    def __init__(self, inputs: Inputs) -> None:
        self.sums = np.zeros(0) if inputs.images else np.zeros((2, *inputs.step))
        """(2, F), or (0,) for images."""

    @classmethod
    def total(cls, parts: Sequence[InputMoments]) -> InputMoments:
        """Return the sums over several sets of segments."""
        moments = cls.__new__(cls)
        moments.sums = np.sum([part.sums for part in parts], axis=0)
        return moments

    def add(self, features: Array) -> None:
        """Add a segment's (L, F) features."""
        if self.sums.size:
            self.sums += _moments(features)

    def remove(self, segments: Iterable[int], read: Callable[[int], tuple[Array, Floats]], left: int) -> None:
        """Remove the segments of a label.

        Args:
            segments: Ids of the segments.
            read: Reads a segment.
            left: Number of remaining labels.
        """
        if not left:
            self.sums[...] = 0
        elif self.sums.size:
            try:
                removed = [_moments(read(segment)[0]) for segment in segments]
            except PrefrlError:  # its clip has been damaged since; treat it as an average one
                self.sums *= left / (left + 1)
            else:
                for moments in removed:
                    self.sums -= moments

    def state_dict(self) -> Tree:
        """Return the sums."""
        return {"moments": self.sums}

    def load_state_dict(self, state: Tree, share: float) -> None:
        """Restore a saved state, scaled by the fraction of its labels that are still usable."""
        self.sums = state["moments"] * share


def _moments(features: Array) -> Array:
    """Return mean and mean square of each feature over a segment, (2, F)."""
    return np.stack([features.mean(axis=0), np.square(features, dtype=np.float64).mean(axis=0)])
