"""Assigns class ids to colours that have none: the same colours always get the same ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count

from semseg.codecs.colors import GREY, color_name
from semseg.codecs.palettes import palette
from semseg.types import IGNORED

_BLACK, _WHITE, _BORDER = 0x000000, 0xFFFFFF, 0xE0E0C0
_RARE = 0.05
_DATA_SETS = {"PASCAL VOC": "voc", "ADE20K": "ade20k", "Cityscapes": "cityscapes"}

Classes = dict[int, int]


def assign_class_ids(
    pixels: Mapping[int, int], known: Mapping[int, int], num_classes: int
) -> tuple[Classes, tuple[str, ...]]:
    """Class id or `IGNORED` for each colour, and notes on the choice, in sentences.

    pixels: the number of pixels of each colour; known: the classes of colours that have one. The other colours get the
    ids of a known data set if all are in its palette, else the free ids, in the order of their values (0xRRGGBB), if
    necessary beyond `num_classes`.
    """
    new = sorted(pixels.keys() - known.keys())
    classes, notes = (None if known else _from_data_set(new, num_classes)) or _in_order(new, pixels, known, num_classes)
    used = set(classes.values()) - {IGNORED}
    if len(used) < num_classes:
        notes.append(
            f"num_classes is {num_classes}, but there are colours for only {len(used)} classes: it may be too high."
        )
    elif max(used) >= num_classes:
        notes.append(
            f"num_classes is {num_classes}, but there are colours for {len(used)} classes: raise it to "
            f'{max(used) + 1}, or give a class several colours, as in "1": ["#2ca02c", "#98df8a"].'
        )
    return classes, tuple(notes)


def _from_data_set(colors: Sequence[int], num_classes: int) -> tuple[Classes, list[str]] | None:
    """The class ids of the first known data set whose palette has all colours, at least two of them classes."""
    for name, ids in _data_set_ids(num_classes):
        classes = {color: ids[color] for color in colors if color in ids}
        ignored = [color for color, class_id in classes.items() if class_id == IGNORED]
        if len(classes) == len(colors) >= len(ignored) + 2:
            notes = [f"The class ids are those of {name}."]
            return classes, [*notes, *(_ignoring(color, "it is no class there") for color in ignored)]
    return None


def _data_set_ids(num_classes: int) -> Iterator[tuple[str, Classes]]:
    """The name of each known data set with the class ids of its colours."""
    ids = [*range(num_classes), IGNORED]
    yield "the shades of grey", {class_id * GREY: class_id for class_id in ids}
    for name, key in _DATA_SETS.items():
        colours = palette(key) @ [1 << 16, 1 << 8, 1]
        yield name, {_BLACK: IGNORED} | {int(colours[class_id]): class_id for class_id in reversed(ids)}


def _in_order(
    new: Sequence[int], pixels: Mapping[int, int], known: Mapping[int, int], num_classes: int
) -> tuple[Classes, list[str]]:
    """The known classes, and free ids for the new colours in their order."""
    taken = set(known.values())
    free = [class_id for class_id in range(num_classes) if class_id not in taken]
    ignored, why = _ignored(new, pixels, len(free))
    ids = chain(free, count(num_classes))
    classes = {**known, **{color: IGNORED if color == ignored else next(ids) for color in new}}
    return classes, [] if ignored is None else [_ignoring(ignored, why)]


def _ignoring(color: int, why: str) -> str:
    return f"{color_name(color)} is proposed as 255 (ignored): {why}."


def _ignored(new: Sequence[int], pixels: Mapping[int, int], free: int) -> tuple[int | None, str]:
    """The colour that seems to belong to no class, if there is one, and the reason."""
    if _BORDER in new:
        return _BORDER, "it is the border in PASCAL VOC"
    if len(new) != free + 1:
        return None, ""
    few = _RARE * sum(pixels.values())
    rarest = min(new, key=lambda color: (pixels[color], color))
    why = "a guess, as there is one more colour than classes and "
    if _WHITE in new and pixels[_WHITE] < min(few, pixels.get(_BLACK, few)):
        return _WHITE, f"{why}white is rare, like a border"
    if _BLACK in new:
        return _BLACK, f"{why}black is often no class"
    if pixels[rarest] < few:
        return rarest, f"{why}this one is rare"
    return None, ""
