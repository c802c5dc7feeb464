"""Draws a legend, the colours and names of the classes of a mask, into the corner of an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from semseg.types import UInt8

_SMALLEST, _LARGEST, _LINES = 10, 20, 24
"""The height of letters: the shorter side of the image divided by _LINES, but within these."""

_CHARACTERS = 40
_BACKGROUND, _TEXT, _EDGE = (32, 32, 32), (255, 255, 255), (128, 128, 128)


def draw_legend(image: UInt8, mask: UInt8, titles: Sequence[str], colours: UInt8) -> None:
    """Draw the legend of a mask, uint8 (H, W), over the upper left corner of its image, uint8 (H, W, 3), in place.

    It lists the classes that the mask contains, those with the most pixels first, as many as the height has place for.
    titles: what to call each class; colours: of each label, uint8 (256, 3). Letters that the font lacks are boxes.
    """
    height, width = mask.shape
    letter = min(max(min(height, width) // _LINES, _SMALLEST), _LARGEST)
    line, gap = letter + letter // 3, letter // 2
    pixels = np.array(Image.fromarray(mask).histogram()[: len(titles)])
    shown = [label for label in np.argsort(-pixels, kind="stable").tolist() if pixels[label]]
    shown = shown[: max(0, (height - gap) // line)]
    if not shown or width < 4 * letter:
        return
    font = ImageFont.load_default(letter)
    texts = [titles[label][:_CHARACTERS] for label in shown]
    widest = max(int(font.getlength(text)) for text in texts) + 1
    box = Image.new("RGB", (min(width, letter + 3 * gap + widest), line * len(shown) + gap), _BACKGROUND)
    draw = ImageDraw.Draw(box)
    for row, (label, text) in enumerate(zip(shown, texts, strict=True)):
        top = gap // 2 + row * line + letter // 6
        color = tuple(colours[label].tolist())
        draw.rectangle((gap, top, gap + letter - 1, top + letter - 1), fill=color, outline=_EDGE)
        draw.text((letter + 2 * gap, top + letter // 2), text, fill=_TEXT, font=font, anchor="lm")
    image[: box.height, : box.width] = np.asarray(box)[:height]
