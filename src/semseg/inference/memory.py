"""How much memory a prediction takes, and how the free memory is divided among networks' work and pictures.

What a network's computation takes for each pixel of a tile, its backend says.
"""

from __future__ import annotations

from semseg.inference.tiling import SMALLEST_BUDGET, computed_pixels

_MOST = 1600 << 20
"""Bytes for a tile's computation where memory is plentiful, so that a server stays below 2.5 GB for any picture."""

_LARGEST_ON_GPU = 1 << 24
"""Pixels of a tile on a GPU: its libraries count an array's numbers in 32 bits, and PSP's largest has 64 a pixel."""

_ON_THE_WAY = 24
"""Bytes per pixel that a tile for a GPU takes on the host: normalised, and a copy of that."""

_DECODING, _DECODED = 14, 3
"""Bytes per pixel: while a picture is decoded (Pillow's CMYK; 3 of a usual JPEG, 10 of PNG), and of its array."""

_PER_SIDE = 32
"""Bytes for each row and each column, which count in a picture of few rows or few columns: where its pixels lie among
the logits, and Pillow's pointers to its rows."""


def tile_pixels(free: int, bytes_per_pixel: int) -> int:
    """Pixels for whose computation half of the free bytes, and _MOST, are enough; SMALLEST_BUDGET at least."""
    return max(SMALLEST_BUDGET, min(free // 2, _MOST) // bytes_per_pixel)


def divided(free: int, device: int | None, bytes_per_pixel: int, given: int = 0) -> tuple[int, int]:
    """How many pixels a tile has, and how many of the host's free bytes are left for requests, at least half.

    device: bytes that are free on a GPU, of which half are for a tile's computation, for cuDNN's workspaces, of up to
    1 GiB, come on top; None where the host computes. given: the pixels of a tile; 0 for what memory allows.
    """
    if device is None:
        pixels, on_host = given or tile_pixels(free, bytes_per_pixel), bytes_per_pixel
    else:
        fitting = min(device // 2 // bytes_per_pixel, free // 2 // _ON_THE_WAY, _LARGEST_ON_GPU)
        pixels, on_host = given or max(SMALLEST_BUDGET, fitting), _ON_THE_WAY
    return pixels, max(free - pixels * on_host, free // 2)


def request_bytes(num_classes: int, height: int, width: int, stride: int, answer: int) -> int:
    """Bytes that one image takes from its decoding to its answer, without the network's work on a tile.

    stride: the network's; answer: bytes per pixel of what is made of the logits.
    """
    logits = 4 * num_classes * computed_pixels(height, width, stride) // stride**2
    return max(_DECODING, _DECODED + answer) * height * width + logits + _PER_SIDE * (height + width)
