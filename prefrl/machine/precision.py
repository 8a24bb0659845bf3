"""Numerical precision of image networks."""

from __future__ import annotations

import functools

import torch


def image_precision(device: torch.device) -> torch.autocast:
    """Return an autocast context that uses bfloat16 on devices where that is faster than float32.

    Weights, losses and the optimiser stay in float32. On CPUs with native bfloat16, a gradient step takes about two
    thirds of the time. Other CPUs would emulate it, which is slower.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=_is_faster(device.type))


@functools.cache
def _is_faster(kind: str) -> bool:
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # missing in some versions
    return kind == "cpu" and bool(ask())
