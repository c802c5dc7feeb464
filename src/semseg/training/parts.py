"""The parts of a run that the hyperparameters describe: learner, schedule, early stopping."""

from __future__ import annotations

from semseg.artifact.earlier import Earlier
from semseg.data.report import Report, class_weights
from semseg.engines.protocols import Device, Engine, Learner, LearnerSpecification, OptimizerSettings
from semseg.networks.backbones import find_backbone, read_backbone
from semseg.networks.definitions import AUXILIARY, BACKBONES, NETWORKS, by_name
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
    arrays, origin = _first_arrays(specification, settings, earlier, checkpoint)
    learner = engine.learner(specification, arrays, origin, device)
    if checkpoint:
        learner.restore(checkpoint.state, str(checkpoint.path))
    return learner


def _first_arrays(
    specification: LearnerSpecification,
    settings: Hyperparameters,
    earlier: Earlier | None,
    checkpoint: Checkpoint | None,
) -> tuple[Arrays, str]:
    """The parameters that a learner begins with, and what errors call the place they are from.

    Those of an earlier model, to which initial values are added for the auxiliary head alone, and only if it was built
    without one: the engine refuses it if it lacks anything else. If there is none, initial values, with the pretrained
    backbone's in their place where it is wanted. Raises ArtifactError and HyperparameterError for the backbone's file.
    """
    table = parameter_table(specification.network, specification.backbone, specification.num_classes)
    values = initial_values(table, settings.seed)
    if earlier and not checkpoint:
        headless = not any(name.startswith(AUXILIARY) for name in earlier.arrays)
        head = {name: value for name, value in values.items() if headless and name.startswith(AUXILIARY)}
        return head | earlier.arrays, earlier.origin
    if _is_pretrained(settings, earlier, checkpoint):
        path = find_backbone(settings.backbone)
        return values | read_backbone(path, specification.backbone), str(path)
    return values, "the network's initial values"


def _is_pretrained(settings: Hyperparameters, earlier: Earlier | None, checkpoint: Checkpoint | None) -> bool:
    """Whether the network begins with the backbone's weights: not if it begins with a whole model's."""
    return settings.use_pretrained_model and not earlier and not checkpoint


def announced_schedule(settings: Hyperparameters, samples: int) -> Schedule:
    """The learning rates of a job of so many samples an epoch, logged in the built-in algorithm's words."""
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
