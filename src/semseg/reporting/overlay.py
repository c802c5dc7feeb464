"""Writes images with their masks drawn over them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from semseg.codecs.conversion import decode_any, mask_to_png
from semseg.codecs.masks import decode_mask
from semseg.codecs.overlays import overlay
from semseg.codecs.palettes import palette
from semseg.data.decoding import require_same_size
from semseg.data.files import LocalFile, naming
from semseg.data.pairs import Pair


def write_overlay(image: Path, mask: Path, out: Path) -> None:
    """Writes the overlay of an image and its mask, files in the formats of `codecs.conversion`, as a PNG file.

    Raises DataError, which names the file, if one cannot be read or decoded, or if their sizes differ.
    """
    pair = Pair(LocalFile(image), LocalFile(mask))
    with naming(pair.image):
        pixels = decode_any(pair.image.read())
    with naming(pair.mask):
        labels = decode_mask(mask_to_png(pair.mask.read()))
    require_same_size(pair, (pixels.shape[0], pixels.shape[1]), labels.shape)
    Image.fromarray(overlay(pixels, labels, palette("voc"))).save(out, "PNG")
