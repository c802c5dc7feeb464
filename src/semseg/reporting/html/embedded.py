"""Images as data URIs, which an HTML file holds itself."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semseg.reporting.html.samples import Sample
from semseg.types import IGNORED, UInt8

WRONG = "#d55e00"
"""The colour of wrong pixels, which people with any kind of colour blindness see on light and on dark ground."""

_RIGHT, _WRONG, _IGNORED = 0, 1, 2
_ERROR_COLOURS = bytes([0, 0, 0]) + bytes.fromhex(WRONG[1:]) + bytes([128, 128, 128])
_ERROR_ALPHA = bytes([0, 255, 90])
_QUALITY = 80
_HEAT = (38, 120, 214)


def photo(image: UInt8) -> str:
    """Returns an image, uint8 (H, W, 3), as a JPEG."""
    return _uri(Image.fromarray(image), "jpeg", quality=_QUALITY)


def labels(mask: UInt8, colours: UInt8) -> str:
    """Returns class ids, uint8 (H, W), as a PNG in their colours, uint8 (256, 3); ignored pixels are transparent."""
    return _paletted(mask, colours.tobytes(), bytes([255] * IGNORED + [0]))


def errors(found: Sample) -> str:
    """Returns a PNG of a sample's wrong pixels; right ones are transparent, ignored ones a transparent grey."""
    kinds = np.where(found.predicted != found.labels, _WRONG, _RIGHT)
    kinds = np.where(found.labels == IGNORED, _IGNORED, kinds).astype(np.uint8)
    return _paletted(kinds, _ERROR_COLOURS, _ERROR_ALPHA)


def heat_map(shares: NDArray[np.float64]) -> str:
    """Returns shares, (rows, columns), 0 to 1, as a PNG of one pixel each; 0 is transparent, small ones are visible."""
    pixels = np.empty((*shares.shape, 4), np.uint8)
    pixels[..., :3] = _HEAT
    pixels[..., 3] = np.round(255 * np.sqrt(shares))
    return _uri(Image.fromarray(pixels), "png")


def _paletted(values: UInt8, colours: bytes, alpha: bytes) -> str:
    image = Image.fromarray(values)
    image.putpalette(colours)
    return _uri(image, "png", transparency=alpha)


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
