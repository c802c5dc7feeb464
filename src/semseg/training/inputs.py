"""Turns the job's channels into what training reads: pairs of files, label maps, class names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from semseg.artifact.model_dir import BASE
from semseg.data.check import check
from semseg.data.color_maps import contradictions
from semseg.data.image_scale import image_scale
from semseg.data.label_map import LabelMap
from semseg.data.label_map_files import find_label_map
from semseg.data.loader import TrainingLoader, ValidationLoader
from semseg.data.manifest import list_manifest
from semseg.data.pairs import Listing, Pair, list_pairs
from semseg.data.pipe_loader import PipeTrainingLoader, PipeValidationLoader
from semseg.data.report import Report, SplitReport
from semseg.data.s3 import ObjectStore
from semseg.data.samples import Sampler
from semseg.data.shares import Share
from semseg.errors import DataError, HyperparameterError, Stopped
from semseg.sagemaker.channels import Channels, Split
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.feed import FedTraining, FedValidation, Feed
from semseg.training.loop import TrainingData, ValidationData
from semseg.training.ranks import ONE_RANK, Ranks
from semseg.types import Batch, Classes


@dataclass(frozen=True)
class Input:
    """A split: ``train``, ``validation`` or ``test``. listing: its pairs; None in Pipe mode."""

    split: Split
    listing: Listing | None
    label_map: LabelMap

    @property
    def classes(self) -> Classes:
        """The names and colours of the classes, from the label map, files beside it or the annotations, or Ground
        Truth."""
        return self.listing.classes(self.label_map) if self.listing else self.label_map.classes


def require_files(channels: Channels, settings: Hyperparameters) -> None:
    """Raises HyperparameterError if a setting requires reading images twice, but a pipe delivers them."""
    if settings.quantize and (channels.train.piped or channels.validation.piped):
        raise HyperparameterError(
            "_quantize=True needs the channels train and validation in File mode: it reads images again.",
            "Leave it out, and run `semseg quantize` on the artifact.",
        )
    if settings.class_weights == "auto" and channels.train.piped:
        raise HyperparameterError(
            "_class_weights=auto needs the channel train in File mode: it counts the pixels of each class beforehand.",
            "Give a number for each class, such as those that `semseg check` suggests.",
        )


def open_inputs(
    channels: Channels, num_classes: int, store: ObjectStore, label_attribute: str | None = None
) -> tuple[Input, Input]:
    """Lists the files of train and validation and finds their label maps; `check_inputs` validates the files.

    label_attribute: the key of the annotation, for manifests with several.
    Raises DataError for a label map or a manifest that cannot be read.
    """
    splits = (channels.train, channels.validation)
    train, validation = (_open(split, channels, num_classes, store, label_attribute) for split in splits)
    return train, validation


def open_test(
    channels: Channels, num_classes: int, store: ObjectStore, label_attribute: str | None = None
) -> Input | None:
    """Like `open_inputs`, for the channel test; returns None if the job does not have it."""
    return _open(channels.test, channels, num_classes, store, label_attribute) if channels.test else None


def _open(split: Split, channels: Channels, num_classes: int, store: ObjectStore, label_attribute: str | None) -> Input:
    listing = None
    if split.manifest:
        listing = list_manifest(split.name, split.manifest, store, label_attribute)
    elif split.annotation:
        listing = list_pairs(split.name, split.images, split.annotation)
    label_map = find_label_map(split.name, split.annotation, channels.label_map, num_classes)
    LOGGER.info("#label_map %s :%s", split.name, label_map.source)
    return Input(split, listing, label_map)


def check_inputs(inputs: Iterable[Input], workers: int, stop: Callable[[], bool] = lambda: False) -> Report:
    """Reads all listed files and reports on them, but no pipes. Raises Stopped once `stop()` is true."""
    inputs = tuple(inputs)
    report = check([(one.listing, one.label_map) for one in inputs if one.listing], workers, stop)
    of_maps = contradictions([(one.split.name, one.label_map) for one in inputs])
    return replace(report, suspicions=tuple(dict.fromkeys([*of_maps, *report.suspicions])))


def scale_note(splits: Sequence[SplitReport], settings: Hyperparameters) -> str:
    """Returns at which share of the images' size training happens, in words; empty if the images are unknown."""
    return image_scale(splits, settings.base_size, at_base_size=settings.serving_scale == BASE)


def joined_classes(inputs: Sequence[Input]) -> Classes:
    """Returns the names and colours of the classes from all splits; of several colours the first split's.

    Raises DataError if two splits name a class differently.
    """
    joined = Classes.unknown(inputs[0].label_map.num_classes)
    named_by: dict[int, str] = {}
    for one in inputs:
        classes = one.classes
        for number, (known, name) in enumerate(zip(joined.names, classes.names, strict=True)):
            if known and name and known != name:
                raise DataError(
                    f"Class {number} is called {known!r} in {named_by[number]}, but {name!r} in {one.split.name}.",
                    "Give all channels the same names, in label maps, in classes.json or classes.txt, or in manifests "
                    "of labeling jobs with the same classes.",
                )
            if name:
                named_by.setdefault(number, one.split.name)
        joined = joined.completed(classes)
    return joined


def fingerprint(inputs: Sequence[Input]) -> dict[str, str]:
    """Returns values that identify the data before any file is read, by descriptions for error messages."""
    values = {}
    for one in inputs:
        name = one.split.name
        values[f"the SHA-256 of {name}'s label map"] = _sha256(json.dumps(one.label_map.source, sort_keys=True))
        if one.listing:
            pairs = one.listing.pairs
            values[f"the number of {name}'s pairs"] = str(len(pairs))
            values[f"the SHA-256 of their names in {name}"] = _sha256("\n".join(pair.image.name for pair in pairs))
    return values


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Part:
    """A rank's part of the data. ranks: those of all hosts; local: its number among those of its host.

    pairs: the number of training pairs on all hosts, if each has its own; None if each has all.
    """

    ranks: Ranks = ONE_RANK
    local: int = 0
    pairs: int | None = None

    @property
    def host_ranks(self) -> range:
        """The ranks of this host."""
        return range(self.ranks.first, self.ranks.first + self.ranks.local)

    def positions(self, size: int) -> list[range]:
        """The positions in a batch of this size that each of the ranks of this host has."""
        return [Share(rank, self.ranks.size).of(size) for rank in self.host_ranks]

    def of_host(self, size: int) -> int:
        """The images of a batch of this size that the ranks of this host have."""
        return sum(map(len, self.positions(size)))

    def share(self, sharded: bool) -> Share:
        """The rank's share of what its host has: with `sharded` only its host's ranks divide that."""
        return Share(self.local, self.ranks.local) if sharded else Share(self.ranks.first + self.local, self.ranks.size)


ALL = Part()
"""That of a training in one process."""


def training_data(
    train: Input,
    settings: Hyperparameters,
    samples: int,
    stop: Callable[[], bool],
    part: Part = ALL,
    feed: Feed | None = None,
) -> TrainingData:
    """Returns the training images as batches, `samples` an epoch. Reading a pipe polls `stop` while it waits.

    feed: between the ranks of the host, None for a training in one process.
    """
    if not train.listing:
        return _piped_training(train, settings, samples, stop, part, feed)
    pairs, size = train.listing.pairs, settings.mini_batch_size
    count = len(pairs) if part.pairs is None else part.pairs
    if count < size:
        LOGGER.warning(
            "The train channel has %d pairs, fewer than mini_batch_size=%d: they form one batch.", count, size
        )
    share = part.share(part.pairs is not None)
    if part.pairs is None:
        return TrainingLoader(pairs, sampler(train, settings), size, share=share)
    whole = part.pairs, min(size, part.pairs)
    return TrainingLoader(pairs, sampler(train, settings), part.of_host(whole[1]), share=share, whole=whole)


def _piped_training(
    train: Input, settings: Hyperparameters, samples: int, stop: Callable[[], bool], part: Part, feed: Feed | None
) -> TrainingData:
    size = settings.mini_batch_size
    positions = part.positions(min(size, samples))
    loader = PipeTrainingLoader(
        train.split.images,
        sampler(train, settings),
        size,
        samples,
        stop,
        part=range(positions[0].start, positions[-1].stop),
        sharded=train.split.sharded and part.ranks.hosts > 1,
    )
    return FedTraining(loader, feed, [len(one) for one in positions]) if feed else loader


def validation_data(
    validation: Input,
    settings: Hyperparameters,
    stop: Callable[[], bool],
    part: Part = ALL,
    feed: Feed | None = None,
) -> ValidationData:
    """Returns the validation images as batches; whole images if validation_mini_batch_size is 1.

    feed: as for `training_data`.
    """
    size = settings.validation_mini_batch_size
    sharded = validation.split.sharded
    if validation.listing:
        return ValidationLoader(validation.listing.pairs, sampler(validation, settings), size, part.share(sharded))

    def makes(number: int) -> bool:
        return sharded or number % part.ranks.size in part.host_ranks

    loader = PipeValidationLoader(validation.split.images, sampler(validation, settings), size, stop, makes=makes)
    return FedValidation(loader, feed) if feed else loader


def whole_images(
    pairs: Sequence[Pair], one: Input, settings: Hyperparameters, stop: Callable[[], bool]
) -> Iterator[Batch]:
    """Yields pairs of an input one by one, in full size. Raises Stopped as soon as `stop()` is true."""
    with closing(ValidationLoader(pairs, sampler(one, settings), batch_size=1).epoch(0)) as batches:
        for batch in batches:
            if stop():
                raise Stopped
            yield batch


def sampler(one: Input, settings: Hyperparameters) -> Sampler:
    """Returns the sampler that turns an input's pairs into training or validation samples."""
    return Sampler(
        one.label_map,
        settings.crop_size,
        settings.base_size,
        settings.seed,
        settings.workers,
        checked=one.listing is not None,
    )
