"""Commands that generate and display data: `demo`, `browse` and `overlay`."""

from __future__ import annotations

import argparse
from pathlib import Path

from semseg.cli.options import Commands


def add_demo(commands: Commands) -> None:
    """Adds `semseg demo`."""
    parser = commands.add_parser("demo", help="generate a small data set of discs, squares and triangles")
    parser.set_defaults(run=_demo)
    parser.add_argument("directory", type=Path, help="where to write the four directories of the channels")


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
        description="Each image is shown beside its classes, in one file that loads nothing from the network.",
    )
    parser.set_defaults(run=_browse)
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("annotations", type=Path, help="a folder of their masks")
    parser.add_argument("--num-classes", type=_count, required=True, metavar="INTEGER", help="number of classes")
    parser.add_argument("--label-map", type=Path, metavar="FILE", help="(default: label_map.json in the annotations)")
    parser.add_argument("--suffix", default="", metavar="TEXT", help="the end of masks' names that images lack, as _L")
    parser.add_argument("--count", type=_count, default=48, metavar="INTEGER", help="the most images (default: 48)")
    parser.add_argument("--out", type=Path, default=Path("browse.html"), metavar="FILE", help="(default: browse.html)")


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < 6 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: it must be a number from 1 up.")
    return int(text)


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
    parser = commands.add_parser("overlay", help="draw the classes of a mask in colours over its image")
    parser.set_defaults(run=_overlay)
    parser.add_argument("image", type=Path)
    parser.add_argument("mask", type=Path)
    parser.add_argument("out", type=Path, help="the PNG file to write")


def _overlay(arguments: argparse.Namespace) -> int:
    from semseg.reporting.overlay import write_overlay

    write_overlay(arguments.image, arguments.mask, arguments.out)
    return 0
