"""Save and restore the state of a torch optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prefrl.storage.files import Tree


def optimiser_state(optimiser: torch.optim.Optimizer) -> Tree:
    """Return the optimiser's state by parameter index."""
    return {str(index): dict(values) for index, values in optimiser.state_dict()["state"].items()}


def load_optimiser_state(optimiser: torch.optim.Optimizer, tree: Tree) -> None:
    """Restore a state from `optimiser_state`; the hyperparameters of the optimiser are kept."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state = {
        int(index): {name: _laid_out_as(parameters[int(index)], value) for name, value in values.items()}
        for index, values in tree.items()
    }
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _laid_out_as(parameter: Tensor, value: Any) -> Tensor:
    """Return the value as a tensor with the parameter's memory layout, which fused optimisers require."""
    tensor = torch.as_tensor(value)
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
