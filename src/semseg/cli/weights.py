"""Commands for pretrained backbones: `fetch-weights` and `import-weights`."""

from __future__ import annotations

import argparse

from semseg.cli.options import Commands
from semseg.cli.parser import did_you_mean, local_path
from semseg.networks.definitions import BACKBONES

_BACKBONES = tuple(backbone.name for backbone in BACKBONES)


def add_fetch_weights(commands: Commands) -> None:
    """Adds `semseg fetch-weights`, which prints the paths of the downloaded files."""
    parser = commands.add_parser(
        "fetch-weights",
        help="download GluonCV's pretrained backbones",
        description="Downloads the backbones that a training with --use-pretrained-model True starts from into the "
        "folder models in $MXNET_HOME, by default ~/.mxnet, and prints their paths.",
    )
    parser.set_defaults(run=_fetch_weights)
    # Not `choices`, because with nargs="*" argparse would reject an empty list.
    parser.add_argument("backbones", nargs="*", type=_backbone, help=f"{' or '.join(_BACKBONES)}; both by default")


def _fetch_weights(arguments: argparse.Namespace) -> int:
    from semseg.networks.backbones import fetch_backbone
    from semseg.sagemaker.log_lines import set_up_logging

    set_up_logging()
    for backbone in arguments.backbones or _BACKBONES:
        print(fetch_backbone(backbone))
    return 0


def _backbone(name: str) -> str:
    if name not in _BACKBONES:
        raise argparse.ArgumentTypeError(
            f"{name!r} is neither {' nor '.join(_BACKBONES)}.{did_you_mean(name, _BACKBONES)}"
        )
    return name


def add_import_weights(commands: Commands) -> None:
    """Adds `semseg import-weights`, which prints the path of the written file."""
    parser = commands.add_parser(
        "import-weights",
        help="convert timm's port of GluonCV's pretrained backbones",
        description="Writes a backbone for --use-pretrained-model True from a file of timm, where `semseg "
        "fetch-weights` cannot download it, and prints its path.",
    )
    parser.set_defaults(run=_import_weights)
    parser.add_argument(
        "file", type=local_path, help="model.safetensors of resnet50s.gluon_in1k or resnet101s.gluon_in1k"
    )
    parser.add_argument(
        "--out", type=local_path, metavar="DIR", help="the output directory (default: models in $MXNET_HOME)"
    )


def _import_weights(arguments: argparse.Namespace) -> int:
    from semseg.networks.store import models_folder
    from semseg.networks.timm import import_backbone

    print(import_backbone(arguments.file, arguments.out or models_folder()))
    return 0
