"""Commands for trained models: `serve`, `export` and `quantize`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from semseg.cli.options import Commands
from semseg.cli.parser import one_of
from semseg.errors import UserError, os_reason

_MODEL = "the model directory: an unpacked model.tar.gz"


def add_serve(commands: Commands) -> None:
    """Adds `semseg serve`, which is also the command `serve` of the container."""
    parser = commands.add_parser("serve", help="serve the model in /opt/ml/model on port 8080")
    parser.set_defaults(run=_serve)


def _serve(_: argparse.Namespace) -> int:
    from semseg.serving.server import serve

    return serve(os.environ)


def add_export(commands: Commands) -> None:
    """Adds `semseg export`, which prints the files it has written."""
    parser = commands.add_parser("export", help="export a trained network to ONNX or an MXNet symbol")
    parser.set_defaults(run=_export)
    parser.add_argument("directory", type=Path, help=_MODEL)
    parser.add_argument("--format", type=one_of("onnx", "mxnet"), default="onnx", help="onnx or mxnet (default: onnx)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="(default: model.onnx or model-symbol.json in the directory)"
    )


def _export(arguments: argparse.Namespace) -> int:
    from semseg.artifact.model_dir import ONNX, describe
    from semseg.exporting.onnx_model import write_onnx
    from semseg.exporting.symbol import SYMBOL, write_symbol

    model = describe(arguments.directory)
    default = {"onnx": ONNX, "mxnet": f"model{SYMBOL}"}[arguments.format]
    written: list[Path] = [arguments.out or arguments.directory / default]
    try:
        if arguments.format == "onnx":
            write_onnx(model, written[0])
        else:
            written.append(write_symbol(model, written[0]))
    except OSError as error:
        raise UserError(f"The model cannot be written: {os_reason(error)}.", "Name another file with --out.") from error
    print(*written, sep="\n")
    return 0


def add_quantize(commands: Commands) -> None:
    """Adds `semseg quantize`, which exits with 1 if the int8 network loses too much and is discarded."""
    parser = commands.add_parser(
        "quantize",
        help="write model_int8.onnx into a model directory, if it loses at most 0.5 points of mIOU",
        description="Calibrates on some of the images, and compares the mIOU of int8 and f32 on at most 100 others. "
        "Without annotations the f32 predictions serve as ground truth: that measures agreement, not accuracy, and is "
        "the stricter test. Exit code 1: int8 lost too much and was discarded.",
    )
    parser.set_defaults(run=_quantize)
    parser.add_argument("directory", type=Path, help=_MODEL)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="images like those to be served")
    parser.add_argument("--annotations", type=Path, metavar="DIR", help="their masks")
    parser.add_argument("--label-map", type=Path, metavar="FILE", help="(default: label_map.json in the annotations)")


def _quantize(arguments: argparse.Namespace) -> int:
    from semseg.exporting.int8_folder import quantize_folder
    from semseg.sagemaker.log_lines import set_up_logging

    set_up_logging()
    try:
        gate = quantize_folder(arguments.directory, arguments.images, arguments.annotations, arguments.label_map)
    except OSError as error:
        raise UserError(f"The model cannot be written: {os_reason(error)}.") from error
    print(f"{'kept' if gate.passed else 'discarded'}: {gate}")
    return 0 if gate.passed else 1
