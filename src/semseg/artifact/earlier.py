"""Loads the model of an earlier training, from which a new one starts: the channel `model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from semseg.artifact.archive import unpack
from semseg.artifact.misplaced import find_misplaced, is_packed_model
from semseg.artifact.model_dir import BEST, LAST, ModelDescription, describe
from semseg.codecs.params import read_params
from semseg.errors import ArtifactError, ChannelError, first_few, one_line
from semseg.sagemaker.channels import readable, visible
from semseg.types import Arrays, Classes


@dataclass(frozen=True)
class Earlier:
    """A model to start from.

    arrays: its parameters, read-only views of a mapped file; origin: that file, for errors; classes: their names and
    colours.
    """

    arrays: Arrays
    origin: str
    classes: Classes


def load_earlier(channel: Path, wanted: Mapping[str, str], scratch: Path) -> Earlier:
    """Load the model in the channel's directory; its best parameters are preferred to the last ones.

    The directory holds either one archive (*.tar.gz, *.tgz or *.tar), which is unpacked into `scratch`, an empty
    directory, or the files of one, model_best.params or model_algo-1 and hyperparams.json, which are used in place. A
    job's output.tar.gz and hidden files are ignored. `scratch` may be removed afterwards: mapped files stay readable.
    wanted: the new job's hyperparameters; backbone, algorithm, num_classes and, if the earlier model states it,
    crop_size must agree.

    Raises ChannelError if the directory holds several models or none, or if hyperparameters differ, naming all that do;
    ArtifactError if the model is damaged or not a model of this algorithm.
    """
    archive = _find_archive(channel)
    try:
        if archive:
            unpack(archive, scratch)
        model = describe(scratch if archive else channel)
        arrays = read_params(model.params)
    except ArtifactError as error:
        message = error.message.replace(str(scratch), one_line(str(archive)))  # a path the user knows
        raise ArtifactError(f"The channel {channel.name}: {message}", error.hint) from error
    origin = f"{one_line(str(archive))} ({model.params.name})" if archive else str(model.params)
    _check_agreement(wanted, model, f"the model in the channel {channel.name}")
    return Earlier(arrays, origin, model.classes)


def _find_archive(channel: Path) -> Path | None:
    """The one archive of the directory; None if it holds the files of a model instead."""
    with readable(channel.name):
        found = visible(channel)
        archives = [path for path in found if is_packed_model(path)]
        unpacked = [path for path in found if path.name in (BEST, LAST) and path.is_file()]
    if len(archives) + bool(unpacked) != 1:
        names = first_few([f"{path.name!r:.100}" for path in archives + unpacked or found])
        hint = (
            f"Give the model.tar.gz of a training job, or the files that were in it ({BEST}, hyperparams.json), alone."
        )
        if not archives and not unpacked:
            hint = find_misplaced(channel, (BEST, LAST)) or hint
        raise ChannelError(f"The channel {channel.name} must hold one model, but it holds {names}.", hint)
    return archives[0] if archives else None


def _check_agreement(wanted: Mapping[str, str], model: ModelDescription, owner: str) -> None:
    found = {"backbone": model.backbone.name, "algorithm": model.network.name}
    found |= {"crop_size": str(model.crop_size)} if model.crop_size is not None else {}
    found |= {"num_classes": str(model.num_classes)}
    differing = [name for name in found if found[name] != wanted[name]]
    if differing:
        faults = "; ".join(f"{name} is {wanted[name]}, but {owner} has {found[name]}" for name in differing)
        changes = " and ".join(f"{name} to {found[name]}" for name in differing)
        raise ChannelError(f"{faults}.", f"Set {changes}, or leave the channel out to train from the backbone.")
