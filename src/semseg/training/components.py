"""Builds the components of a run from its hyperparameters: learner, class weights, schedule, early stopping."""

from __future__ import annotations

from semseg.artifact.earlier import Earlier
from semseg.data.report import Report, class_weights
from semseg.engines.choose import Trainer
from semseg.engines.group import ALONE, Group, shared_arrays
from semseg.engines.protocols import Engine, Learner, LearnerSpecification, OptimizerSettings
from semseg.errors import HyperparameterError
from semseg.networks.backbones import find_backbone, read_backbone
from semseg.networks.definitions import AUXILIARY, BACKBONES, NETWORKS, by_name, listed
from semseg.networks.parameters import initial_values, parameter_table
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.checkpoints import Checkpoint
from semseg.training.schedules import Schedule, iterations_per_epoch, schedule
from semseg.training.stopping import EarlyStopping
from semseg.types import Arrays


def require_network(settings: Hyperparameters, engine: Engine) -> None:
    """Raises HyperparameterError if the engine does not run the network, to fail before weights and data are read."""
    network = by_name(settings.algorithm, NETWORKS)
    if engine.name not in network.bytes_per_pixel:
        names = [other.name for other in NETWORKS if engine.name in other.bytes_per_pixel]
        raise HyperparameterError(
            f"algorithm is {network.name}, but {engine.title} does not train {network.title}.",
            f"Set algorithm to {listed(names, 'or')}, or choose another engine with _engine.",
        )


def require_backbone(settings: Hyperparameters, earlier: Earlier | None, checkpoint: Checkpoint | None) -> None:
    """Finds or downloads the pretrained backbone if the learner needs it, to fail before all data is read.

    Raises HyperparameterError if it is not available.
    """
    if _is_pretrained(settings, earlier, checkpoint):
        find_backbone(settings.backbone)


def choose_class_weights(settings: Hyperparameters, report: Report) -> tuple[float, ...] | None:
    """Returns the weight of each class in the loss, or None for equal weights; logs those of `auto`.

    report: of the data check; must have the split train if the setting is `auto`.
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
    trainer: Trainer,
    group: Group = ALONE,
) -> Learner:
    """Returns a learner with the checkpoint's state, else the earlier model's parameters, else initial values.

    In a group all ranks call this, and get a learner with the state of rank 0's.
    """
    specification = specify(settings, weights, trainer)
    arrays, origin = _first_arrays(specification, settings, earlier, checkpoint)
    learner = trainer.engine.learner(specification, arrays, origin, trainer.device, group)
    if checkpoint:
        learner.restore(checkpoint.state, str(checkpoint.path))
    if group.size > 1:
        state = shared_arrays(group, learner.state() if group.rank == 0 else {})
        if group.rank:
            learner.restore(state, "the state of rank 0")
    return learner


def specify(settings: Hyperparameters, weights: tuple[float, ...] | None, trainer: Trainer) -> LearnerSpecification:
    """Returns the specification of the job's learner; weights: of the classes in the loss."""
    return LearnerSpecification(
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
        precision=trainer.precision,
        tf32=settings.tf32,
        syncbn=settings.syncbn,
        kvstore=settings.kvstore,
    )


def _first_arrays(
    specification: LearnerSpecification,
    settings: Hyperparameters,
    earlier: Earlier | None,
    checkpoint: Checkpoint | None,
) -> tuple[Arrays, str]:
    """Returns the learner's first parameters, and the name of their source for error messages.

    These are an earlier model's, with initial values added only for an auxiliary head it was built without: the engine
    rejects a model that lacks anything else. Without an earlier model they are initial values, with the pretrained
    backbone's if the settings ask for it. Raises ArtifactError and HyperparameterError for the backbone's file.
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
    """Whether the network starts from the pretrained backbone, rather than an earlier model or a checkpoint."""
    return settings.use_pretrained_model and not earlier and not checkpoint


def build_schedule(settings: Hyperparameters, samples: int) -> Schedule:
    """Returns the learning rate schedule for `samples` an epoch, and logs the built-in algorithm's line about it."""
    iterations = iterations_per_epoch(samples, settings.mini_batch_size)
    LOGGER.info("LRScheduler setup: iters per epoch: %d, num_epochs %d", iterations, settings.epochs)
    return schedule(settings, iterations)


def early_stopping(settings: Hyperparameters) -> EarlyStopping | None:
    """Returns the early stopping rule; None if it is disabled."""
    if not settings.early_stopping:
        return None
    return EarlyStopping(
        settings.early_stopping_min_epochs, settings.early_stopping_patience, settings.early_stopping_tolerance
    )
