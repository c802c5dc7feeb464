"""Options shared by commands: a job outside SageMaker, a model, folders of images and masks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from semseg.cli.parser import Parser, fraction, local_folder, local_path
from semseg.errors import ChannelError, UserError
from semseg.sagemaker.channels import CHANNELS, SPLITS
from semseg.sagemaker.hyperparameters import faults, rules
from semseg.sagemaker.rules import Rule

MODEL = "the model: its folder, the folder of a job, or a model.tar.gz; also in S3"

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""The type that argparse's `add_subparsers` returns, to which a command adds its parser."""


FLAGS = ("overwrite", "no_checkpoints")
"""Options of a job without a value."""

_CHANNEL_HELP = {
    "train": "the images to train on, or an augmented manifest",
    "validation": "the images to validate on, or an augmented manifest",
    "train_annotation": "the masks of --train, a PNG of the same name for each image",
    "validation_annotation": "the masks of --validation",
    "label_map": "a JSON file, or a folder of them, that maps the masks' values or colours to classes",
    "model": "an earlier model to start from: a model.tar.gz or a folder",
    "test": "images to score the best model on, or an augmented manifest",
    "test_annotation": "the masks of --test",
}
_BASIC = (
    "num_classes",
    "algorithm",
    "backbone",
    "use_pretrained_model",
    "epochs",
    "learning_rate",
    "mini_batch_size",
    "validation_mini_batch_size",
    "base_size",
    "crop_size",
    "_device",
    "_engine",
    "_seed",
)
"""The hyperparameters that a first training is about, which `--help` lists first."""


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each channel and each hyperparameter, whose value is None unless given."""
    parser.usage = "%(prog)s [OPTION ...]"
    group = parser.add_argument_group("the data of a job outside SageMaker", "Folders, files or s3://bucket/prefix.")
    for name in CHANNELS:
        group.add_argument(option(name), dest=name, metavar="PLACE", help=_CHANNEL_HELP[name])
    group.add_argument(
        "--split",
        type=fraction,
        metavar="SHARE",
        help="use this share of the pairs of --train for validation, such as 0.2",
    )
    _add_suffix(group)
    group = parser.add_argument_group("hyperparameters")
    further = parser.add_argument_group("further hyperparameters")
    for rule in rules():
        (group if rule.name in _BASIC else further).add_argument(
            option(rule.name),
            dest=rule.name,
            metavar="|".join(rule.options) if rule.kind == "WORD" else rule.kind,
            help=_help(rule).replace("%", "%%"),
        )


def add_folders(parser: argparse.ArgumentParser, images: str, masks_required: bool) -> None:
    """Adds options for a folder of images, which `images` describes, for one of their masks, and how to read these."""
    parser.add_argument("--images", type=local_folder, required=True, metavar="DIR", help=images)
    parser.add_argument(
        "--annotations", type=local_folder, required=masks_required, metavar="DIR", help="a folder of their masks"
    )
    add_mask_options(parser, "label_map.json in their folder, or else that of the model's training")


def add_mask_options(
    parser: argparse.ArgumentParser, default_label_map: str = "label_map.json in their folder"
) -> None:
    """Adds options that say how a folder of masks is read."""
    parser.add_argument(
        "--label-map",
        type=local_path,
        metavar="FILE",
        help=f"a JSON file that maps the masks' values or colours to classes (default: {default_label_map})",
    )
    _add_suffix(parser)


def _add_suffix(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--suffix",
        default="",
        metavar="TEXT",
        help="what the names of masks have after those of their images, such as _L",
    )


def _help(rule: Rule) -> str:
    if rule.required:
        return f"{rule.doc} (required)"
    return f"{rule.doc} (default: {rule.default})" if rule.default is not None else rule.doc


def given_channels(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the locations of the given channels, by name."""
    return {name: value for name in CHANNELS if (value := getattr(arguments, name)) is not None}


def given_arrangement(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the text of the given options about how folders differ from channels, by name."""
    given = {"split": arguments.split, "suffix": arguments.suffix}
    return {name: str(value) for name, value in given.items() if value}


def require_splits(channels: Mapping[str, str], split: bool) -> None:
    """Raises ChannelError, with the options to give, if there is nothing to train on or nothing to validate on.

    split: whether a share of the training pairs is for validation. Images without annotations pass where they may be an
    augmented manifest, or in S3.
    """
    needed = SPLITS[:1] if split else SPLITS
    missing = [name for images in needed for name in _missing(images, channels)]
    if not missing or not (split or any(name in missing for name in needed)):
        return
    options = " and ".join(option(name) for name in missing)
    share = "" if split else "; or --split 0.2, which takes a fifth of the training pairs for validation"
    raise ChannelError(
        f"Missing required channel: {', '.join(missing)} (looked in the options).", f"Give {options}{share}."
    )


def _missing(images: str, channels: Mapping[str, str]) -> list[str]:
    place, masks = channels.get(images), f"{images}_annotation"
    if place is None:
        return [name for name in (images, masks) if name not in channels]
    return [] if masks in channels or place.startswith("s3://") or Path(place).is_file() else [masks]


def given_hyperparameters(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the text of the given hyperparameters, by name."""
    return {rule.name: value for rule in rules() if (value := getattr(arguments, rule.name)) is not None}


def require_valid(hyperparameters: Mapping[str, str]) -> None:
    """Raises UserError for all hyperparameters that are wrong, named by their options."""
    errors = faults(hyperparameters)
    if not errors:
        return
    lines = [
        f"{option(error.name)} {error.fault} {error.hint}".rstrip() if error.name else str(error) for error in errors
    ]
    raise UserError("\n".join(lines) if len(lines) == 1 else "\n- ".join([f"{len(lines)} options are wrong:", *lines]))


def option(name: str) -> str:
    """Returns a channel's or hyperparameter's option: ``--crop-size`` for ``crop_size``, ``--seed`` for ``_seed``."""
    return f"--{name.lstrip('_').replace('_', '-')}"


def option_with_value(name: str, value: str) -> list[str]:
    """Returns an option and its value as arguments, joined by ``=`` if the value looks like an option itself."""
    return [f"{option(name)}={value}"] if value.startswith("-") else [option(name), value]
