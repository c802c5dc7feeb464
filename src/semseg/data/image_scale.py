"""Says at which share of the images' size a network is trained, and at which it will be served.

GluonCV's transform, which the built-in algorithm uses, resizes the long side to `base_size` x 0.5 to 2 before it crops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from semseg.data.report import SplitReport

_TRAIN = "train"
_SMALLEST, _LARGEST = 0.5, 2.0


def image_scale(splits: Sequence[SplitReport], base_size: int, at_base_size: bool) -> str:
    """Return one or two sentences; empty if the files of train are unknown, as from a pipe.

    at_base_size: whether the model will be served at `base_size`, rather than at the images' own size.
    """
    sizes = next((split.sizes for split in splits if split.name == _TRAIN and split.sizes), None)
    if sizes is None:
        return ""
    own, least, most = _median_side(sizes), int(base_size * _SMALLEST), int(base_size * _LARGEST)
    shares = f"{100 * least / own:.0f} to {100 * most / own:.0f} %"
    trained = (
        f"Training resizes images to a long side of {least} to {most} pixels (base_size {base_size} x 0.5 to 2), "
        f"{shares} of their own of {own} pixels"
    )
    if at_base_size:
        return f"{trained}; they are served with a long side of {base_size}."
    if least <= own <= most:
        return f"{trained}; they are served at their own size."
    return (
        f"{trained}; they are served at their own size, at which the network has not seen any. Results may be better "
        f"with _serving_scale=base, or a base_size near {own}."
    )


def _median_side(sizes: Mapping[tuple[int, int], int]) -> int:
    """The median of the images' long sides; sizes: the number of images by (width, height)."""
    sides = sorted((max(size), number) for size, number in sizes.items())
    half, seen = sum(sizes.values()) / 2, 0
    for side, number in sides:
        seen += number
        if seen >= half:
            return side
    raise AssertionError("there is no image")
