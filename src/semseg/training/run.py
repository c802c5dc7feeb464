"""The recipe of a training job, from the configuration to the artifact, top to bottom."""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
import time
from pathlib import Path

from semseg.artifact import model_dir
from semseg.data.check import check_pairs
from semseg.data.label_map import LabelMap, find_label_map
from semseg.data.loader import TrainingLoader, ValidationLoader
from semseg.data.pairs import Listing, list_pairs
from semseg.errors import HyperparameterError
from semseg.reporting.events import Event, ModelSaved, Sink
from semseg.reporting.log import LogSink
from semseg.reporting.metrics_file import MetricsFile
from semseg.reporting.progress_bar import ProgressBar
from semseg.sagemaker import hyperparameters, log_lines
from semseg.sagemaker.channels import Channels, read_channels, read_hosts
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.job import Stopped
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.learner import Learner
from semseg.training.loop import Fit
from semseg.training.schedules import iterations_per_epoch, schedule
from semseg.training.stopping import EarlyStopping


def train(paths: Paths, stop: threading.Event) -> None:
    """Runs the job below `paths` and leaves its artifact in `paths.model`, its metrics in `paths.output_data`.

    When `stop` is set it saves the current parameters and returns within a step, or raises Stopped if training has not
    begun. Raises UserError for whatever the user can mend.
    """
    begun = time.time()
    settings = _read_hyperparameters(paths)
    host = read_hosts(paths).current
    channels = read_channels(paths)
    _announce_worker()

    listings = _list_channels(channels)
    label_maps = _find_label_maps(channels, settings.num_classes)
    if check_pairs(list(zip(listings, label_maps, strict=True)), settings.workers, stop.is_set) is None:
        raise Stopped
    samples = _training_samples(settings.num_training_samples, len(listings[0].pairs))
    settings = dataclasses.replace(settings, num_training_samples=samples)

    _announce_devices()
    learner = _build_learner(settings)
    iterations = iterations_per_epoch(samples, settings.mini_batch_size)
    LOGGER.info("LRScheduler setup: iters per epoch: %d, num_epochs %d", iterations, settings.epochs)
    if stop.is_set():
        raise Stopped

    training, validation = _loaders(listings, label_maps, settings)
    emit = _sinks(host, settings, paths)
    _begin_artifact(paths.model, settings)
    fit = Fit(
        learner=learner,
        training=training,
        validation=validation,
        schedule=schedule(settings, iterations),
        epochs=settings.epochs,
        num_classes=settings.num_classes,
        seed=settings.seed,
        early_stopping=_early_stopping(settings),
        keep_best=lambda: _save(learner, paths.model / model_dir.BEST, emit),
        emit=emit,
    )
    set_up = time.time()
    fit.run(stop)
    if stop.is_set():
        LOGGER.warning("Stopping as told: saving the current model.")
    LOGGER.warning("wait_for_all_workers will not sync workers since the kv store is not running distributed")
    _save(learner, paths.model / model_dir.LAST, emit)
    LOGGER.info("Test data is not provided.")
    _print_totals(host, settings.epochs, begun, set_up)


def _read_hyperparameters(paths: Paths) -> Hyperparameters:
    """Reads, checks and logs the configuration, as the original did."""
    given = read_json_object(paths.hyperparameters)
    defaults = hyperparameters.defaults()
    LOGGER.info("Reading default configuration from %s: %s", hyperparameters.__file__, defaults)
    LOGGER.info("Merging with provided configuration from %s: %s", paths.hyperparameters, given)
    LOGGER.info("Final configuration: %s", defaults | given)
    settings, warnings = hyperparameters.parse(given)
    for warning in warnings:
        LOGGER.warning(warning)
    if settings.precision_dtype == "float16":
        raise HyperparameterError("precision_dtype=float16 is not supported yet.", "Use float32, the default.")
    return settings


def _announce_worker() -> None:
    """Lines of the original that log parsers may look for."""
    print(f"Process {os.getpid()} is a worker.", flush=True)
    LOGGER.info("Using default worker.")
    for content_type in log_lines.CONTENT_TYPES:
        LOGGER.info("Loaded iterator creator %s for content type ('%s', '1.0')", content_type, content_type)
    LOGGER.info("Checkpoint loading and saving are disabled.")


def _list_channels(channels: Channels) -> tuple[Listing, Listing]:
    return (
        list_pairs("train", channels.train, channels.train_annotation),
        list_pairs("validation", channels.validation, channels.validation_annotation),
    )


def _find_label_maps(channels: Channels, num_classes: int) -> tuple[LabelMap, LabelMap]:
    train = find_label_map("train", channels.train_annotation, channels.label_map, num_classes)
    LOGGER.info("#label_map train :%s", train.source)
    validation = find_label_map("validation", channels.validation_annotation, channels.label_map, num_classes)
    LOGGER.info("#label_map validation :%s", validation.source)
    return train, validation


def _training_samples(given: int | None, counted: int) -> int:
    """The number the schedule is made for: the count, unless one was given, be it wrong, as the original did."""
    if given is not None and given != counted:
        LOGGER.warning(
            "num_training_samples is %d, but the train channel has %d pairs; the learning rate schedule follows "
            "num_training_samples. Leave it out to have the pairs counted.",
            given,
            counted,
        )
    return counted if given is None else given


def _announce_devices() -> None:
    from semseg.engines.gluon.runtime import devices

    start = time.perf_counter()
    _, gpus = devices()
    LOGGER.info("nvidia-smi: took %.3f seconds to run.", time.perf_counter() - start)
    LOGGER.info("nvidia-smi identified %d GPUs.", gpus)
    LOGGER.info("Number of GPUs being used: %d", min(gpus, 1))
    if gpus > 1:
        LOGGER.warning("%d GPUs found, of which only the first is used: several are not supported yet.", gpus)


def _build_learner(settings: Hyperparameters) -> Learner:
    from semseg.engines.gluon.learner import Optimizer, build_learner

    return build_learner(
        settings.algorithm,
        settings.backbone,
        settings.num_classes,
        Optimizer(settings.optimizer, settings.momentum, settings.weight_decay, settings.gamma1, settings.gamma2),
        aux_loss=settings.aux_loss,
        aux_weight=settings.aux_weight,
        use_pretrained=settings.use_pretrained_model,
        seed=settings.seed,
    )


def _loaders(
    listings: tuple[Listing, Listing], label_maps: tuple[LabelMap, LabelMap], settings: Hyperparameters
) -> tuple[TrainingLoader, ValidationLoader]:
    training = TrainingLoader(
        listings[0].pairs,
        label_maps[0],
        batch_size=settings.mini_batch_size,
        crop_size=settings.crop_size,
        base_size=settings.base_size,
        seed=settings.seed,
        workers=settings.workers,
    )
    validation = ValidationLoader(
        listings[1].pairs,
        label_maps[1],
        batch_size=settings.validation_mini_batch_size,
        crop_size=settings.crop_size,
        workers=settings.workers,
    )
    return training, validation


def _early_stopping(settings: Hyperparameters) -> EarlyStopping | None:
    if not settings.early_stopping:
        return None
    return EarlyStopping(
        settings.early_stopping_min_epochs, settings.early_stopping_patience, settings.early_stopping_tolerance
    )


def _sinks(host: str, settings: Hyperparameters, paths: Paths) -> Sink:
    sinks: list[Sink] = [LogSink(host, settings.logging_frequency), MetricsFile(paths.output_data)]
    if sys.stderr.isatty():
        sinks.append(ProgressBar(sys.stderr))

    def emit(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return emit


def _begin_artifact(directory: Path, settings: Hyperparameters) -> None:
    """Makes room for the new model: parameters of an earlier run would contradict hyperparams.json."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in (directory / model_dir.BEST, directory / model_dir.LAST):
        if path.exists():
            LOGGER.warning("Removing %s, left by an earlier run.", path)
            path.unlink()
    model_dir.write_hyperparams(directory, settings.as_strings())


def _save(learner: Learner, path: Path, emit: Sink) -> None:
    emit(ModelSaved(path))
    with model_dir.replacing(path) as temporary:
        learner.save(temporary)


def _print_totals(host: str, epochs: int, begun: float, set_up: float) -> None:
    ended = time.time()
    values = {"epochs": float(epochs), "setuptime": 1000 * (set_up - begun), "totaltime": 1000 * (ended - begun)}
    print(log_lines.metrics(begun, ended, {"Host": host, "Operation": "training"}, values), flush=True)
