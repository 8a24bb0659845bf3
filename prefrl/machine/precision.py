"""The precision in which networks for images compute."""

from __future__ import annotations

import functools

import torch


def image_precision(device: torch.device) -> torch.autocast:
    """A context in which layers multiply in bfloat16, where the device does so faster than in float32.

    Weights, losses and the optimiser stay in float32. On a CPU that can, a gradient step takes about two thirds of the
    time; one that cannot would only emulate it.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=_is_faster(device.type))


@functools.cache
def _is_faster(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # not every version can tell
    return kind == "cpu" and bool(ask())
