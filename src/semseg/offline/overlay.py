"""`semseg overlay`: an image with its mask drawn over it."""

from __future__ import annotations

from pathlib import Path

from semseg.codecs.conversion import decode_any, mask_to_png
from semseg.codecs.images import encode_image
from semseg.codecs.masks import decode_mask
from semseg.codecs.overlays import overlay
from semseg.codecs.palettes import palette
from semseg.data.decoding import require_same_size
from semseg.data.files import LocalFile, naming
from semseg.data.pairs import Pair
from semseg.errors import UserError, one_line, os_reason
from semseg.files import replacing


def write_overlay(image: Path, mask: Path, out: Path, colours: str = "voc") -> None:
    """Writes the overlay of an image and its mask, files in the formats of `codecs.conversion`, as a PNG file.

    colours: one of `palettes.NAMES`. Raises DataError, which names the file, if one cannot be read or decoded, or if
    their sizes differ; UserError if `out` is one of them or cannot be written. A file is written whole or not at all.
    """
    pair = Pair(LocalFile(image, given=str(image)), LocalFile(mask, given=str(mask)))
    with naming(pair.image):
        pixels = decode_any(pair.image.read())
    with naming(pair.mask):
        labels = decode_mask(mask_to_png(pair.mask.read()))
    require_same_size(pair, (pixels.shape[0], pixels.shape[1]), labels.shape)
    if any(out.exists() and out.samefile(source) for source in (image, mask)):
        raise UserError(
            f"{one_line(str(out))} is read, and would be overwritten.", "Name another file for the overlay."
        )
    try:
        with replacing(out) as temporary:
            temporary.write_bytes(encode_image(overlay(pixels, labels, palette(colours))))
    except OSError as error:
        raise UserError(f"The overlay cannot be written: {os_reason(error)}.", "Name another file.") from error
