"""What a job is told and given: its hyperparameters, hosts, data, checkpoints, perhaps an earlier model."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from semseg.artifact.earlier import Earlier, load_earlier
from semseg.data.pairs import Listing
from semseg.data.s3 import ObjectStore
from semseg.errors import HyperparameterError
from semseg.sagemaker import hyperparameters, log_lines
from semseg.sagemaker.channels import Channels, Hosts, read_channels, read_hosts
from semseg.sagemaker.checkpoint_config import read_checkpoint_directory
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.checkpoints import PLACE, Checkpoints
from semseg.training.inputs import Input, class_names, fingerprint, open_inputs, open_test, require_files
from semseg.training.job_folder import JobFolder


@dataclass(frozen=True)
class Given:
    """What is in the channels of a job.

    earlier: the model that training goes on from, if there is one; class_names: by class id, as the data names the
    classes, or else the earlier model; None where neither does.
    """

    train: Input
    validation: Input
    test: Input | None
    earlier: Earlier | None
    class_names: tuple[str, ...] | None

    @property
    def splits(self) -> tuple[Input, ...]:
        """Train, validation and, if it is given, test."""
        return tuple(one for one in (self.train, self.validation, self.test) if one)


@dataclass(frozen=True)
class Job:
    """A training job, all of it that is known before an image is read.

    folder: of a job outside SageMaker; settings: its num_training_samples is `samples`: how many an epoch has, for the
    schedule; checkpoints: None where none are kept.
    """

    paths: Paths
    folder: JobFolder | None
    hosts: Hosts
    settings: Hyperparameters
    samples: int
    given: Given
    checkpoints: Checkpoints | None


def open_job(paths: Paths, folder: JobFolder | None, store: ObjectStore, scratch: Path) -> Job:
    """Reads the configuration below `paths`, loads an earlier model into `scratch`, lists all files; reads no image.

    Raises UserError for whatever the user can mend.
    """
    settings = read_hyperparameters(paths)
    hosts = read_hosts(paths)
    channels = read_channels(paths)
    require_files(channels, settings)
    checkpoint_directory = read_checkpoint_directory(paths)
    _announce_worker(checkpoint_directory)
    given = open_channels(channels, settings, store, scratch)
    samples = _training_samples(settings.num_training_samples, given.train.listing)
    settings = dataclasses.replace(settings, num_training_samples=samples)
    checkpoints = _open_checkpoints(checkpoint_directory, settings, given, folder)
    return Job(paths, folder, hosts, settings, samples, given, checkpoints)


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


def open_channels(channels: Channels, settings: Hyperparameters, store: ObjectStore, scratch: Path) -> Given:
    """Loads the earlier model, lists the files of all splits and finds their label maps; reads no image.

    scratch: where a packed model is unpacked, and its arrays stay. Raises UserError for what cannot be used.
    """
    earlier = _load_earlier(channels.model, settings, scratch)
    train, validation = open_inputs(channels, settings.num_classes, store, settings.label_attribute)
    test = open_test(channels, settings.num_classes, store, settings.label_attribute)
    names = class_names([one for one in (train, validation, test) if one]) or (earlier.class_names if earlier else None)
    return Given(train, validation, test, earlier, names)


def _load_earlier(channel: Path | None, settings: Hyperparameters, scratch: Path) -> Earlier | None:
    """The model to go on from (R43 to R46), which must fit the settings."""
    if channel is None:
        return None
    earlier = load_earlier(channel, settings.as_strings(), scratch)
    LOGGER.info("Training goes on from %s.", earlier.origin)
    return earlier


def _announce_worker(checkpoint_directory: Path | None) -> None:
    """Logs lines of the built-in algorithm that log parsers may look for."""
    print(f"Process {os.getpid()} is a worker.", flush=True)
    LOGGER.info("Using default worker.")
    for content_type in log_lines.CONTENT_TYPES:
        LOGGER.info("Loaded iterator creator %s for content type ('%s', '1.0')", content_type, content_type)
    if checkpoint_directory is None:
        LOGGER.info("Checkpoint loading and saving are disabled.")
    else:
        LOGGER.info("Checkpoints are loaded from and saved to %s.", checkpoint_directory)


def _training_samples(given: int | None, listing: Listing | None) -> int:
    """The length of an epoch for the schedule: as given, even if wrong, as in the built-in algorithm, or counted."""
    if listing is None:
        if given is None:
            raise HyperparameterError(
                "No value(s) were specified for 'num_training_samples' which are required hyperparameter(s) in Pipe "
                "mode (caused by ValidationError)",
                "Give the number of the augmented manifest's lines: a pipe cannot be counted before it is read.",
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


def _open_checkpoints(
    directory: Path | None, settings: Hyperparameters, given: Given, folder: JobFolder | None
) -> Checkpoints | None:
    """Those of the job, if it keeps any."""
    if not directory:
        return None
    configuration = settings.as_strings() | fingerprint((given.train, given.validation))
    if not folder:
        return Checkpoints(directory, configuration)
    places = {f"{PLACE}{name}": place for name, place in folder.places.items()}
    return Checkpoints(directory, configuration | places, folder.otherwise, folder.anew)
