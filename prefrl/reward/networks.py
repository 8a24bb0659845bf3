"""Reward networks: K networks of the same shape, evaluated together. `prefrl.registry.NETWORKS` lists them by name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from prefrl.config import RewardConfig
from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.registry import NETWORKS, located


class RewardNetwork(nn.Module):
    """Base class of reward networks."""

    def forward(self, steps: Tensor) -> Tensor:
        """Predict rewards.

        Args:
            steps: (N, *step), shared by all members, or (K, N, *step).

        Returns:
            (K, N) unnormalised rewards.
        """
        raise NotImplementedError

    def squared_norm(self) -> Tensor:
        """Return each member's sum of squared weights, (K,), for the L2 penalty."""
        raise NotImplementedError


def make_network(config: RewardConfig, inputs: Inputs) -> RewardNetwork:
    """Create the network that `reward.network` selects.

    Raises:
        UsageError: if the name is unknown, or the network cannot read these inputs.
    """
    kind = NETWORKS[config.network]
    if kind.images != inputs.images:
        reads, seen = ("images", "vectors") if kind.images else ("vectors", "images")
        raise UsageError(f"reward.network={config.network} reads {reads}, but the observations are {seen}")
    network = located(kind.factory)(config, inputs)
    assert isinstance(network, RewardNetwork)
    return network


class StackedMLP(RewardNetwork):
    """K multilayer perceptrons. A layer's weights are one tensor, so that one batched product computes all members."""

    def __init__(self, members: int, inputs: int, hidden: Sequence[int], negative_slope: float) -> None:
        """Initialise the members independently, like `torch.nn.Linear`.

        Args:
            members: K, the number of members.
            inputs: F, the number of features of a step.
            hidden: Number of units of each hidden layer.
            negative_slope: Negative slope of the leaky ReLU between layers.
        """
        super().__init__()
        self.negative_slope = negative_slope
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        widths = [inputs, *hidden, 1]
        for fan_in, fan_out in itertools.pairwise(widths):
            bound = 1 / math.sqrt(fan_in)
            self.weights.append(nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(members, 1, fan_out).uniform_(-bound, bound)))

    @classmethod
    def from_config(cls, config: RewardConfig, inputs: Inputs) -> StackedMLP:
        """Create the network of a configuration."""
        return cls(config.members, inputs.step[0], config.hidden, config.negative_slope)

    def forward(self, features: Tensor) -> Tensor:
        """Predict rewards.

        Args:
            features: (N, F), shared by all members, or (K, N, F).

        Returns:
            (K, N) unnormalised rewards.
        """
        hidden = features.expand(len(self.weights[0]), *features.shape[-2:])
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if index == last:  # for a single output, product and sum take a seventh of the time of a matrix product
                break
            hidden = functional.leaky_relu(torch.baddbmm(bias, hidden, weight), self.negative_slope)
        rewards: Tensor = (hidden * weight.mT).sum(dim=-1) + bias.squeeze(-1)
        return rewards

    def squared_norm(self) -> Tensor:
        """Return each member's sum of squared weights without biases, (K,), for the L2 penalty."""
        return torch.stack([weight.square().sum(dim=(1, 2)) for weight in self.weights]).sum(dim=0)
