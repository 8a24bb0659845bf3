"""Choose the device that torch computes on."""

from __future__ import annotations

import torch

from prefrl.errors import UsageError


def choose_device(device: str) -> str:
    """Return the name of the device, with `auto` resolved to `cuda` or `cpu`.

    Raises:
        UsageError: if `cuda` is requested and no GPU is available.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no GPU on this machine")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
