"""The commands: argv -> one call each. A command imports its room when it runs, so that none waits for another's."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from semseg import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """The command `semseg`; returns the exit code."""
    arguments = _parser().parse_args(argv)
    code: int = arguments.run(arguments)
    return code


def train() -> int:
    """The command `train`."""
    return main(["train", *sys.argv[1:]])


def serve() -> int:
    """The command `serve`."""
    return main(["serve", *sys.argv[1:]])


def _train(_: argparse.Namespace) -> int:
    from semseg.sagemaker.job import run_job
    from semseg.sagemaker.log_lines import set_up_logging
    from semseg.sagemaker.paths import Paths
    from semseg.training.run import train

    print("Docker entrypoint called with argument(s): train", flush=True)
    set_up_logging()
    paths = Paths.from_environment(os.environ)
    return run_job(lambda stop: train(paths, stop), paths)


def _serve(_: argparse.Namespace) -> int:
    from semseg.serving.server import serve

    return serve(os.environ)


def _demo(arguments: argparse.Namespace) -> int:
    from semseg.data.shapes import write_shapes

    write_shapes(arguments.directory, train=48, validation=12, size=(128, 96), seed=0)
    return 0


def _overlay(arguments: argparse.Namespace) -> int:
    from semseg.reporting.overlay import write_overlay

    write_overlay(arguments.image, arguments.mask, arguments.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="semseg", description="Train and serve semantic segmentation networks.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="run the training job in /opt/ml, or in $SAGEMAKER_BASE_DIR")
    command.set_defaults(run=_train)

    command = commands.add_parser("serve", help="serve the model in /opt/ml/model on port 8080")
    command.set_defaults(run=_serve)

    command = commands.add_parser("demo", help="write a small generated data set of discs, squares and triangles")
    command.add_argument("directory", type=Path, help="where the four directories of the channels go")
    command.set_defaults(run=_demo)

    command = commands.add_parser("overlay", help="lay the classes of a mask in colours over its picture")
    command.add_argument("image", type=Path)
    command.add_argument("mask", type=Path)
    command.add_argument("out", type=Path, help="the PNG file to write")
    command.set_defaults(run=_overlay)
    return parser
