"""The input of convolutional networks: images as bytes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BRIGHTEST = 255
"""The largest value of a pixel. Networks get numbers in [0, 1]; the weights are divided, as they are far fewer."""


def channels_last(images: Tensor) -> Tensor:
    """Lay (N, C, H, W) images out with the channels last in memory.

    On a CPU, a copy per channel takes less than half the time of torch's own copy.
    """
    if images.device.type != "cpu" or images.is_contiguous(memory_format=torch.channels_last):
        return images.contiguous(memory_format=torch.channels_last)
    laid_out = torch.empty_like(images, memory_format=torch.channels_last)
    for channel in range(images.shape[1]):
        laid_out[:, channel] = images[:, channel]
    return laid_out


def image_input(images: Tensor) -> Tensor:
    """Convert bytes to numbers in [0, 255], in the channels-last layout and the precision of the convolutions.

    The layout is changed on bytes, which is a quarter of the work.

    Args:
        images: (N, C, H, W) uint8.

    Returns:
        (N, C, H, W) float32, or bfloat16 under autocast. Both have all the values exactly.
    """
    halves = torch.is_autocast_enabled(images.device.type)
    return channels_last(images).to(torch.bfloat16 if halves else torch.float32)


class ImageConvolution(nn.Conv2d):
    """A network's first convolution. It sees pixels as numbers in [0, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (N, C, H, W) images: bytes, or numbers in [0, 1]."""
        if images.dtype != torch.uint8:
            return super().forward(images.contiguous(memory_format=torch.channels_last))
        return functional.conv2d(image_input(images), self.weight / BRIGHTEST, self.bias, self.stride)
