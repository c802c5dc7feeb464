"""Commands that generate and display data: `demo`, `browse` and `overlay`."""

from __future__ import annotations

import argparse
from pathlib import Path

from semseg.cli.options import Commands, add_mask_options
from semseg.cli.parser import integer, local_folder, local_path, one_of
from semseg.sagemaker.hyperparameters import MAX_CLASSES


def add_demo(commands: Commands) -> None:
    """Adds `semseg demo`."""
    parser = commands.add_parser(
        "demo",
        help="generate a small data set of discs, squares and triangles",
        description="Writes 48 images for training and 12 for validation, with their masks and the names of the four "
        "classes: a data set to try the other commands with.",
    )
    parser.set_defaults(run=_demo)
    parser.add_argument("directory", type=local_path, help="where to write the four directories of the channels")


def _demo(arguments: argparse.Namespace) -> int:
    from semseg.data.shapes import write_names, write_shapes

    write_shapes(arguments.directory, train=48, validation=12, size=(128, 96), seed=0)
    write_names(arguments.directory)
    return 0


def add_browse(commands: Commands) -> None:
    """Adds `semseg browse`, which exits with 1 if an image could not be shown."""
    parser = commands.add_parser(
        "browse",
        help="write a contact sheet of annotated images as HTML",
        description="Writes one HTML file, which loads nothing from the network, in which each image is shown beside "
        "its classes. An image that cannot be shown is listed, and the exit code is then 1.",
    )
    parser.set_defaults(run=_browse)
    parser.add_argument("images", type=local_folder, help="a folder of images")
    parser.add_argument("annotations", type=local_folder, help="a folder of their masks")
    parser.add_argument(
        "--num-classes", type=integer(1, MAX_CLASSES), required=True, metavar="INTEGER", help="number of classes"
    )
    add_mask_options(parser)
    parser.add_argument("--count", type=integer(1), default=48, metavar="INTEGER", help="the most images (default: 48)")
    parser.add_argument(
        "--out",
        type=local_path,
        default=Path("browse.html"),
        metavar="FILE",
        help="the file to write (default: browse.html)",
    )


def _browse(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from semseg.data.labelled_folder import open_labelled
    from semseg.offline.browse import browse
    from semseg.reporting.wrapping import say

    folder = open_labelled(
        arguments.images, arguments.annotations, arguments.label_map, arguments.num_classes, arguments.suffix
    )
    total = min(arguments.count, len(folder.pairs))
    with tqdm(total=total, unit="image", disable=None, leave=False) as bar:
        sheet = browse(folder, str(arguments.images), arguments.count, arguments.out, bar.update)
    for problem in sheet.problems:
        say(f"semseg: {problem}")
    print(arguments.out)
    return 1 if sheet.problems else 0


def add_overlay(commands: Commands) -> None:
    """Adds `semseg overlay`."""
    parser = commands.add_parser(
        "overlay",
        help="draw the classes of a mask in colours over its image",
        description="Writes the overlay of one image. `semseg browse` shows many, and masks of colours by a label map.",
    )
    parser.set_defaults(run=_overlay)
    parser.add_argument("image", type=local_path, help="an image")
    parser.add_argument("mask", type=local_path, help="its mask, a file of class ids")
    parser.add_argument("out", type=local_path, help="the PNG file to write")
    parser.add_argument(
        "--palette",
        type=_palette,
        default="voc",
        metavar="voc|ade20k|cityscapes",
        help="the colours of the classes (default: voc)",
    )


def _palette(text: str) -> str:
    """The `type` of an argument that is the name of a palette."""
    from semseg.codecs.palettes import NAMES

    return one_of(*NAMES)(text)


def _overlay(arguments: argparse.Namespace) -> int:
    from semseg.offline.overlay import write_overlay

    write_overlay(arguments.image, arguments.mask, arguments.out, arguments.palette)
    return 0
