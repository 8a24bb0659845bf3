"""Convert images to the input of a convolutional network."""

from __future__ import annotations

import torch
from torch import Tensor


def image_input(images: Tensor) -> Tensor:
    """Convert bytes to numbers in [0, 1], in the channels-last layout and the precision of the convolutions.

    The layout is changed on bytes, which is a quarter of the work, and nothing is copied twice.

    Args:
        images: (N, C, H, W) uint8.

    Returns:
        (N, C, H, W) float32, or bfloat16 under autocast.
    """
    halves = torch.is_autocast_enabled(images.device.type)
    laid_out = images.contiguous(memory_format=torch.channels_last)
    return laid_out.to(torch.bfloat16 if halves else torch.float32).div_(255)
