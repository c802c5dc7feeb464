"""Opens a job: its hyperparameters, hosts, data, engine, checkpoints and, if given, an earlier model."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semseg.artifact.earlier import Earlier, load_earlier
from semseg.data.pairs import Listing
from semseg.data.s3 import ObjectStore
from semseg.engines.choose import Trainer, choose_trainer
from semseg.errors import HyperparameterError
from semseg.sagemaker import hyperparameters, log_lines
from semseg.sagemaker.channels import Channels, read_channels
from semseg.sagemaker.checkpoint_config import read_checkpoint_directory
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.hosts import Hosts, read_hosts
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import FOR_PEOPLE, LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.checkpoints import LOCATION_PREFIX, Checkpoints
from semseg.training.inputs import Input, fingerprint, joined_classes, open_inputs, open_test, require_files
from semseg.training.job_folder import JobFolder
from semseg.training.ranks import ONE_RANK, Ranks, plan_ranks
from semseg.types import Classes


@dataclass(frozen=True)
class JobInputs:
    """The contents of a job's channels.

    earlier: the model to start training from, or None. classes: names and colours from the data, or else from the
    earlier model.
    """

    train: Input
    validation: Input
    test: Input | None
    earlier: Earlier | None
    classes: Classes

    @property
    def splits(self) -> tuple[Input, ...]:
        """Train, validation and, if the job has it, test."""
        return tuple(one for one in (self.train, self.validation, self.test) if one)

    @property
    def label_maps(self) -> dict[str, dict[str, Any]]:
        """The label map of each split, as a JSON object; empty if the values in all annotations are the classes."""
        direct = all(one.label_map.direct for one in self.splits)
        return {} if direct else {one.split.name: one.label_map.source for one in self.splits}


@dataclass(frozen=True)
class Job:
    """A training job, before any image is read.

    folder: the job's folder outside SageMaker, else None. settings: those that take effect, with the engine and the
    precision that `auto` stands for. samples: the samples an epoch for the learning rate schedule; equals
    settings.num_training_samples. checkpoints: None if the job keeps none, or another host does. ranks: those that
    train, on all hosts. pairs: the number of training pairs on all hosts, once they have met, if each has its own
    (ShardedByS3Key); else None.
    """

    paths: Paths
    folder: JobFolder | None
    hosts: Hosts
    settings: Hyperparameters
    samples: int
    inputs: JobInputs
    trainer: Trainer
    checkpoints: Checkpoints | None
    ranks: Ranks = ONE_RANK
    pairs: int | None = None

    @property
    def devices(self) -> int:
        """The number of devices that train, on all hosts: one for each rank, or all GPUs of a single one."""
        return self.ranks.size if self.ranks.size > 1 else max(1, self.trainer.gpus)


def open_job(paths: Paths, folder: JobFolder | None, store: ObjectStore, scratch: Path) -> Job:
    """Reads the configuration below `paths`, loads the earlier model, lists all files and chooses the engine.

    No image is read. scratch: a directory for an earlier model's files, needed until the job ends. Raises UserError for
    bad input.
    """
    settings = read_hyperparameters(paths)
    hosts = read_hosts(paths)
    channels = read_channels(paths)
    require_files(channels, settings)
    _announce_worker(read_checkpoint_directory(paths))
    inputs = open_channels(channels, settings, store, scratch)
    samples = _training_samples(settings.num_training_samples, inputs.train.listing)
    trainer = choose_trainer(
        settings.engine, settings.device, settings.precision_dtype, hosts.gpu_instance, settings.gpus, hosts.count
    )
    settings = dataclasses.replace(
        settings, num_training_samples=samples, engine=trainer.engine.name, precision_dtype=trainer.precision
    )
    ranks = plan_ranks(settings, hosts, trainer)
    if ranks.hosts > 1 and channels.train.sharded and settings.class_weights == "auto":
        raise HyperparameterError(
            "_class_weights=auto needs all training files on each host, but the channel train is ShardedByS3Key.",
            "Give a number for each class, such as those that `semseg check` suggests, or use FullyReplicated.",
        )
    checkpoints = open_checkpoints(paths, settings, inputs, folder) if ranks.saves else None
    return Job(paths, folder, hosts, settings, samples, inputs, trainer, checkpoints, ranks)


def read_hyperparameters(paths: Paths) -> Hyperparameters:
    """Reads, checks and logs the configuration, as the built-in algorithm did. Raises HyperparameterError."""
    given = read_json_object(paths.hyperparameters)
    defaults = hyperparameters.defaults()
    LOGGER.info("Reading default configuration from %s: %s", hyperparameters.__file__, defaults)
    LOGGER.info("Merging with provided configuration from %s: %s", paths.hyperparameters, given)
    LOGGER.info("Final configuration: %s", defaults | given)
    settings, warnings = hyperparameters.parse(given)
    for warning in warnings:
        LOGGER.warning(warning)
    return settings


def open_channels(channels: Channels, settings: Hyperparameters, store: ObjectStore, scratch: Path) -> JobInputs:
    """Loads the earlier model, lists the files of all splits and finds their label maps; reads no image.

    scratch: where a packed model is unpacked; its arrays stay mapped to files there. Raises UserError for bad input.
    """
    earlier = _load_earlier(channels.model, settings, scratch)
    train, validation = open_inputs(channels, settings.num_classes, store, settings.label_attribute)
    test = open_test(channels, settings.num_classes, store, settings.label_attribute)
    classes = joined_classes([one for one in (train, validation, test) if one])
    if earlier:
        classes = Classes(
            classes.names if classes.named else earlier.classes.names,
            classes.colors if classes.colored else earlier.classes.colors,
        )
    return JobInputs(train, validation, test, earlier, classes)


def _load_earlier(channel: Path | None, settings: Hyperparameters, scratch: Path) -> Earlier | None:
    """Loads the model to start training from. Raises UserError unless it matches the settings."""
    if channel is None:
        return None
    earlier = load_earlier(channel, settings.as_strings(), scratch)
    LOGGER.info("Training starts from the earlier model %s.", earlier.origin, extra=FOR_PEOPLE)
    return earlier


def _announce_worker(checkpoint_directory: Path | None) -> None:
    """Logs lines of the built-in algorithm that log parsers may look for, and where checkpoints go."""
    print(f"Process {os.getpid()} is a worker.", flush=True)
    LOGGER.info("Using default worker.")
    for content_type in log_lines.CONTENT_TYPES:
        LOGGER.info("Loaded iterator creator %s for content type ('%s', '1.0')", content_type, content_type)
    if checkpoint_directory is None:
        LOGGER.info("Checkpoint loading and saving are disabled.")
    else:
        LOGGER.info("Checkpoints are loaded from and saved to %s.", checkpoint_directory)


def _training_samples(given: int | None, listing: Listing | None) -> int:
    """Returns the samples an epoch for the schedule: the given number, as in the built-in algorithm, or a count."""
    if listing is None:
        if given is None:
            raise HyperparameterError(
                "No value(s) were specified for 'num_training_samples' which are required hyperparameter(s) in Pipe "
                "mode (caused by ValidationError)",
                "Give the number of lines in the augmented manifest: a pipe cannot be counted before it is read.",
            )
        return given
    counted = len(listing.pairs)
    if given not in (None, counted):
        LOGGER.warning(
            "num_training_samples is %d, but the train channel has %d pairs; the learning rate schedule follows "
            "num_training_samples. Leave it out to have the pairs counted.",
            given,
            counted,
        )
    return counted if given is None else given


def open_checkpoints(
    paths: Paths, settings: Hyperparameters, inputs: JobInputs, folder: JobFolder | None
) -> Checkpoints | None:
    """Opens the job's checkpoints; None if it keeps none. Raises UserError."""
    directory = read_checkpoint_directory(paths)
    if not directory:
        return None
    configuration = settings.as_strings() | fingerprint((inputs.train, inputs.validation))
    if not folder:
        return Checkpoints(directory, configuration)
    places = {f"{LOCATION_PREFIX}{name}": place for name, place in folder.places.items()}
    return Checkpoints(directory, configuration | places, folder.mismatch_hint, folder.overwrite)
