"""Options shared by commands: those that describe a job outside SageMaker."""

from __future__ import annotations

import argparse
from typing import TypeAlias

from semseg.sagemaker.channels import CHANNELS
from semseg.sagemaker.hyperparameters import rules

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The type that argparse's `add_subparsers` returns, to which a command adds its parser."""


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Adds an option for each channel and each hyperparameter, whose value is None unless given."""
    group = parser.add_argument_group("a job outside SageMaker", "Folders, files or s3://bucket/prefix.")
    for name in CHANNELS:
        group.add_argument(option(name), dest=name, metavar="PLACE", help=f"the channel {name}")
    group = parser.add_argument_group("its hyperparameters")
    for rule in rules():
        group.add_argument(option(rule.name), dest=rule.name, metavar="VALUE", help=rule.doc.replace("%", "%%"))


def given_channels(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the locations of the given channels, by name."""
    return {name: value for name in CHANNELS if (value := getattr(arguments, name)) is not None}


def given_hyperparameters(arguments: argparse.Namespace) -> dict[str, str]:
    """Returns the text of the given hyperparameters, by name."""
    return {rule.name: value for rule in rules() if (value := getattr(arguments, rule.name)) is not None}


def option(name: str) -> str:
    """Returns a channel's or hyperparameter's option: ``--crop-size`` for ``crop_size``, ``--seed`` for ``_seed``."""
    return f"--{name.lstrip('_').replace('_', '-')}"


def option_with_value(name: str, value: str) -> list[str]:
    """Returns an option and its value as arguments, joined by ``=`` if the value looks like an option itself."""
    return [f"{option(name)}={value}"] if value.startswith("-") else [option(name), value]
