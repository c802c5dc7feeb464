"""A job laid out from folders, files and S3 addresses of the user's, as the platform would have laid it out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from semseg.data.label_map import LABEL_MAP_NAMES
from semseg.data.s3 import ObjectStore
from semseg.errors import ChannelError, one_line
from semseg.sagemaker.channels import readable, visible
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
    Raises ChannelError naming the channel that is not there or cannot be read, or if ``input`` is somebody else's;
    DataError for what S3 refuses; Stopped where the store is told to stop.
    """
    directory = paths.base / "input"
    for name, source in channels.items():
        _require_source(name, source, directory)
    try:
        _make_input(directory)
        paths.hyperparameters.parent.mkdir()
        paths.hyperparameters.write_text(json.dumps(dict(hyperparameters)))
        if checkpoints:
            paths.checkpoint_config.write_text(json.dumps({"LocalPath": str(checkpoints.resolve())}))
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
            _link(Path(source).resolve(), channel)
        if name == _LABEL_MAP and not channel.is_symlink():
            _give_known_name(channel)


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


def _make_input(directory: Path) -> None:
    """Make an empty folder, in place of one that was made here."""
    if (directory / _MARK).is_file() and not directory.is_symlink():
        shutil.rmtree(directory)  # links are removed, not what they lead to
    if directory.exists():
        raise ChannelError(
            f"{one_line(str(directory))} is there, but not from here.",
            "Name another folder for the job, or set SAGEMAKER_BASE_DIR to run the job that is laid out in this one.",
        )
    directory.mkdir(parents=True)
    (directory / _MARK).touch()


def _link(source: Path, channel: Path) -> None:
    if source.is_dir():
        channel.symlink_to(source)
    else:
        channel.mkdir()
        (channel / source.name).symlink_to(source)


def _give_known_name(label_maps: Path) -> None:
    """A single file is the label map of train and validation alike, unless its name says otherwise."""
    files = visible(label_maps)
    if len(files) == 1 and files[0].name not in LABEL_MAP_NAMES:
        files[0].rename(label_maps / LABEL_MAP_NAMES[-1])
