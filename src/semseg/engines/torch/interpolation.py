"""Bilinear resizing with aligned corners, as two matrix products."""

from __future__ import annotations

import torch
from torch import Tensor


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """Return (N, C, h, w) stretched to (N, C, height, width), in float64 for float64, else in float32.

    Autocast has no say: in half precision the positions themselves would be rounded to eighths of a pixel. PyTorch's
    own bilinear gradient depends on the order of a GPU's threads, and is slow in bfloat16.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x.to(torch.promote_types(x.dtype, torch.float32), memory_format=torch.contiguous_format)
        rows, columns = _interpolation(x, x.shape[2], height), _interpolation(x, x.shape[3], width)
        return rows @ (x @ columns.T)


def _interpolation(x: Tensor, source: int, target: int) -> Tensor:
    """(target, source): the weight of each source position (column) in each target position: max(0, 1 - distance)."""
    places = torch.arange(source, device=x.device, dtype=x.dtype)
    scale = (source - 1) / max(target - 1, 1)
    wanted = torch.arange(target, device=x.device, dtype=x.dtype) * scale
    return (1 - (wanted[:, None] - places).abs()).clamp_(min=0)
