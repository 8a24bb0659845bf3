"""Where torch computes."""

from __future__ import annotations

import torch

from prefrl.errors import UsageError


def choose_device(device: str) -> str:
    """The device's name, with `auto` resolved.

    Raises:
        UsageError: if a GPU is asked for where there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: there is no GPU that torch can use here")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
