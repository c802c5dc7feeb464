"""Commands for trained models: `serve`, `info`, `export` and `quantize`."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from semseg.cli.options import MODEL, Commands, add_folders
from semseg.cli.parser import integer, local_path, location, one_of
from semseg.errors import UserError, one_line, os_reason


def add_serve(commands: Commands) -> None:
    """Adds `semseg serve`, which is also the command `serve` of the container."""
    parser = commands.add_parser(
        "serve",
        help="serve a model over HTTP, by default the one in /opt/ml/model on port 8080",
        description="Answers requests over HTTP until it is stopped. Without a model it serves the one in "
        "/opt/ml/model, or below $SAGEMAKER_BASE_DIR, as in the container. Environment variables set the rest; "
        "src/semseg/serving/README.md lists them.",
    )
    parser.set_defaults(run=_serve)
    parser.add_argument("model", nargs="?", type=location, help=MODEL)
    parser.add_argument(
        "--host", help="the address to listen on (default: 127.0.0.1 with a model, else all addresses, 0.0.0.0)"
    )
    parser.add_argument(
        "--port", type=integer(1, 65535), help="the port to listen on (default: $SAGEMAKER_BIND_TO_PORT or 8080)"
    )


def _serve(arguments: argparse.Namespace) -> int:
    from semseg.serving.server import ServeCommand, serve

    command = ServeCommand(host=arguments.host, port=arguments.port)
    if arguments.model is None:
        return serve(os.environ, command)
    from semseg.offline.located import located, name_of

    with located(arguments.model) as directory:
        named = replace(command, model=directory, origin=name_of(directory, arguments.model))
        return serve(os.environ, named)


def add_info(commands: Commands) -> None:
    """Adds `semseg info`, which describes a model."""
    parser = commands.add_parser(
        "info",
        help="say what a trained model is: network, classes, files",
        description="Reads the files of a model, and prints its network, the sizes for which it was trained, the names "
        "and colours of its classes, and its files with their sizes.",
    )
    parser.set_defaults(run=_info)
    parser.add_argument("model", type=location, help=MODEL)
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _info(arguments: argparse.Namespace) -> int:
    import json

    from semseg.artifact.model_dir import describe, files_of_model
    from semseg.codecs.colors import color_name
    from semseg.offline.located import located

    with located(arguments.model) as directory:
        model = describe(directory)
        sizes = {name: (directory / name).stat().st_size for name in files_of_model(directory)}
        colours = (None if color is None else color_name(color) for color in model.classes.colors)
        content = {
            "algorithm": model.network.name,
            "backbone": model.backbone.name,
            "crop_size": model.crop_size,
            "base_size": model.base_size,
            "scale": model.serving_scale,
            "classes": [
                {"id": number, "name": name, "color": color}
                for number, (name, color) in enumerate(zip(model.classes.titles, colours, strict=True))
            ],
            "label_maps": dict(model.label_maps),
            "served": model.params.name,
            "sha256": model.digest,
            "files": sizes,
        }
    print(json.dumps(content, indent=1) if arguments.json else _as_text(content))
    return 0


def _as_text(content: dict[str, Any]) -> str:
    import json

    rows = [
        ("network", f"{content['algorithm']} on {content['backbone']}"),
        ("crop size", content["crop_size"] or "unknown"),
        ("base size", content["base_size"] or "unknown"),
        ("scale", content["scale"]),
        *(("label map", f"{split}: {json.dumps(source)}") for split, source in content["label_maps"].items()),
        ("served", f"{content['served']}, SHA-256 {content['sha256']}"),
        *(("file", f"{name}, {size / 1e6:.1f} MB") for name, size in content["files"].items()),
        *(("class", _class_as_text(one)) for one in content["classes"]),
    ]
    return "\n".join(f"{name:<10} {value}".rstrip() for name, value in rows)


def _class_as_text(one: dict[str, Any]) -> str:
    from semseg.types import unnamed

    name = "" if one["name"] == unnamed(one["id"]) else one_line(one["name"])
    return " ".join(filter(None, [f"{one['id']:3}", name, one["color"]]))


def add_export(commands: Commands) -> None:
    """Adds `semseg export`, which prints the files it has written."""
    parser = commands.add_parser(
        "export",
        help="export a trained network to ONNX or an MXNet symbol",
        description="Writes the network of a model with its best parameters as one ONNX file, or as MXNet's symbol and "
        "parameters, and prints the paths of the files.",
    )
    parser.set_defaults(run=_export)
    parser.add_argument("directory", metavar="model", type=location, help=MODEL)
    parser.add_argument(
        "--format",
        type=one_of("onnx", "mxnet"),
        default="onnx",
        metavar="onnx|mxnet",
        help="what to write (default: onnx)",
    )
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="the file to write (default: model.onnx or model-symbol.json in the folder)",
    )


def _export(arguments: argparse.Namespace) -> int:
    from semseg.artifact.model_dir import ONNX, describe
    from semseg.exporting.onnx_model import write_onnx
    from semseg.exporting.symbol import SYMBOL, write_symbol
    from semseg.offline.located import located

    with located(arguments.directory) as directory:
        if not arguments.out and not Path(arguments.directory).is_dir():
            raise UserError("A packed model has no folder to write into.", "Name a file with --out.")
        model = describe(directory)
        default = {"onnx": ONNX, "mxnet": f"model{SYMBOL}"}[arguments.format]
        written: list[Path] = [arguments.out or directory / default]
        try:
            if arguments.format == "onnx":
                write_onnx(model, written[0])
            else:
                written.append(write_symbol(model, written[0]))
        except OSError as error:
            raise UserError(
                f"The model cannot be written: {os_reason(error)}.", "Name another file with --out."
            ) from error
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
    parser.add_argument(
        "directory", metavar="model", type=local_path, help="the model: its folder, or the folder of a job"
    )
    add_folders(parser, "a folder of images like those to be served", masks_required=False)


def _quantize(arguments: argparse.Namespace) -> int:
    from semseg.artifact.locate import model_directory
    from semseg.exporting.int8_folder import quantize_folder
    from semseg.sagemaker.log_lines import set_up_logging

    if arguments.directory.is_file():
        archive = str(arguments.directory)
        unpacking = f"mkdir model && tar -xf {shlex.quote(archive)} -C model"
        raise UserError(
            f"{one_line(archive)} is packed, and int8 is written beside the other files of a model.",
            f"Unpack it into a folder, and give that: {one_line(unpacking)}.",
        )
    if not arguments.annotations and (arguments.label_map or arguments.suffix):
        raise UserError("--label-map and --suffix are about masks, and there are none.", "Give --annotations too.")
    set_up_logging()
    try:
        with model_directory(arguments.directory) as directory:
            masks = arguments.annotations, arguments.label_map, arguments.suffix
            gate = quantize_folder(directory, arguments.images, *masks)
    except OSError as error:
        raise UserError(f"The model cannot be written: {os_reason(error)}.") from error
    print(f"{'kept' if gate.passed else 'discarded'}: {gate}")
    return 0 if gate.passed else 1
