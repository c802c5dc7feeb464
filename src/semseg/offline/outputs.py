"""What `semseg predict` writes for an image; OUTPUTS is the one table of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from semseg.codecs.images import encode_image
from semseg.codecs.palettes import MODEL
from semseg.codecs.recordio import Buffer
from semseg.errors import UserError, os_reason
from semseg.files import replacing
from semseg.offline.model import Segmentation
from semseg.types import UInt8

_Encode = Callable[[Segmentation, str | None], Sequence[Buffer]]


@dataclass(frozen=True)
class Output:
    """A kind of file.

    ending: what takes the place of the image's suffix. what: the file in words. encode: returns its content, given the
    name of a palette or None. memory: the most bytes per pixel that this takes, besides the mask, for this number of
    classes.
    """

    ending: str
    what: str
    encode: _Encode
    memory: Callable[[int], int]


def _color(found: Segmentation, palette: str | None) -> Sequence[Buffer]:
    return [encode_image(_colours(found, palette)[found.mask])]


def _overlay(found: Segmentation, palette: str | None) -> Sequence[Buffer]:
    return [encode_image(found.overlay(_colours(found, palette)))]


def _colours(found: Segmentation, palette: str | None) -> UInt8:
    return found.model.palette(palette or MODEL)


OUTPUTS: Mapping[str, Output] = {
    "mask": Output(
        ".png", "class ids as a PNG file, in the colours of --palette if it is given", Segmentation.as_png, lambda _: 2
    ),
    "color": Output("_color.png", "the classes in colours as a PNG file", _color, lambda _: 12),
    "overlay": Output("_overlay.png", "the image with its classes in colours over it", _overlay, lambda _: 12),
    "npy": Output(
        ".npy",
        "the probability of each class, float32 (C, H, W)",
        lambda found, _: found.as_npy(),
        lambda classes: 4 * classes,
    ),
    "json": Output(
        ".json", "pixels, share and mean confidence of each class", lambda found, _: found.as_json(), lambda _: 8
    ),
}


@contextmanager
def writing_results(folder: Path) -> Iterator[None]:
    """Makes the folder for the results. Raises UserError for an OSError from that or in the block."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"The results cannot be written: {os_reason(error)}.", "Name another folder with --out."
        ) from error


def target(results: Path, image: PurePosixPath, output: Output) -> Path:
    """Returns the path of an image's output below the folder of the results: its own, with another ending."""
    return results / image.with_name(f"{image.stem}{output.ending}")


def write(
    found: Segmentation, results: Path, image: PurePosixPath, outputs: Sequence[Output], palette: str | None
) -> None:
    """Writes an image's outputs, each as a whole or not at all. Raises UserError, of which DiskFullError is one."""
    for output in outputs:
        path = target(results, image, output)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as file:
                file.writelines(output.encode(found, palette))
        except OSError as error:
            raise UserError(f"The result cannot be written: {os_reason(error)}.") from error
