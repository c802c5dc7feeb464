"""Lays out a job folder from the user's folders, files and S3 addresses, as SageMaker does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from semseg.data.arrangement import AS_CHANNELS, Arrangement, arrange
from semseg.data.class_names import FILES as CLASS_FILES
from semseg.data.label_map_files import LABEL_MAP_NAMES
from semseg.data.s3 import ObjectStore
from semseg.errors import ChannelError, UserError, one_line
from semseg.sagemaker.channels import readable, visible
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.paths import Paths

_MARK = ".laid-out-by-semseg"
_LABEL_MAP = "label_map"
_S3 = "s3://"


def lay_out(
    paths: Paths,
    channels: Mapping[str, str],
    hyperparameters: Mapping[str, str],
    store: ObjectStore,
    checkpoints: Path | None = None,
    arrangement: Arrangement = AS_CHANNELS,
) -> None:
    """Create the channels and write the hyperparameters of the job below `paths`.

    channels: the source of each channel by name: a folder, a file (an augmented manifest, a label map, a model.tar.gz)
    or ``s3://bucket/prefix``, whose objects are downloaded. Folders and files are linked, not copied. The job's
    ``input`` is recreated if an earlier call created it. checkpoints: their directory; None for no checkpoints.
    arrangement: how folders of images and masks differ from channels; see `arrange`.
    Raises ChannelError for a channel that does not exist or cannot be read, if ``input`` was not created by this
    function, or if the checkpoints would be inside it; DataError if S3 refuses; Stopped if the store's `stop` says so.
    """
    for name, source in channels.items():
        _require_source(name, source, _input(paths))
    if checkpoints and checkpoints.resolve().is_relative_to(_input(paths).resolve()):
        raise ChannelError(
            f"The checkpoints, {one_line(str(checkpoints))}, would be inside {one_line(str(_input(paths)))}, which is "
            "recreated.",
            "Choose another folder with --checkpoints.",
        )
    try:
        _make_input(paths, _description(channels, hyperparameters, arrangement), checkpoints)
        made = arrange(channels, paths.channel, arrangement, store.raise_if_stopped)
    except OSError as error:
        raise ChannelError(
            f"The job cannot be laid out in {one_line(str(paths.base)):.300}: {error.strerror}.",
            "Choose another folder.",
        ) from error
    for name, source in channels.items():
        if name in made:
            continue
        channel = paths.channel(name)
        channel.parent.mkdir(exist_ok=True)
        if source.startswith(_S3):
            channel.mkdir()
            store.download(source, channel)
        else:
            _link(Path(source), channel)
        if name == _LABEL_MAP and not channel.is_symlink():
            _give_known_name(channel)


def is_foreign(paths: Paths) -> bool:
    """Whether there is an ``input`` that `lay_out` did not create and will not replace."""
    directory = _input(paths)
    return directory.exists() and (directory.is_symlink() or not (directory / _MARK).is_file())


def is_laid_out_for(
    paths: Paths,
    channels: Mapping[str, str],
    hyperparameters: Mapping[str, str],
    arrangement: Arrangement = AS_CHANNELS,
) -> bool:
    """Whether `lay_out` was last called for this job with these channels, hyperparameters and arrangement."""
    try:
        return read_json_object(_input(paths) / _MARK) == _description(channels, hyperparameters, arrangement)
    except UserError:  # made by an earlier version, whose mark is empty
        return False


def _input(paths: Paths) -> Path:
    return paths.base / "input"


def places_of(channels: Mapping[str, str]) -> dict[str, str]:
    """The absolute path or S3 address of each channel's data, independent of the current folder."""
    return {
        name: source if source.startswith(_S3) else str(Path(source).resolve()) for name, source in channels.items()
    }


def _description(
    channels: Mapping[str, str], hyperparameters: Mapping[str, str], arrangement: Arrangement
) -> dict[str, dict[str, Any]]:
    arranged = {} if arrangement == AS_CHANNELS else {"arrangement": asdict(arrangement)}
    return {"channels": places_of(channels), "hyperparameters": dict(hyperparameters)} | arranged


def _require_source(name: str, source: str, directory: Path) -> None:
    """Raise ChannelError unless the source exists, outside the directory that is recreated."""
    if source.startswith(_S3):
        return
    with readable(name):
        exists = bool(source) and Path(source).exists()
    if not exists:
        raise ChannelError(
            f"The channel {name}: {one_line(source) or 'nothing'} does not exist.",
            "Give a folder, a file or s3://bucket/prefix.",
        )
    if Path(source).resolve().is_relative_to(directory.resolve()):
        raise ChannelError(
            f"The channel {name}: {one_line(source)} is inside {one_line(str(directory))}, which is recreated.",
            "Move it elsewhere, or choose another folder for the job.",
        )


def _make_input(paths: Paths, description: Mapping[str, Mapping[str, Any]], checkpoints: Path | None) -> None:
    """Create ``input`` with the configuration, replacing an earlier one; after a kill there is a whole one or none."""
    directory = _input(paths)
    if is_foreign(paths):
        raise ChannelError(
            f"{one_line(str(directory))} exists, but was not made by semseg.",
            "Choose another folder for the job, or set SAGEMAKER_BASE_DIR to run the job that is laid out in this one.",
        )
    new, old = (paths.base / f".semseg-input-{word}" for word in ("new", "old"))
    for left in (new, old):
        if left.exists():
            shutil.rmtree(left)  # removes links, not their targets
    config = new / paths.hyperparameters.parent.relative_to(directory)
    config.mkdir(parents=True)
    (new / _MARK).write_text(json.dumps(description))
    (config / paths.hyperparameters.name).write_text(json.dumps(description["hyperparameters"]))
    if checkpoints:
        place = checkpoints.resolve()
        content = {} if place == paths.checkpoints.resolve() else {"LocalPath": str(place)}
        (config / paths.checkpoint_config.name).write_text(json.dumps(content))
    if directory.exists():
        directory.rename(old)
    new.rename(directory)
    if old.exists():
        shutil.rmtree(old)


def _link(source: Path, channel: Path) -> None:
    """Link to a folder or file. A file keeps its name, without leading dots."""
    if source.is_dir():
        channel.symlink_to(source.resolve())
    else:
        channel.mkdir()
        (channel / visible_name(source)).symlink_to(source.resolve())


def visible_name(source: Path) -> str:
    """The name of a file without leading dots, as hidden files in a channel are ignored."""
    return source.name.lstrip(".") or source.name


def _give_known_name(label_maps: Path) -> None:
    """Rename a single file to the label map of all splits, unless it has the name of one, or of a file of names."""
    files = visible(label_maps)
    if len(files) == 1 and files[0].name not in (*LABEL_MAP_NAMES, *CLASS_FILES):
        files[0].rename(label_maps / LABEL_MAP_NAMES[-1])
