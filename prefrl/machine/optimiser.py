"""An optimiser's state as a tree, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prefrl.storage.files import Tree


def optimiser_state(optimiser: torch.optim.Optimizer) -> Tree:
    """An optimiser's state as a tree: per parameter, by its index."""
    return {str(index): dict(values) for index, values in optimiser.state_dict()["state"].items()}


def load_optimiser_state(optimiser: torch.optim.Optimizer, tree: Tree) -> None:
    """Restore what `optimiser_state` gave; hyperparameters stay those the optimiser was made with."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state = {
        int(index): {name: _laid_out_as(parameters[int(index)], value) for name, value in values.items()}
        for index, values in tree.items()
    }
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _laid_out_as(parameter: Tensor, value: Any) -> Tensor:
    """The value as a tensor, laid out in memory as the parameter is: a fused optimiser pairs them place by place."""
    tensor = torch.as_tensor(value)
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
