"""Reward predictors: K networks of one shape, evaluated together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class StackedMLP(nn.Module):
    """K perceptrons whose weights lie in one array a layer, so that one batched product serves them all."""

    def __init__(self, members: int, inputs: int, hidden: Sequence[int], negative_slope: float) -> None:
        """Initialise each member independently, as `torch.nn.Linear` does.

        Args:
            members: K.
            inputs: F, features of a step.
            hidden: Units of each hidden layer.
            negative_slope: Of the leaky ReLU between layers.
        """
        super().__init__()
        self.negative_slope = negative_slope
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        widths = [inputs, *hidden, 1]
        for fan_in, fan_out in itertools.pairwise(widths):
            bound = 1 / math.sqrt(fan_in)
            self.weights.append(nn.Parameter(torch.empty(members, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.empty(members, 1, fan_out).uniform_(-bound, bound)))

    def forward(self, features: Tensor) -> Tensor:
        """Predict.

        Args:
            features: (N, F), the same for every member, or (K, N, F).

        Returns:
            (K, N) unnormalised rewards.
        """
        hidden = features.expand(len(self.weights[0]), *features.shape[-2:])
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if index == last:  # one output: a product and a sum take a seventh of a matrix product's time
                break
            hidden = functional.leaky_relu(torch.baddbmm(bias, hidden, weight), self.negative_slope)
        rewards: Tensor = (hidden * weight.mT).sum(dim=-1) + bias.squeeze(-1)
        return rewards

    def squared_norm(self) -> Tensor:
        """(K,) each member's sum of squared weights (biases apart), what the L2 penalty is on."""
        return torch.stack([weight.square().sum(dim=(1, 2)) for weight in self.weights]).sum(dim=0)
