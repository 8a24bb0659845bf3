"""Normalise the reward to fixed mean and deviation (paper, section 2.2.1, which does not specify over which data)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from prefrl.storage.files import Tree

_STEPS = 4096
"""Minimum number of newest steps for the statistics. Those of a single short rollout would hide whether it is good."""
_SMALLEST_VARIANCE = 1e-12
_SMALLEST_STD = 1e-6


class Moments(NamedTuple):
    """First and second moments of the members' outputs, in double precision."""

    steps: int
    mean: Tensor
    """(K,)"""
    square: Tensor
    """(K, K), mean of the outputs' outer products."""


def moments(outputs: Tensor) -> Moments:
    """Compute the moments of (K, N) outputs."""
    exact = outputs.double().cpu()
    return Moments(exact.shape[1], exact.mean(dim=1), exact @ exact.T / exact.shape[1])


def pooled(parts: Iterable[Moments]) -> tuple[Tensor, Tensor]:
    """Return mean, (K,), and covariance, (K, K), over all parts together."""
    known = list(parts)
    total = sum(part.steps for part in known)
    mean = torch.stack([part.mean * part.steps for part in known]).sum(dim=0) / total
    square = torch.stack([part.square * part.steps for part in known]).sum(dim=0) / total
    return mean, square - torch.outer(mean, mean)


def normalised(outputs: Tensor, mean: Tensor, covariance: Tensor, target_std: float) -> Tensor:
    """Normalise each member's outputs, average the members, and scale the average to the target deviation.

    r_n = target / s * mean_k((o_kn - m_k) / s_k), with s_k^2 = C_kk and s^2 = mean_jk(C_jk / (s_j s_k)), the variance
    of the average. The rescaling is needed because averaging members that disagree reduces the deviation.

    Args:
        outputs: (K, N) outputs before normalisation.
        mean: (K,) means m.
        covariance: (K, K) covariance C.
        target_std: Standard deviation of the result.

    Returns:
        (N,)
    """
    std = covariance.diagonal().clamp(min=_SMALLEST_VARIANCE).sqrt()
    average_std = (covariance / torch.outer(std, std)).mean().clamp(min=_SMALLEST_VARIANCE).sqrt()
    centred = (outputs.double().cpu() - mean[:, None]) / std[:, None]
    return (centred.mean(dim=0) * (target_std / average_std)).float()


class OutputNormaliser(nn.Module):
    """Normalises each member, averages them and scales the average. The statistics are saved with the weights."""

    mean: Tensor
    std: Tensor
    scale: Tensor

    def __init__(self, members: int, target_std: float) -> None:
        super().__init__()
        self._target_std = target_std
        self.register_buffer("mean", torch.zeros(members, 1))
        self.register_buffer("std", torch.ones(members, 1))
        self.register_buffer("scale", torch.tensor(target_std))

    def forward(self, outputs: Tensor) -> Tensor:
        """Normalise (K, N) outputs to (N,) rewards."""
        return self.standardised(outputs).mean(dim=0) * self.scale

    def fit(self, outputs: Tensor) -> None:
        """Fit each member's mean and deviation, then the scale of the average, to (K, N) outputs."""
        self.mean.copy_(outputs.mean(dim=1, keepdim=True))
        self.std.copy_(outputs.std(dim=1, keepdim=True).clamp(min=_SMALLEST_STD))
        # Averaging members that disagree reduces the deviation, so the average is scaled again.
        average = self.standardised(outputs).mean(dim=0)
        self.scale.copy_(self._target_std / average.std().clamp(min=_SMALLEST_STD))

    def mean_and_deviation(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation over the members of normalised (K, N) outputs, each (N,)."""
        each = self.standardised(outputs) * self.scale
        return each.mean(dim=0), each.std(dim=0, correction=0)

    def standardised(self, outputs: Tensor) -> Tensor:
        """Subtract each member's mean from (K, N) outputs, and divide by its deviation."""
        return (outputs - self.mean) / self.std


class NoNormaliser(OutputNormaliser):
    """Only averages the members: their mean stays 0, their deviation 1, and the scale 1, as in PEBBLE."""

    def __init__(self, members: int, target_std: float) -> None:
        super().__init__(members, target_std=1.0)

    def fit(self, outputs: Tensor) -> None:
        """Do nothing: there are no statistics."""


class Normalisation(Protocol):
    """Normalises the outputs of each rollout to the agent's reward."""

    def __call__(self, outputs: Tensor, published: OutputNormaliser) -> Tensor:
        """Normalise a rollout's outputs.

        Args:
            outputs: (K, N) outputs of the newest rollout.
            published: The normalisation that is published with the weights that gave these outputs.

        Returns:
            (N,) rewards.
        """

    def fit(self, outputs: Tensor) -> None:
        """Fit the statistics to (K, N) outputs for a whole replay memory, if they are of the memory."""

    def state_dict(self) -> Tree:
        """Return the statistics that last from one rollout to the next."""

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""


class ComparisonNormalisation:
    """Normalises by the clips of the newest comparisons: the normalisation that is published with the weights."""

    def __call__(self, outputs: Tensor, published: OutputNormaliser) -> Tensor:
        """Normalise the (K, N) outputs of the newest rollout to (N,) rewards."""
        with torch.no_grad():
            rewards: Tensor = published(outputs)
        return rewards

    def fit(self, outputs: Tensor) -> None:
        """Do nothing: the statistics come with the weights."""

    def state_dict(self) -> Tree:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Do nothing: there is no state."""


class RolloutNormalisation:
    """Normalises a rollout's outputs by the statistics of the newest rollouts, including this one.

    The statistics of older rollouts are those of the weights at that time.
    """

    def __init__(self, target_std: float) -> None:
        self._target_std = target_std
        self._newest: deque[Moments] = deque()

    def __call__(self, outputs: Tensor, published: OutputNormaliser) -> Tensor:
        """Normalise the (K, N) outputs of the newest rollout to (N,) rewards."""
        self._newest.append(moments(outputs))
        while sum(part.steps for part in self._newest) - self._newest[0].steps >= _STEPS:
            self._newest.popleft()
        return normalised(outputs, *pooled(self._newest), self._target_std)

    def fit(self, outputs: Tensor) -> None:
        """Raise NotImplementedError: on-policy agents have no replay memory."""
        raise NotImplementedError

    def state_dict(self) -> Tree:
        """Return the moments of the newest rollouts."""
        return {str(place): dict(part._asdict()) for place, part in enumerate(self._newest)}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._newest.clear()
        for place in sorted(state, key=int):
            part = state[place]
            self._newest.append(Moments(part["steps"], *(torch.from_numpy(part[name]) for name in ("mean", "square"))))


class AlignedRolloutNormalisation(RolloutNormalisation):
    """Like `RolloutNormalisation`, after standardising the outputs by the normalisation published with the weights.

    Comparisons determine the rewards only up to an offset, and each fit moves it, with images by many deviations. The
    statistics of rollouts that older weights have scored would then add to every reward an amount that changes with
    each fit. The published normalisation is of nearly the same clips before and after a fit, so its standardised
    outputs are comparable.
    """

    def __call__(self, outputs: Tensor, published: OutputNormaliser) -> Tensor:
        """Normalise the (K, N) outputs of the newest rollout to (N,) rewards."""
        return super().__call__(published.standardised(outputs), published)


class MemoryNormalisation:
    """Normalises by the whole replay memory, as the newest weights score it."""

    def __init__(self, target_std: float) -> None:
        self._target_std = target_std
        self._mean, self._covariance = torch.zeros(1), torch.eye(1)

    def __call__(self, outputs: Tensor, published: OutputNormaliser) -> Tensor:
        """Normalise (K, N) outputs of the weights to which the statistics were fitted: (N,) rewards."""
        return normalised(outputs, self._mean, self._covariance, self._target_std)

    def fit(self, outputs: Tensor) -> None:
        """Fit the statistics to the (K, N) outputs for the whole memory."""
        self._mean, self._covariance = pooled([moments(outputs)])

    def state_dict(self) -> Tree:
        """Return the statistics."""
        return {"mean": self._mean, "covariance": self._covariance}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._mean, self._covariance = (torch.from_numpy(state[name]) for name in ("mean", "covariance"))


NORMALISATIONS: dict[str, Callable[[float], Normalisation]] = {
    "comparisons": lambda target_std: ComparisonNormalisation(),
    "rollouts": RolloutNormalisation,
    "aligned-rollouts": AlignedRolloutNormalisation,
    "memory": MemoryNormalisation,
    "none": lambda target_std: ComparisonNormalisation(),  # that of the weights, which is none
}
"""Normalisations by `reward.normalise_over`, created with the target deviation."""
PUBLISHED: dict[str, Callable[[int, float], OutputNormaliser]] = {
    **dict.fromkeys(NORMALISATIONS, OutputNormaliser),
    "none": NoNormaliser,
}
"""Normalisations that are published with the weights, by `reward.normalise_over`."""
