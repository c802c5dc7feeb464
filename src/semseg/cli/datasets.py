"""Commands that generate and display data: `demo` and `overlay`."""

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
