"""The parts of a run that the hyperparameters describe: device, learner, schedule, early stopping."""

from __future__ import annotations

import time
from typing import Any

from semseg.artifact.earlier import Earlier
from semseg.data.report import Report, class_weights
from semseg.engines.protocols import Learner
from semseg.errors import DeviceError
from semseg.sagemaker.channels import Hosts
from semseg.sagemaker.hyperparameters import Hyperparameters
from semseg.sagemaker.log_lines import LOGGER
from semseg.training.checkpoints import Checkpoint
from semseg.training.schedules import Schedule, iterations_per_epoch, schedule
from semseg.training.stopping import EarlyStopping


def choose_device(wanted: str, hosts: Hosts) -> Any:
    """The engine's device to train on, the first GPU, else the CPU; logged in the original's words.

    wanted: the hyperparameter `_device`. Where the instance or device files show a GPU, `auto` is not content with the
    CPU, unless the engine can compute on no other: then a warning tells.
    Raises DeviceError, with the cause and the ways out, when no GPU can be used that is wanted or to be expected.
    """
    from semseg.engines.gluon import cuda, runtime

    start = time.perf_counter()
    runtime.load()  # raises where not even the CPU is of use
    sign = _sign_of_gpu(hosts)
    if wanted == "cpu":
        device, gpus = runtime.cpu(), 0
    else:
        try:
            device, gpus = runtime.devices(required=wanted == "gpu" or (sign != "" and cuda.is_installed()))
        except DeviceError as error:
            expected = sign or ("_device is gpu" if wanted == "gpu" else "")
            raise DeviceError(
                f"{expected}. {error.message}" if expected else error.message,
                f"{error.hint} Or set _device=cpu, to train on the CPU, slowly.",
            ) from error
    LOGGER.info("nvidia-smi: took %.3f seconds to run.", time.perf_counter() - start)
    LOGGER.info("nvidia-smi identified %d GPUs.", gpus)
    LOGGER.info("Number of GPUs being used: %d", min(gpus, 1))
    if gpus > 1:
        LOGGER.warning("%d GPUs found, of which only the first is used: several are not supported yet.", gpus)
    if sign and not gpus and wanted == "auto":
        LOGGER.warning(
            "%s, but MXNet's cpu variant trains on the CPU. The gpu image, or the gpu variant, trains on the GPU; "
            "_device=cpu says that the CPU is meant.",
            sign,
        )
    return device


def _sign_of_gpu(hosts: Hosts) -> str:
    """What makes one expect a GPU here, as a sentence; empty for nothing."""
    from semseg.engines.gluon import cuda

    if hosts.has_gpu:
        return f"The instance is {hosts.instance_type}"
    files = cuda.device_files()
    return f"The machine has the device file {files[0]}" if files else ""


def require_backbone(settings: Hyperparameters, earlier: Earlier | None, checkpoint: Checkpoint | None) -> None:
    """Find or fetch the backbone's file if a learner needs it, which it would else tell only when all data is read.

    Raises HyperparameterError when the file is not to be had.
    """
    from semseg.networks.backbones import find_backbone

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
    device: Any = None,
) -> Learner:
    """A learner with the state of the checkpoint, or the parameters of the earlier model, or as the settings say.

    device: what `choose_device` returned; None for the first GPU, or else the CPU.
    """
    from semseg.engines.gluon import learner as gluon
    from semseg.engines.gluon.losses import BalancedLoss

    criterion = None
    if weights or settings.loss != "cross_entropy":
        criterion = BalancedLoss(settings.loss, weights, settings.num_classes, settings.aux_weight)
    learner = gluon.build_learner(
        settings.algorithm,
        settings.backbone,
        settings.num_classes,
        gluon.Optimizer(
            settings.optimizer,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            gamma1=settings.gamma1,
            gamma2=settings.gamma2,
            gradient_clip=settings.gradient_clip,
        ),
        aux_loss=settings.aux_loss,
        aux_weight=settings.aux_weight,
        use_pretrained=_is_pretrained(settings, earlier, checkpoint),
        seed=settings.seed,
        criterion=criterion,
        device=device,
    )
    if checkpoint:
        learner.restore(checkpoint.state, str(checkpoint.path))
    elif earlier:
        learner.load(earlier.arrays, earlier.origin)
    return learner


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
