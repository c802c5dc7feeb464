"""The job's channels and hosts (R15, R20, R24, R41, R45; container-contract.md sections 1.4, 1.5, 1.7)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semseg.errors import ChannelError, UserError, first_few, one_line
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.paths import Paths

SPLITS = ("train", "validation")
ANNOTATIONS = ("train_annotation", "validation_annotation")
TEST = ("test", "test_annotation")
OPTIONAL = ("label_map", "model", *TEST)
CHANNELS = (*SPLITS, *ANNOTATIONS, *OPTIONAL)

_MANIFESTS = (".manifest", ".jsonl")


@dataclass(frozen=True)
class Split:
    """Where the pairs of ``train``, ``validation`` or ``test`` come from: one of three ways.

    annotation: the directory of the masks, when `images` is the directory of the pictures.
    manifest: the augmented manifest in the channel's directory.
    piped: whether they come through pipes named ``<images>_<epoch>``.
    """

    name: str
    images: Path
    annotation: Path | None
    manifest: Path | None
    piped: bool


@dataclass(frozen=True)
class Channels:
    """What the job was given. test: None without the channel."""

    train: Split
    validation: Split
    test: Split | None
    label_map: Path | None
    model: Path | None


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Make of an OSError the user's: a directory that may not be entered, a name that is too long.

    Raises ChannelError, which names the channel `name` and the place.
    """
    try:
        yield
    except OSError as error:
        raise ChannelError(
            f"The channel {name}: {one_line(str(error.filename)):.300} cannot be read: {error.strerror}.",
            "Check the name and the permissions.",
        ) from error


def visible(directory: Path) -> list[Path]:
    """The entries of a directory by name, without the hidden ones, such as the ``._`` files that macOS adds.

    Raises OSError.
    """
    return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def read_channels(paths: Paths) -> Channels:
    """The channels of the job, all in File or FastFile mode, train and validation in Pipe mode too.

    Raises ChannelError for a missing channel (naming all that are missing), an unknown channel, one that cannot be
    read, be it for its mode or record wrapper, and for more than one manifest in a channel.
    """
    config = read_json_object(paths.input_data_config)
    unknown = sorted(set(config) - set(CHANNELS))
    if unknown:
        raise ChannelError(
            f"Extraneous channel found: {first_few([one_line(name[:100]) for name in unknown])}.",
            f"The channels are {', '.join((*SPLITS, *ANNOTATIONS))} and, optionally, {', '.join(OPTIONAL)}.",
        )
    piped = _piped(config, paths.input_data_config)
    present = {name: paths.channel(name) for name in CHANNELS if _is_given(name, paths)}
    train, validation = (_split(name, name in piped, present, paths) for name in SPLITS)
    test = _split(TEST[0], False, present, paths) if any(name in present for name in TEST) else None
    missing = [name for split in (train, validation, test) if split for name in _missing(split, present)]
    if missing:
        raise ChannelError(
            f"Missing required channel: {', '.join(missing)} (looked in {paths.channel('')}).",
            f"Give all of {', '.join((*SPLITS, *ANNOTATIONS))}, one directory each, or put one augmented manifest "
            f"(*.manifest or *.jsonl) into each of {' and '.join(SPLITS)}; {' and '.join(TEST)} are optional.",
        )
    return Channels(train, validation, test, present.get("label_map"), present.get("model"))


def _is_given(name: str, paths: Paths) -> bool:
    with readable(name):
        return paths.channel(name).is_dir()


def _split(name: str, piped: bool, present: Mapping[str, Path], paths: Paths) -> Split:
    """How a split is given. Where there is a channel of annotations, a manifest beside the pictures is a stray file."""
    annotation = present.get(f"{name}_annotation")
    if piped and annotation:
        raise ChannelError(
            f"The channel {name} is in Pipe mode, which brings its annotations along, but there is {name}_annotation.",
            f"Leave the channel {name}_annotation out.",
        )
    if piped or annotation:
        return Split(name, paths.channel(name), annotation, None, piped)
    manifest = _find_manifest(present[name]) if name in present else None
    return Split(name, paths.channel(name), None, manifest, False)


def _missing(split: Split, present: Mapping[str, Path]) -> list[str]:
    """The channels that the split lacks; annotations come with a manifest or a pipe."""
    if split.piped:
        return []
    annotation = [] if split.annotation or split.manifest else [f"{split.name}_annotation"]
    return ([] if split.name in present else [split.name]) + annotation


def _piped(config: Mapping[str, Any], path: Path) -> set[str]:
    """The names of the channels in Pipe mode."""
    piped = set()
    for name, channel in config.items():
        if not isinstance(channel, dict):
            raise ChannelError(f"{path}: the channel {name} must be a JSON object, not {channel!r:.80}.")
        mode = channel.get("TrainingInputMode", "File")
        if mode not in ("File", "FastFile", "Pipe"):
            raise ChannelError(
                f"The channel {name} has TrainingInputMode {mode!r:.80}.", "Use the input mode File, FastFile or Pipe."
            )
        if mode == "Pipe":
            _require_pairs(name, channel)
            piped.add(name)
    return piped


def _require_pairs(name: str, channel: Mapping[str, Any]) -> None:
    """Raise ChannelError unless the records of a piped channel can be told apart, and are pictures with masks."""
    if name not in SPLITS:
        raise ChannelError(
            f"The channel {name} cannot be read in Pipe mode.",
            "In Pipe mode the channels train and validation carry pictures and masks, from an augmented manifest; "
            "the others take the input mode File.",
        )
    wrapper = channel.get("RecordWrapperType", "None")
    if wrapper != "RecordIO":
        raise ChannelError(
            f"The channel {name} is in Pipe mode with RecordWrapperType {wrapper!r:.80}.",
            "Set RecordWrapperType to RecordIO, S3DataType to AugmentedManifestFile and AttributeNames to the image's "
            'and the annotation\'s, such as ["source-ref", "city-streets-ref"].',
        )


def _find_manifest(directory: Path) -> Path | None:
    """The augmented manifest of a channel, which stands in its directory like any file; None if there is none."""
    with readable(directory.name):
        found = [path for path in visible(directory) if path.suffix.lower() in _MANIFESTS and path.is_file()]
    if len(found) > 1:
        names = first_few([ascii(path.name) for path in found])
        raise ChannelError(f"The channel {directory.name} has {len(found)} manifests: {names}.", "Leave one of them.")
    return found[0] if found else None


_GPU_INSTANCE = re.compile(r"ml\.(p|gr?)\d.*|local_gpu", re.IGNORECASE)
"""Instances with GPUs, such as ml.p3.2xlarge, ml.g4dn.xlarge and ml.gr6.4xlarge, and the SDKs' name for one."""


@dataclass(frozen=True)
class Hosts:
    """Which of the hosts of the job this is, and of what type, empty where nobody says so."""

    current: str
    instance_type: str = ""

    @property
    def gpu_instance(self) -> str:
        """The instance's type if such instances have GPUs, else empty."""
        return self.instance_type if _GPU_INSTANCE.fullmatch(self.instance_type) else ""


def read_hosts(paths: Paths) -> Hosts:
    """The host of the job, which is `algo-1` if the platform says nothing.

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
    return Hosts(current, _instance_type(config, current))


def _instance_type(config: Mapping[str, Any], host: str) -> str:
    """The type of the host's instance, of two places that are not documented: whatever else is there is none."""
    listed = config.get("instance_groups")
    groups = [group for group in listed if isinstance(group, dict)] if isinstance(listed, list) else []
    mine = [group for group in groups if isinstance(group.get("hosts"), list) and host in group["hosts"]]
    types = [config.get("current_instance_type"), *(group.get("instance_type") for group in mine)]
    return next((found for found in types if isinstance(found, str) and len(found) <= 100 and found.isprintable()), "")
