"""Colours for classes: the customary palettes of well-known data sets."""

from __future__ import annotations

import numpy as np

from semseg.codecs.colors import color_name
from semseg.types import Classes, UInt8

_CITYSCAPES = bytes.fromhex(
    "804080f423e846464666669cbe9999999999faaa1edcdc006b8e2398fb984682b4dc143cff000000008e000046003c640050640000e6770b20"
)
"""R, G, B of Cityscapes' 19 evaluated classes, road to bicycle (cityscapesScripts' labels.py, ordered by trainId)."""

_ADE20K = bytes.fromhex(
    "787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33ff06528fff8cccff04"
    "ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff08ffd607ffe0ffb8060aff47ff290a07ffff"
    "e0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff05990633ffeb0cffa0961400a3ff8c8c8cfa0a0f14ff001fff00ff1f00ffe000"
    "99ff000000ffff470000ebff00adff1f00ff0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff00"
    "0052ff00ff2900ffad0a00ffadff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc00ffc2"
    "00ff52000aff0070ff3300ff00c2ff007aff00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb0008b8aa8500ff00ff5cb800ff"
    "ff001f00b8ff00d6ffff00705cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00ff00a3ffcc00ff008f00ffeb85ff00ff00ebf500ff"
    "ff007afff5000abed4d6ff0000ccff1400ffffff000099ff0029ff00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cff"
    "b8ff000085ffffd60019c2c266ff005c00ff"
)
"""R, G, B of the 150 classes of ADE20K's scene parsing benchmark, wall to flag (its colour coding)."""

_LISTED = {"voc": b"", "ade20k": _ADE20K, "cityscapes": _CITYSCAPES}
NAMES = tuple(_LISTED)
MODEL = "model"
"""The palette of a model's own colours."""


def palette(name: str) -> UInt8:
    """Return a colour for each of the 256 labels: uint8 (256, 3). name: one of NAMES.

    Labels beyond the data set's classes have their colours in VOC's map.
    """
    colours = _voc()
    listed = np.frombuffer(_LISTED[name], np.uint8).reshape(-1, 3)
    colours[: len(listed)] = listed
    return colours


def chosen_palette(name: str, classes: Classes) -> UInt8:
    """Return a colour for each of the 256 labels: uint8 (256, 3). name: one of NAMES, or MODEL."""
    return model_palette(classes) if name == MODEL else palette(name)


def model_palette(classes: Classes) -> UInt8:
    """Return a colour for each of the 256 labels, uint8 (256, 3): that of the class, and where it has none, VOC's.

    If another class has VOC's colour of its id, it has one of VOC's that no class has.
    """
    colours = _voc()
    voc = [int.from_bytes(color.tobytes()) for color in colours]
    taken = set(classes.colors) - {None}
    spare = (voc[label] for label in range(256) if voc[label] not in taken and _has_color(classes, label))
    for label, own in enumerate(classes.colors):
        color = own if own is not None else next(spare) if voc[label] in taken else voc[label]
        colours[label] = tuple(color.to_bytes(3))
    return colours


def color_names(classes: Classes) -> list[str]:
    """Return the colour that `model_palette` gives each class, such as ``#2ca02c``."""
    return [color_name(int.from_bytes(colour.tobytes())) for colour in model_palette(classes)[: len(classes)]]


def _has_color(classes: Classes, label: int) -> bool:
    """Whether VOC's colour of a label is not needed for a class of that id."""
    return label >= len(classes) or classes.colors[label] is not None


def _voc() -> UInt8:
    """The colour map of PASCAL VOC, uint8 (256, 3): an id's bits are spread over the channels; class 0 is black."""
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colours
