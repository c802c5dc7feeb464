"""What commands share: where they are added, and the options that describe a job outside SageMaker."""

from __future__ import annotations

import argparse
from typing import TypeAlias

from semseg.sagemaker.channels import CHANNELS
from semseg.sagemaker.hyperparameters import rules

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""Where a command adds its parser: what argparse's `add_subparsers` returns."""


def add_job_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each channel and each hyperparameter; the value of one that is not given is None."""
    group = parser.add_argument_group("a job outside SageMaker", "Folders, files or s3://bucket/prefix.")
    for name in CHANNELS:
        group.add_argument(option(name), dest=name, metavar="PLACE", help=f"the channel {name}")
    group = parser.add_argument_group("its hyperparameters")
    for rule in rules():
        group.add_argument(option(rule.name), dest=rule.name, metavar="VALUE", help=rule.doc.replace("%", "%%"))


def given_channels(arguments: argparse.Namespace) -> dict[str, str]:
    """The places of the channels that were given, by the channel's name."""
    return {name: value for name in CHANNELS if (value := getattr(arguments, name)) is not None}


def given_hyperparameters(arguments: argparse.Namespace) -> dict[str, str]:
    """The hyperparameters that were given, by name, as text."""
    return {rule.name: value for rule in rules() if (value := getattr(arguments, rule.name)) is not None}


def option(name: str) -> str:
    """The option of a channel or hyperparameter: ``--crop-size`` for ``crop_size``, ``--seed`` for ``_seed``."""
    return f"--{name.lstrip('_').replace('_', '-')}"


def option_with_value(name: str, value: str) -> list[str]:
    """An option and its value as arguments: joined into one by ``=`` if the value looks like an option itself."""
    return [f"{option(name)}={value}"] if value.startswith("-") else [option(name), value]
