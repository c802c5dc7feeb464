"""A job laid out from folders, files and S3 addresses of the user's, as the platform would have laid it out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from semseg.data.label_map import LABEL_MAP_NAMES
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
) -> None:
    """Fill the channels and write the hyperparameters of the job below `paths`.

    channels: by name, a folder, a file (an augmented manifest, a label map, a model.tar.gz) or ``s3://bucket/prefix``,
    whose objects are downloaded. Folders and files are linked to, not copied. The job's ``input`` is made anew if an
    earlier call made it. checkpoints: the directory for them; None for none.
    Raises ChannelError naming the channel that is not there or cannot be read, if ``input`` is somebody else's, or if
    the checkpoints are to lie in it; DataError for what S3 refuses; Stopped where the store is told to stop.
    """
    for name, source in channels.items():
        _require_source(name, source, _input(paths))
    if checkpoints and checkpoints.resolve().is_relative_to(_input(paths).resolve()):
        raise ChannelError(
            f"The checkpoints, {one_line(str(checkpoints))}, are to lie in {one_line(str(_input(paths)))}, which is "
            "made anew.",
            "Name another folder with --checkpoints.",
        )
    try:
        _make_input(paths, channels, hyperparameters, checkpoints)
    except OSError as error:
        raise ChannelError(
            f"The job cannot be laid out in {one_line(str(paths.base)):.300}: {error.strerror}.", "Name another folder."
        ) from error
    for name, source in channels.items():
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
    """Whether there is an ``input`` that `lay_out` has not made, and would leave alone."""
    directory = _input(paths)
    return directory.exists() and (directory.is_symlink() or not (directory / _MARK).is_file())


def is_laid_out_for(paths: Paths, channels: Mapping[str, str], hyperparameters: Mapping[str, str]) -> bool:
    """Whether `lay_out` was last called for this job with these channels and hyperparameters."""
    try:
        return read_json_object(_input(paths) / _MARK) == _told(channels, hyperparameters)
    except UserError:  # of an earlier version, which told nothing
        return False


def _input(paths: Paths) -> Path:
    return paths.base / "input"


def places_of(channels: Mapping[str, str]) -> dict[str, str]:
    """Where the data of each channel lies, whatever the current folder: an absolute path or an address in S3."""
    return {
        name: source if source.startswith(_S3) else str(Path(source).resolve()) for name, source in channels.items()
    }


def _told(channels: Mapping[str, str], hyperparameters: Mapping[str, str]) -> dict[str, dict[str, str]]:
    return {"channels": places_of(channels), "hyperparameters": dict(hyperparameters)}


def _require_source(name: str, source: str, directory: Path) -> None:
    """Raise ChannelError unless there is something to link to, outside the folder that is made anew."""
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
            f"The channel {name}: {one_line(source)} lies in {one_line(str(directory))}, which is made anew.",
            "Move it elsewhere, or name another folder for the job.",
        )


def _make_input(
    paths: Paths, channels: Mapping[str, str], hyperparameters: Mapping[str, str], checkpoints: Path | None
) -> None:
    """Make a folder with the configuration, in place of one that was made here. A kill leaves one of them, or none."""
    directory = _input(paths)
    if is_foreign(paths):
        raise ChannelError(
            f"{one_line(str(directory))} is there, but not from here.",
            "Name another folder for the job, or set SAGEMAKER_BASE_DIR to run the job that is laid out in this one.",
        )
    new, old = (paths.base / f".semseg-input-{word}" for word in ("new", "old"))
    for left in (new, old):
        if left.exists():
            shutil.rmtree(left)  # links are removed, not what they lead to
    config = new / paths.hyperparameters.parent.relative_to(directory)
    config.mkdir(parents=True)
    (new / _MARK).write_text(json.dumps(_told(channels, hyperparameters)))
    (config / paths.hyperparameters.name).write_text(json.dumps(dict(hyperparameters)))
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
    """Link to a folder or file. A file keeps the name that was given, without what would hide it."""
    if source.is_dir():
        channel.symlink_to(source.resolve())
    else:
        channel.mkdir()
        (channel / visible_name(source)).symlink_to(source.resolve())


def visible_name(source: Path) -> str:
    """What a file that was given is called in its channel, where a name that begins with a dot would be ignored."""
    return source.name.lstrip(".") or source.name


def _give_known_name(label_maps: Path) -> None:
    """A single file is the label map of train and validation alike, unless its name says otherwise."""
    files = visible(label_maps)
    if len(files) == 1 and files[0].name not in LABEL_MAP_NAMES:
        files[0].rename(label_maps / LABEL_MAP_NAMES[-1])
