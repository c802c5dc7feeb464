"""Estimates the memory of a prediction, and divides the free memory between the network and requests.

The backend gives the bytes that the network's computation takes for each pixel of a tile.
"""

from __future__ import annotations

from semseg.inference.scaling import UNSCALED, Scale
from semseg.inference.tiling import SMALLEST_BUDGET, computed_pixels

_MAX_TILE_BYTES = 1600 << 20
"""The most bytes for a tile's computation, so that a server stays below 2.5 GB for any image."""

_MAX_GPU_TILE_PIXELS = 1 << 24
"""GPU libraries count an array's elements in 32 bits, and PSP's largest array has 64 of them per pixel."""

_HOST_BYTES_FOR_GPU = 24
"""Bytes per pixel that a tile for a GPU takes on the host: the normalised image, and a copy of it."""

_DECODING, _DECODED = 14, 3
"""Bytes per pixel: while an image is decoded (at most, Pillow's CMYK; 3 for a usual JPEG, 10 for PNG), and after."""

_BYTES_PER_SIDE = 32
"""Bytes for each row and each column, which matter in very narrow images: the positions of pixels among the logits, and
Pillow's pointers to its rows."""


def tile_pixels(free: int, bytes_per_pixel: int) -> int:
    """The pixels of a tile that takes at most half of the free bytes and _MAX_TILE_BYTES; at least SMALLEST_BUDGET."""
    return max(SMALLEST_BUDGET, min(free // 2, _MAX_TILE_BYTES) // bytes_per_pixel)


def divided(free: int, device: int | None, bytes_per_pixel: int, given: int = 0) -> tuple[int, int]:
    """Returns the pixels of a tile, and the host's free bytes that are left for requests, at least half of them.

    device: the free bytes of a GPU, half of which are for a tile, because cuDNN's workspaces, of up to 1 GiB, come on
    top; None where the host computes. given: the pixels of a tile; 0 for what memory allows.
    """
    if device is None:
        pixels, on_host = given or tile_pixels(free, bytes_per_pixel), bytes_per_pixel
    else:
        fitting = min(device // 2 // bytes_per_pixel, free // 2 // _HOST_BYTES_FOR_GPU, _MAX_GPU_TILE_PIXELS)
        pixels, on_host = given or max(SMALLEST_BUDGET, fitting), _HOST_BYTES_FOR_GPU
    return pixels, max(free - pixels * on_host, free // 2)


def request_bytes(num_classes: int, height: int, width: int, stride: int, answer: int, scale: Scale = UNSCALED) -> int:
    """Bytes that one image takes from decoding to answer, besides the network's computation on a tile.

    stride: the network's; answer: bytes per pixel of everything made from the logits; scale: the size at which the
    network gets the image.
    """
    logits = 4 * num_classes * computed_pixels(*scale.size(height, width), stride) // stride**2
    resizing = _DECODED * height * width + scale.memory(height, width)
    pixels = max(_DECODING * height * width, resizing, (_DECODED + answer) * height * width)
    return pixels + logits + _BYTES_PER_SIDE * (height + width)
