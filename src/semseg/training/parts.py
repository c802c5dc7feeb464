"""The parts of a run that the hyperparameters describe: learner, schedule, early stopping."""

from __future__ import annotations

from semseg.artifact.earlier import Earlier
from semseg.data.report import Report, class_weights
from semseg.engines.protocols import Device, Engine, Learner, LearnerSpecification, OptimizerSettings
from semseg.networks.backbones import find_backbone, read_backbone
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, by_name
from semseg.networks.parameters import initial_values, parameter_table
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.checkpoints import Checkpoint
from semseg.training.schedules import Schedule, iterations_per_epoch, schedule
from semseg.training.stopping import EarlyStopping
from semseg.types import Arrays


def require_backbone(settings: Hyperparameters, earlier: Earlier | None, checkpoint: Checkpoint | None) -> None:
    """Find or fetch the backbone's file if a learner needs it, which it would else tell only when all data is read.

    Raises HyperparameterError when the file is not to be had.
    """
    if _is_pretrained(settings, earlier, checkpoint):
        find_backbone(settings.backbone)


def balance(settings: Hyperparameters, report: Report) -> tuple[float, ...] | None:
    """What a pixel of each class counts for; None if nothing is said of that. `auto` is logged.

    report: of the check, with the split train if there is `auto`.
    """
    if isinstance(settings.class_weights, tuple):
        return settings.class_weights
    if settings.class_weights == "none":
        return None
    weights = class_weights(next(split for split in report.splits if split.name == "train"))
    LOGGER.info("Class weights: %s", ", ".join(f"{weight:.4g}" for weight in weights))
    return tuple(float(weight) for weight in weights)


def build_learner(
    settings: Hyperparameters,
    earlier: Earlier | None,
    checkpoint: Checkpoint | None,
    weights: tuple[float, ...] | None,
    engine: Engine,
    device: Device,
) -> Learner:
    """A learner with the state of the checkpoint, or the parameters of the earlier model, or as the settings say."""
    specification = LearnerSpecification(
        by_name(settings.algorithm, NETWORKS),
        by_name(settings.backbone, BACKBONES),
        settings.num_classes,
        OptimizerSettings(
            settings.optimizer,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            gamma1=settings.gamma1,
            gamma2=settings.gamma2,
            gradient_clip=settings.gradient_clip,
        ),
        loss=settings.loss,
        class_weights=weights,
        aux_loss=settings.aux_loss,
        aux_weight=settings.aux_weight,
    )
    given, origin = _given_arrays(specification.backbone, settings, earlier, checkpoint)
    table = parameter_table(specification.network, specification.backbone, settings.num_classes)
    learner = engine.learner(specification, initial_values(table, settings.seed) | given, origin, device)
    if checkpoint:
        learner.restore(checkpoint.state, str(checkpoint.path))
    return learner


def _given_arrays(
    backbone: Backbone, settings: Hyperparameters, earlier: Earlier | None, checkpoint: Checkpoint | None
) -> tuple[Arrays, str]:
    """What takes the place of initial values, and where it is from.

    An earlier model that was built without the auxiliary head leaves that as it begins.
    """
    if earlier and not checkpoint:
        return earlier.arrays, earlier.origin
    if _is_pretrained(settings, earlier, checkpoint):
        path = find_backbone(settings.backbone)
        return read_backbone(path, backbone), str(path)
    return {}, "the network's initial values"


def _is_pretrained(settings: Hyperparameters, earlier: Earlier | None, checkpoint: Checkpoint | None) -> bool:
    """Whether the network begins with the backbone's weights: not if it begins with a whole model's."""
    return settings.use_pretrained_model and not earlier and not checkpoint


def announced_schedule(settings: Hyperparameters, samples: int) -> Schedule:
    """The learning rates of a job of so many samples an epoch, logged in the original's words."""
    iterations = iterations_per_epoch(samples, settings.mini_batch_size)
    LOGGER.info("LRScheduler setup: iters per epoch: %d, num_epochs %d", iterations, settings.epochs)
    return schedule(settings, iterations)


def early_stopping(settings: Hyperparameters) -> EarlyStopping | None:
    """When to stop early; None for never."""
    if not settings.early_stopping:
        return None
    return EarlyStopping(
        settings.early_stopping_min_epochs, settings.early_stopping_patience, settings.early_stopping_tolerance
    )
