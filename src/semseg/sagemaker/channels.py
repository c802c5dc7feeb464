"""The job's channels and hosts (R15, R20, R24; container-contract.md sections 1.4, 1.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semseg.errors import ChannelError, UserError
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.paths import Paths

REQUIRED = ("train", "train_annotation", "validation", "validation_annotation")
OPTIONAL = ("label_map", "model")


@dataclass(frozen=True)
class Channels:
    """The directories of the channels."""

    train: Path
    train_annotation: Path
    validation: Path
    validation_annotation: Path
    label_map: Path | None


def read_channels(paths: Paths) -> Channels:
    """The channels of the job, in File or FastFile mode.

    Raises ChannelError for a missing channel (naming all that are missing), a mode that is not read, an unknown
    channel, or a `model` channel.
    """
    config = read_json_object(paths.input_data_config)
    _check_modes(config, paths.input_data_config)
    unknown = sorted(set(config) - set(REQUIRED) - set(OPTIONAL))
    if unknown:
        raise ChannelError(
            f"Extraneous channel found: {', '.join(unknown)}.",
            f"The channels are {', '.join(REQUIRED)} and, optionally, label_map.",
        )
    present = {name: paths.channel(name) for name in REQUIRED + OPTIONAL if paths.channel(name).is_dir()}
    missing = [name for name in REQUIRED if name not in present]
    if missing:
        raise ChannelError(
            f"Missing required channel: {', '.join(missing)} (looked in {paths.channel('')}).",
            f"Give all of {', '.join(REQUIRED)}, one directory each.",
        )
    if "model" in present or "model" in config:
        raise ChannelError(
            "The channel model (incremental training) is not supported yet.",
            "Leave the channel out: training then starts from the backbone, or from scratch.",
        )
    train, train_annotation, validation, validation_annotation = (present[name] for name in REQUIRED)
    return Channels(train, train_annotation, validation, validation_annotation, present.get("label_map"))


def _check_modes(config: Mapping[str, Any], path: Path) -> None:
    for name, channel in config.items():
        if not isinstance(channel, dict):
            raise ChannelError(f"{path}: the channel {name} must be a JSON object, not {channel!r:.80}.")
        mode = channel.get("TrainingInputMode", "File")
        if mode not in ("File", "FastFile"):
            raise ChannelError(
                f"The channel {name} has TrainingInputMode {mode!r:.80}, which is not supported yet.",
                "Use the input mode File or FastFile.",
            )


@dataclass(frozen=True)
class Hosts:
    """The hosts of the job and which of them this is."""

    current: str
    all: tuple[str, ...]


def read_hosts(paths: Paths) -> Hosts:
    """The hosts of the job; alone as `algo-1` if the platform says nothing.

    Raises UserError for more than one host: the algorithm trains on a single machine (R55).
    """
    config = read_json_object(paths.resource_config)
    current, hosts = config.get("current_host", "algo-1"), config.get("hosts", ["algo-1"])
    if not isinstance(current, str) or not isinstance(hosts, list):
        raise UserError(f"{paths.resource_config}: current_host must be a string and hosts a list.")
    if len(hosts) > 1:
        raise UserError(
            f"The job has {len(hosts)} hosts, but training runs on a single machine.",
            "Set InstanceCount to 1.",
        )
    return Hosts(current, tuple(str(host) for host in hosts))
