"""The job's channels, as SageMaker describes them in its configuration files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from semseg.errors import ChannelError, first_few, one_line
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
    """Where the pairs of ``train``, ``validation`` or ``test`` come from, in one of three ways.

    annotation: the directory of the masks, if `images` is the directory of the images.
    manifest: the augmented manifest in the channel's directory.
    piped: whether they come through pipes named ``<images>_<epoch>``.
    sharded: whether each host has other pairs (ShardedByS3Key), rather than all.
    """

    name: str
    images: Path
    annotation: Path | None
    manifest: Path | None
    piped: bool
    sharded: bool = False


@dataclass(frozen=True)
class Channels:
    """The job's channels. test, label_map, model: None if not given."""

    train: Split
    validation: Split
    test: Split | None
    label_map: Path | None
    model: Path | None


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Turns an OSError, such as a denied permission or too long a name, into a ChannelError.

    The error names the channel `name` and the path.
    """
    try:
        yield
    except OSError as error:
        raise ChannelError(
            f"The channel {name}: {one_line(str(error.filename)):.300} cannot be read: {error.strerror}.",
            "Check the name and the permissions.",
        ) from error


def visible(directory: Path) -> list[Path]:
    """Returns a directory's entries by name, without hidden ones such as the ``._`` files that macOS adds.

    Raises OSError.
    """
    return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def read_channels(paths: Paths) -> Channels:
    """Returns the job's channels: all may be in File or FastFile mode, train and validation also in Pipe mode.

    Raises ChannelError for missing channels (naming all of them), an unknown channel, an unsupported input mode or
    record wrapper, an unreadable directory, and more than one manifest in a channel.
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
    splits = (_split(name, name in piped, present, paths) for name in SPLITS)
    train, validation = (replace(split, sharded=_is_sharded(config.get(split.name))) for split in splits)
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
    """Returns where a split comes from. With a channel of annotations, a manifest among the images is ignored."""
    annotation = present.get(f"{name}_annotation")
    if piped and annotation:
        raise ChannelError(
            f"The channel {name} is in Pipe mode, which delivers the annotations too, but {name}_annotation is given.",
            f"Leave out the channel {name}_annotation.",
        )
    if piped or annotation:
        return Split(name, paths.channel(name), annotation, None, piped)
    manifest = _find_manifest(present[name]) if name in present else None
    return Split(name, paths.channel(name), None, manifest, False)


def _missing(split: Split, present: Mapping[str, Path]) -> list[str]:
    """Returns the channels that the split lacks; a manifest or pipe provides annotations too."""
    if split.piped:
        return []
    annotation = [] if split.annotation or split.manifest else [f"{split.name}_annotation"]
    return ([] if split.name in present else [split.name]) + annotation


def _is_sharded(channel: Any) -> bool:
    return isinstance(channel, dict) and channel.get("S3DistributionType") == "ShardedByS3Key"


def _piped(config: Mapping[str, Any], path: Path) -> set[str]:
    """Returns the names of the channels in Pipe mode. Raises ChannelError for an invalid configuration."""
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
    """Raises ChannelError unless a channel in Pipe mode delivers images with masks, as RecordIO records."""
    if name not in SPLITS:
        raise ChannelError(
            f"The channel {name} cannot be read in Pipe mode.",
            "Use Pipe mode only for train and validation, with images and masks from an augmented manifest; use the "
            "input mode File for the others.",
        )
    wrapper = channel.get("RecordWrapperType", "None")
    if wrapper != "RecordIO":
        raise ChannelError(
            f"The channel {name} is in Pipe mode with RecordWrapperType {wrapper!r:.80}.",
            "Set RecordWrapperType to RecordIO, S3DataType to AugmentedManifestFile and AttributeNames to the image's "
            'and the annotation\'s, such as ["source-ref", "city-streets-ref"].',
        )


def _find_manifest(directory: Path) -> Path | None:
    """Returns the augmented manifest in a channel's directory; None if there is none."""
    with readable(directory.name):
        found = [path for path in visible(directory) if path.suffix.lower() in _MANIFESTS and path.is_file()]
    if len(found) > 1:
        names = first_few([ascii(path.name) for path in found])
        raise ChannelError(
            f"The channel {directory.name} has {len(found)} manifests: {names}.", "Keep only one of them."
        )
    return found[0] if found else None
