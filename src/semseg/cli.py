"""The commands: argv -> one call each. A command imports its room when it runs, so that none waits for another's."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from semseg.errors import ChannelError, SemsegError, UserError
from semseg.networks.definitions import BACKBONES
from semseg.sagemaker.channels import CHANNELS, SPLITS
from semseg.sagemaker.hyperparameters import rules
from semseg.sagemaker.paths import Paths
from semseg.version import __version__

_BACKBONES = tuple(one.name for one in BACKBONES)


def main(argv: Sequence[str] | None = None) -> int:
    """The command `semseg`; returns the exit code."""
    # A container's first process ignores the signal unless it is handled, and temporary files would stay.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except SemsegError as error:
        print(f"semseg: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a file that was named, and is not there or cannot be written
        print(f"semseg: {error}.", file=sys.stderr)
        return UserError.exit_code
    return code


def train() -> int:
    """The command `train`."""
    return main(["train", *sys.argv[1:]])


def serve() -> int:
    """The command `serve`."""
    return main(["serve", *sys.argv[1:]])


def _train(arguments: argparse.Namespace) -> int:
    from semseg.training.job_folder import Command
    from semseg.training.start import start

    channels = _options(arguments, CHANNELS)
    hyperparameters = _options(arguments, [rule.name for rule in rules()])
    command = Command(
        channels,
        hyperparameters,
        arguments.job,
        arguments.checkpoints,
        keep=not arguments.no_checkpoints,
        overwrite=arguments.overwrite,
        words=tuple(word for option in (channels | hyperparameters).items() for word in _words(*option)),
    )
    return start(command, os.environ)


def _check(arguments: argparse.Namespace) -> int:
    from semseg.data.given_places import named_as_given
    from semseg.reporting.data_report import as_json, as_text, require_new, write_label_map
    from semseg.training.recipe import check

    if arguments.write_label_map:
        require_new(arguments.write_label_map)
    with tempfile.TemporaryDirectory(prefix="semseg-") as scratch:
        paths = _job(arguments, Path(scratch))
        with named_as_given(paths, _options(arguments, CHANNELS)):
            _lay_out(arguments, paths)
            report = check(paths)
    print(json.dumps(as_json(report)) if arguments.json else as_text(report))
    if arguments.write_label_map:
        write_label_map(report, arguments.write_label_map)
        print(f"semseg: The label map is in {arguments.write_label_map}.", file=sys.stderr)
    return 1 if report.problems else 0


def _pipe(arguments: argparse.Namespace) -> int:
    from semseg.data.feeder import feed
    from semseg.data.manifest import list_manifest
    from semseg.data.report import Report
    from semseg.data.s3 import ObjectStore
    from semseg.sagemaker.log_lines import set_up_logging

    if arguments.epochs is not None and arguments.epochs < 1:
        raise UserError(f"--epochs is {arguments.epochs}.", "Give 1 or more, or leave it out.")
    set_up_logging()
    with ObjectStore() as store:
        listing = list_manifest(arguments.channel, arguments.manifest, store, arguments.label_attribute)
        Report((), listing.problems, ()).raise_problems()
        feed(listing.pairs, arguments.directory, arguments.channel, arguments.epochs)
    return 0


def _fetch_weights(arguments: argparse.Namespace) -> int:
    from semseg.networks.backbones import fetch_backbone
    from semseg.sagemaker.log_lines import set_up_logging

    set_up_logging()
    for backbone in arguments.backbones or _BACKBONES:
        print(fetch_backbone(backbone))
    return 0


def _import_weights(arguments: argparse.Namespace) -> int:
    from semseg.networks.store import models_folder
    from semseg.networks.timm import import_backbone

    print(import_backbone(arguments.file, arguments.out or models_folder()))
    return 0


def _serve(_: argparse.Namespace) -> int:
    from semseg.serving.server import serve

    return serve(os.environ)


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
        raise UserError(f"The model cannot be written: {error}.", "--out names another file.") from error
    print(*written, sep="\n")
    return 0


def _quantize(arguments: argparse.Namespace) -> int:
    from semseg.exporting.int8_folder import quantize_folder
    from semseg.sagemaker.log_lines import set_up_logging

    set_up_logging()
    try:
        gate = quantize_folder(arguments.directory, arguments.images, arguments.annotations, arguments.label_map)
    except OSError as error:
        raise UserError(f"The model cannot be written: {error}.") from error
    print(f"{'kept' if gate.passed else 'given up'}: {gate}")
    return 0 if gate.passed else 1


def _demo(arguments: argparse.Namespace) -> int:
    from semseg.data.shapes import write_shapes

    write_shapes(arguments.directory, train=48, validation=12, size=(128, 96), seed=0)
    return 0


def _overlay(arguments: argparse.Namespace) -> int:
    from semseg.reporting.overlay import write_overlay

    write_overlay(arguments.image, arguments.mask, arguments.out)
    return 0


def _job(arguments: argparse.Namespace, directory: Path) -> Paths:
    """The job that the platform laid out, or the one to be laid out from the options in `directory`."""
    return Paths(directory) if _options(arguments, CHANNELS) else Paths.from_environment(os.environ)


def _lay_out(arguments: argparse.Namespace, paths: Paths) -> None:
    from semseg.data.local_job import lay_out
    from semseg.data.s3 import ObjectStore

    channels = _options(arguments, CHANNELS)
    hyperparameters = _options(arguments, [rule.name for rule in rules()])
    if channels:
        with ObjectStore() as store:
            lay_out(paths, channels, hyperparameters, store)
    elif hyperparameters:
        raise ChannelError(f"--{_dashed(next(iter(hyperparameters)))} is given, but no channel.", "Give --train too.")


def _options(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, str]:
    """Those of the options that were given."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _words(name: str, value: str) -> list[str]:
    """An option as a shell would give it."""
    return [f"--{_dashed(name)}={value}"] if value.startswith("-") else [f"--{_dashed(name)}", value]


def _dashed(name: str) -> str:
    return name.lstrip("_").replace("_", "-")


def _add_job_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("a job outside SageMaker", "Folders, files or s3://bucket/prefix.")
    for name in CHANNELS:
        group.add_argument(f"--{_dashed(name)}", dest=name, metavar="PLACE", help=f"the channel {name}")
    group = command.add_argument_group("its hyperparameters")
    for rule in rules():
        group.add_argument(f"--{_dashed(rule.name)}", dest=rule.name, metavar="VALUE", help=rule.doc.replace("%", "%%"))


def _backbone(name: str) -> str:
    if name not in _BACKBONES:
        raise argparse.ArgumentTypeError(f"{name!r} is neither {' nor '.join(_BACKBONES)}")
    return name


def _add_weights_commands(commands: Any) -> None:
    command = commands.add_parser("fetch-weights", help="download GluonCV's pretrained backbones")
    command.set_defaults(run=_fetch_weights)
    command.add_argument("backbones", nargs="*", type=_backbone, help=f"{' or '.join(_BACKBONES)}; both by default")

    command = commands.add_parser("import-weights", help="make a pretrained backbone of timm's port of GluonCV's")
    command.set_defaults(run=_import_weights)
    command.add_argument("file", type=Path, help="model.safetensors of resnet50s.gluon_in1k or resnet101s.gluon_in1k")
    command.add_argument("--out", type=Path, metavar="DIR", help="where it goes (the models of $MXNET_HOME)")


def _add_job_commands(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="run the training job in /opt/ml, in $SAGEMAKER_BASE_DIR, or one made of options",
        allow_abbrev=False,
    )
    command.set_defaults(run=_train)
    command.add_argument("--job", type=Path, help="where model and output go (the next of ./job, ./job-2, ./job-3...)")
    command.add_argument("--overwrite", action="store_true", help="begin a new training though --job (./job) holds one")
    where = command.add_mutually_exclusive_group()
    where.add_argument(
        "--checkpoints", type=Path, metavar="DIR", help="where they go, and come from if there are any (in --job)"
    )
    where.add_argument("--no-checkpoints", action="store_true", help="keep none: a training cannot go on later")
    _add_job_options(command)

    command = commands.add_parser(
        "check", help="read all of a job's data and report on it, without training", allow_abbrev=False
    )
    command.set_defaults(run=_check)
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.add_argument("--write-label-map", type=Path, metavar="FILE", help="a new file for the label map proposed")
    _add_job_options(command)

    command = commands.add_parser("pipe", help="feed a job's Pipe mode from an augmented manifest, as SageMaker does")
    command.set_defaults(run=_pipe)
    command.add_argument("manifest", type=Path)
    command.add_argument("directory", type=Path, help="where the pipes go: the job's input/data")
    command.add_argument("--channel", choices=SPLITS, default="train")
    command.add_argument("--label-attribute", metavar="KEY", help="of the annotation, where lines have several")
    command.add_argument("--epochs", type=int, help="end after so many (else when told to)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="semseg", description="Train and serve semantic segmentation networks.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_job_commands(commands)
    _add_weights_commands(commands)

    command = commands.add_parser("serve", help="serve the model in /opt/ml/model on port 8080")
    command.set_defaults(run=_serve)

    command = commands.add_parser("export", help="write a trained network in another form: ONNX or MXNet's symbol")
    command.set_defaults(run=_export)
    command.add_argument("directory", type=Path, help="of the model: an unpacked model.tar.gz")
    command.add_argument("--format", choices=("onnx", "mxnet"), default="onnx")
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="(model.onnx, or model-symbol.json, in the directory)"
    )

    command = commands.add_parser(
        "quantize",
        help="write model_int8.onnx into a model directory, if it loses at most 0.5 points of mIOU",
        description="Some of the pictures calibrate, others, 100 at most, compare mIOU in int8 and in f32. Without "
        "annotations what f32 says is taken for the truth: that measures the agreement, not how right either is, and "
        "is the stricter gate. Exit code 1: it lost too much and was not kept.",
    )
    command.set_defaults(run=_quantize)
    command.add_argument("directory", type=Path, help="of the model: an unpacked model.tar.gz")
    command.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures as they will be served")
    command.add_argument("--annotations", type=Path, metavar="DIR", help="their masks")
    command.add_argument("--label-map", type=Path, metavar="FILE", help="(label_map.json among the annotations)")

    command = commands.add_parser("demo", help="write a small generated data set of discs, squares and triangles")
    command.add_argument("directory", type=Path, help="where the four directories of the channels go")
    command.set_defaults(run=_demo)

    command = commands.add_parser("overlay", help="lay the classes of a mask in colours over its picture")
    command.add_argument("image", type=Path)
    command.add_argument("mask", type=Path)
    command.add_argument("out", type=Path, help="the PNG file to write")
    command.set_defaults(run=_overlay)
    return parser
