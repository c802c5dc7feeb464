"""The recipe of a training job, from the configuration to the artifact, top to bottom."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import threading
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from semseg.artifact import model_dir
from semseg.artifact.earlier import Earlier, load_earlier
from semseg.codecs.params import write_params
from semseg.data.pairs import Listing
from semseg.data.report import Report
from semseg.data.s3 import ObjectStore
from semseg.engines.protocols import Learner
from semseg.errors import ChannelError, HyperparameterError, Stopped
from semseg.reporting.data_report import write_report
from semseg.reporting.events import Sink
from semseg.sagemaker import hyperparameters, log_lines
from semseg.sagemaker.channels import read_channels, read_hosts
from semseg.sagemaker.checkpoint_config import read_checkpoint_directory
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths
from semseg.training.artifact_writer import ArtifactWriter
from semseg.training.checkpoints import PLACE, Checkpoints
from semseg.training.extras import complete_without
from semseg.training.inputs import (
    Input,
    check_inputs,
    class_names,
    fingerprint,
    open_inputs,
    open_test,
    require_files,
    training_data,
    validation_data,
)
from semseg.training.int8 import quantize_model
from semseg.training.job_folder import JobFolder
from semseg.training.loop import Fit, TrainingData, ValidationData
from semseg.training.loss_watch import require_finite
from semseg.training.parts import (
    announced_schedule,
    balance,
    build_learner,
    choose_device,
    early_stopping,
    require_backbone,
)
from semseg.training.progress import BEGINNING, Progress
from semseg.training.results import open_sinks, replacing_results
from semseg.training.schedules import Schedule
from semseg.training.scoring import score

LARGE = 1 << 20
"""Bytes of a block of memory that a process that trains gives back at once (`machine.keep_memory_flat`). With 4 MiB
the memory grows by some with each epoch; with 256 KiB loading takes half as much time again [both measured]."""

_PATIENCE = 300
"""Seconds without a byte of S3's that training bears: hours may be lost by then. The check before fails early."""


def train(paths: Paths, stop: threading.Event, folder: JobFolder | None = None) -> None:
    """Runs the job below `paths` and leaves its artifact in `paths.model`, its metrics in `paths.output_data`.

    When `stop` is set it saves the current parameters and returns within a step, or raises Stopped if training has not
    begun. In the folder of a job outside SageMaker an earlier training's model, and what was told of it, stay until the
    first validation; a job that is stopped before raises Stopped. Raises UserError for whatever the user can mend.
    """
    begun = time.time()
    settings = _read_hyperparameters(paths)
    hosts = read_hosts(paths)
    channels = read_channels(paths)
    require_files(channels, settings)
    checkpoint_directory = read_checkpoint_directory(paths)
    _announce_worker(checkpoint_directory)
    with ObjectStore(stop=stop.is_set) as store, tempfile.TemporaryDirectory(prefix="semseg-") as scratch:
        earlier = _load_earlier(channels.model, settings, Path(scratch))
        inputs = open_inputs(channels, settings.num_classes, store, settings.label_attribute)
        test = open_test(channels, settings.num_classes, store, settings.label_attribute)
        splits = (*inputs, test) if test else inputs
        names = class_names(splits) or (earlier.class_names if earlier else None)
        samples = _training_samples(settings.num_training_samples, inputs[0].listing)
        settings = dataclasses.replace(settings, num_training_samples=samples)
        checkpoints = _checkpoints(checkpoint_directory, settings, inputs, folder)
        checkpoint = checkpoints.newest() if checkpoints else None
        progress = checkpoint.progress if checkpoint else BEGINNING
        earlier_stays = folder is not None and not progress.ended and bool(model_dir.files_of_model(paths.model))
        device = choose_device(settings.device, hosts)
        require_backbone(settings, earlier, checkpoint)
        try:
            report = _check(splits, settings.workers, stop, None if earlier_stays else paths.output_data)
            weights = balance(settings, report)
        except Stopped as stopped:
            if checkpoint and folder:
                raise Stopped("Stopped before training went on: model and checkpoint stay as they were.") from stopped
            if not checkpoint:
                raise
            weights = None  # nothing is trained any more, but the model of the checkpoint is to be saved
        store.patience = _PATIENCE

        learner = build_learner(settings, earlier, checkpoint, weights, device)
        rates = announced_schedule(settings, samples)

        emit = open_sinks(hosts.current, settings, paths.output_data, progress, kept=earlier_stays)
        beginning = partial(replacing_results, paths.output_data, report) if earlier_stays else nullcontext
        artifact = ArtifactWriter(paths.model, settings, names, emit, beginning)
        if checkpoint and checkpoint.best:
            artifact.save(model_dir.BEST, checkpoint.write_best)
        del checkpoint  # its file is mapped, and would take room even when later ones have replaced it
        training = training_data(inputs[0], settings, samples, stop.is_set)
        validation = validation_data(inputs[1], settings, stop.is_set)
        fit = _fit(learner, training, validation, rates, settings, artifact, checkpoints, folder, emit)
        set_up = time.time()
        fit.run(stop, progress)
        if stop.is_set() and earlier_stays and not artifact.begun:
            raise Stopped(f"Stopped before the first validation: the earlier model stays in {paths.model}.")
        _announce_end(stop)
        _save(learner, artifact, model_dir.LAST)
        _add_other_forms(paths.model, inputs, settings, stop, emit)
        score(learner, artifact.path(model_dir.BEST), (inputs[1], test), settings, stop.is_set, emit)
    _print_totals(hosts.current, settings.epochs, begun, set_up)


def check(paths: Paths) -> Report:
    """Reads all data of the job below `paths` and reports on it; what `train` would refuse else raises UserError."""
    settings = _read_hyperparameters(paths)
    channels = read_channels(paths)
    for split in (channels.train, channels.validation):
        if split.piped:
            raise ChannelError(
                f"The channel {split.name} is in Pipe mode: only training can read it.",
                "To check its data, give the augmented manifest in File mode.",
            )
    with ObjectStore() as store, tempfile.TemporaryDirectory(prefix="semseg-") as scratch:
        _load_earlier(channels.model, settings, Path(scratch))
        inputs = open_inputs(channels, settings.num_classes, store, settings.label_attribute)
        test = open_test(channels, settings.num_classes, store, settings.label_attribute)
        splits = (*inputs, test) if test else inputs
        class_names(splits)
        return check_inputs(splits, settings.workers)


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
    return settings


def _announce_worker(checkpoint_directory: Path | None) -> None:
    """Lines of the original that log parsers may look for."""
    print(f"Process {os.getpid()} is a worker.", flush=True)
    LOGGER.info("Using default worker.")
    for content_type in log_lines.CONTENT_TYPES:
        LOGGER.info("Loaded iterator creator %s for content type ('%s', '1.0')", content_type, content_type)
    if checkpoint_directory is None:
        LOGGER.info("Checkpoint loading and saving are disabled.")
    else:
        LOGGER.info("Checkpoints are loaded from and saved to %s.", checkpoint_directory)


def _load_earlier(channel: Path | None, settings: Hyperparameters, scratch: Path) -> Earlier | None:
    """The model to go on from (R43 to R46), unpacked into `scratch`, where its arrays stay."""
    if channel is None:
        return None
    earlier = load_earlier(channel, settings.as_strings(), scratch)
    LOGGER.info("Training goes on from %s.", earlier.origin)
    return earlier


def _checkpoints(
    directory: Path | None, settings: Hyperparameters, inputs: tuple[Input, Input], folder: JobFolder | None
) -> Checkpoints | None:
    """Those of the job, if it keeps any."""
    if not directory:
        return None
    configuration = settings.as_strings() | fingerprint(inputs)
    if not folder:
        return Checkpoints(directory, configuration)
    places = {f"{PLACE}{name}": place for name, place in folder.places.items()}
    return Checkpoints(directory, configuration | places, folder.otherwise, folder.anew)


def _check(inputs: tuple[Input, ...], workers: int, stop: threading.Event, output: Path | None) -> Report:
    """Reads all files once, leaves a report of them if told where, and raises DataError for all that is wrong."""
    report = check_inputs(inputs, workers, stop.is_set)
    if output:
        write_report(report, output)
    for suspicion in report.suspicions:
        LOGGER.warning(suspicion)
    report.raise_problems()
    return report


def _training_samples(given: int | None, listing: Listing | None) -> int:
    """The number the schedule is made for: the count, unless one was given, be it wrong, as the original did."""
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


def _fit(
    learner: Learner,
    training: TrainingData,
    validation: ValidationData,
    rates: Schedule,
    settings: Hyperparameters,
    artifact: ArtifactWriter,
    checkpoints: Checkpoints | None,
    folder: JobFolder | None,
    emit: Sink,
) -> Fit:
    """The loop as the settings say, which leaves the best model in the artifact."""

    def keep_best() -> None:
        _save(learner, artifact, model_dir.BEST)
        if folder:
            folder.drop_replaced()

    def checkpoint(progress: Progress) -> None:
        state = learner.state() if checkpoints else learner.parameters()
        require_finite(state)
        if checkpoints:
            checkpoints.save(progress, state, artifact.path(model_dir.BEST))

    return Fit(
        learner=learner,
        training=training,
        validation=validation,
        schedule=rates,
        epochs=settings.epochs,
        num_classes=settings.num_classes,
        seed=settings.seed,
        early_stopping=early_stopping(settings),
        keep_best=keep_best,
        emit=emit,
        checkpoint=checkpoint,
        checkpoint_seconds=60 * settings.checkpoint_minutes,
    )


def _save(learner: Learner, artifact: ArtifactWriter, name: str) -> None:
    parameters = learner.parameters()
    require_finite(parameters)
    artifact.save(name, lambda path: write_params(path, parameters))


def _announce_end(stop: threading.Event) -> None:
    if stop.is_set():
        LOGGER.warning("Stopping as told: saving the current model.")
    LOGGER.warning("wait_for_all_workers will not sync workers since the kv store is not running distributed")


def _add_other_forms(
    directory: Path, inputs: tuple[Input, Input], settings: Hyperparameters, stop: threading.Event, emit: Sink
) -> None:
    if settings.export_onnx:
        _export_onnx(directory)
    if settings.quantize:
        quantize_model(directory, inputs, settings, stop.is_set, emit)


def _export_onnx(directory: Path) -> None:
    """Writes model.onnx of the parameters that would be served; without it they are converted there."""
    from semseg.exporting.onnx_model import write_onnx

    with complete_without(model_dir.ONNX):
        write_onnx(model_dir.describe(directory), directory / model_dir.ONNX)


def _print_totals(host: str, epochs: int, begun: float, set_up: float) -> None:
    ended = time.time()
    values = {"epochs": float(epochs), "setuptime": 1000 * (set_up - begun), "totaltime": 1000 * (ended - begun)}
    print(log_lines.metrics(begun, ended, {"Host": host, "Operation": "training"}, values), flush=True)
