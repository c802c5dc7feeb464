"""The hyperparameters: each declaration gives the parser, range check, default and documentation of one.

Names, defaults, ranges and error texts are those of the built-in algorithm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from semseg.errors import HyperparameterError
from semseg.networks.definitions import BACKBONES, NETWORKS, titles
from semseg.sagemaker.optimizers import OPTIMIZERS, readers
from semseg.sagemaker.rules import Rule, boolean, choice, epoch_list, integer, real, text, weights
from semseg.sagemaker.unexpected import is_the_platforms, missing, text_of, unknown

MAX_CLASSES = 254
"""An 8-bit mask has no values for more, as 255 marks ignored pixels."""


@dataclass(frozen=True)
class Hyperparameters:
    """The validated hyperparameters of a job, from `parse`. Field names lack the leading `_` of some names."""

    backbone: str = choice("backbone", "resnet-50", tuple(one.name for one in BACKBONES), "encoder")
    algorithm: str = choice("algorithm", "fcn", tuple(one.name for one in NETWORKS), titles(NETWORKS))
    use_pretrained_model: bool = boolean(
        "use_pretrained_model", "True", "start from a backbone pretrained on ImageNet; the decoder is not pretrained"
    )
    num_classes: int = integer("num_classes", None, "number of classes", low=2, high=MAX_CLASSES, required=True)
    num_training_samples: int | None = integer(
        "num_training_samples", None, "length of an epoch for the learning rate schedule; counted by default", low=1
    )
    base_size: int = integer("base_size", "520", "long side before cropping: base_size * U(0.5, 2)", low=17)
    crop_size: int = integer("crop_size", "240", "side of the square crop, rounded up to a multiple of 8", low=17)
    epochs: int = integer("epochs", "10", "passes over the training data", low=1, may_differ=True)
    learning_rate: float = real("learning_rate", "0.001", "initial learning rate", "(0, 1]")
    optimizer: str = choice("optimizer", "sgd", tuple(OPTIMIZERS), "optimizer")
    lr_scheduler: str = choice("lr_scheduler", "poly", ("step", "poly", "cosine"), "learning rate schedule")
    lr_scheduler_factor: float = real(
        "lr_scheduler_factor", "0.1", "step: factor applied to the learning rate at each step", "[0, 1]"
    )
    lr_scheduler_step: tuple[int, ...] = epoch_list(
        "lr_scheduler_step", "step, which requires it: the epochs after which the rate drops"
    )
    weight_decay: float = real("weight_decay", "0.0001", f"{readers('weight_decay')}: weight decay", "(0, 1)")
    momentum: float = real("momentum", "0.9", f"{readers('momentum')}: momentum", "(0, 1]")
    gamma1: float = real(
        "gamma1", "0.9", f"{readers('gamma1')}: decay of the average of the squared gradient", "[0, 1]"
    )
    gamma2: float = real("gamma2", "0.9", f"{readers('gamma2')}: momentum", "[0, 1]")
    mini_batch_size: int = integer("mini_batch_size", "16", "images in one update, over all devices", low=1)
    validation_mini_batch_size: int = integer(
        "validation_mini_batch_size", "16", "1: whole images; more: center crops of crop_size", low=1
    )
    early_stopping: bool = boolean("early_stopping", "False", "stop when the mIOU no longer improves", may_differ=True)
    early_stopping_min_epochs: int = integer(
        "early_stopping_min_epochs", "5", "minimum number of epochs", low=0, may_differ=True
    )
    early_stopping_patience: int = integer(
        "early_stopping_patience",
        "4",
        "consecutive epochs without improvement before stopping; 0 means 1",
        low=0,
        may_differ=True,
    )
    early_stopping_tolerance: float = real(
        "early_stopping_tolerance",
        "0.0",
        "smallest relative gain of mIOU that counts as an improvement",
        "[0, 1]",
        may_differ=True,
    )
    syncbn: bool = boolean(
        "syncbn", "False", "on several GPUs, normalise with the statistics of the whole batch, as one GPU does"
    )
    precision_dtype: str = choice(
        "precision_dtype",
        "float32",
        ("float32", "bfloat16", "float16", "auto"),
        "what training computes in; auto: bfloat16 where engine and device are faster in it, else float32",
        may_differ=True,
    )
    kvstore: str = text(
        "_kvstore",
        "device",
        "MXNet: what adds up the gradients of several GPUs: device, local or nccl",
        may_differ=True,
    )
    num_kv_servers: str = text("_num_kv_servers", "auto", "accepted, without effect", may_differ=True)
    workers: int = integer(
        "_workers", "16", "threads that decode and augment, at most one for each core", low=0, may_differ=True
    )
    aux_loss: bool = boolean("_aux_loss", "True", "train the auxiliary head")
    aux_weight: float = real("_aux_weight", "0.5", "weight of the auxiliary head in the loss printed", "[0, inf)")
    hybrid: bool = boolean("_hybrid", "False", "accepted, without effect", may_differ=True)
    augmentation_type: str = choice("_augmentation_type", "default", ("default",), "augmentation")
    logging_frequency: int = integer(
        "_logging_frequency", "20", "iterations between progress notices", low=1, may_differ=True
    )
    export_onnx: bool = boolean(
        "_export_onnx", "True", "also write model.onnx, which makes serving start sooner", may_differ=True
    )
    quantize: bool = boolean(
        "_quantize",
        "False",
        "also write model_int8.onnx, faster on CPUs, if it loses at most 0.5 points of mIOU",
        may_differ=True,
    )
    serving_scale: str = choice(
        "_serving_scale",
        "none",
        ("none", "base"),
        "size at which the model is served and finally scored: images' own, or base_size as their long side",
        may_differ=True,
    )
    label_attribute: str | None = text(
        "_label_attribute", None, "key of the annotation, for manifests with several keys that end in -ref"
    )
    class_weights: str | tuple[float, ...] = weights(
        "_class_weights", "none", ("none", "auto"), "weight of each class in the loss; auto balances them"
    )
    loss: str = choice("_loss", "cross_entropy", ("cross_entropy", "focal", "dice+ce"), "loss that training minimises")
    gradient_clip: float = real(
        "_gradient_clip", "0.0", "norm to which larger gradients are scaled down; 0: no limit", "[0, inf)"
    )
    tensorboard: bool = boolean(
        "_tensorboard", "False", "also write TensorBoard's event files, into output/data/tensorboard", may_differ=True
    )
    checkpoint_minutes: float = real(
        "_checkpoint_minutes",
        "10.0",
        "minutes between checkpoints within an epoch; each epoch also ends with one",
        "(0, inf)",
        may_differ=True,
    )
    seed: int = integer("_seed", "0", "seed of everything random except MXNet's dropout on GPUs", low=0, high=2**31 - 1)
    device: str = choice(
        "_device",
        "auto",
        ("auto", "cpu", "gpu"),
        "cpu: use no GPU; gpu: fail without one, on any instance",
        may_differ=True,
    )
    engine: str = choice(
        "_engine",
        "auto",
        ("auto", "mxnet", "torch"),
        "library that trains; auto: MXNet where it is installed and can use the device, else PyTorch",
        may_differ=True,
    )
    gpus: int | None = integer(
        "_gpus", None, "GPUs of each machine that train; all by default", low=1, high=64, may_differ=True
    )
    ranks: int | None = integer(
        "_ranks",
        None,
        "torch: processes that train on each machine's CPU; 1 by default",
        low=1,
        high=64,
        may_differ=True,
    )
    rendezvous_minutes: float = real(
        "_rendezvous_minutes", "15.0", "minutes that hosts wait for each other", "(0, inf)", may_differ=True
    )
    tf32: bool = boolean(
        "_tf32", "False", "torch: let GPUs round float32 to TF32's 10 bits in convolutions", may_differ=True
    )

    def as_strings(self) -> dict[str, str]:
        """Returns the values by name, formatted like the platform's; leaves out those without a value."""
        named = ((rule.name, getattr(self, name)) for name, rule in _rules().items())
        return {name: _as_string(value) for name, value in named if value not in (None, ())}


def _rules() -> dict[str, Rule]:
    """Returns the rule of each field of Hyperparameters."""
    return {field.name: field.metadata["rule"] for field in fields(Hyperparameters)}


def rules() -> list[Rule]:
    """Returns the rules of all hyperparameters, in the built-in algorithm's order."""
    return list(_rules().values())


def defaults() -> dict[str, str]:
    """Returns the default of each hyperparameter that has one, as text."""
    return {rule.name: rule.default for rule in rules() if rule.default is not None}


def parse(given: Mapping[str, Any]) -> tuple[Hyperparameters, list[str]]:
    """Returns a job's hyperparameters, and warnings about those that have no effect.

    `given` maps names to strings, bare or in one layer of JSON quotes, as SDKs send both; numbers and booleans are
    accepted too. crop_size is rounded up to a multiple of 8.

    Raises HyperparameterError for missing, unknown and invalid ones, in the built-in algorithm's words where known.
    """
    values, warnings, errors = _parsed(given)
    if len(errors) > 1:
        listed = "\n".join(f"- {error}" for error in errors)
        raise HyperparameterError(f"{len(errors)} hyperparameters are wrong:\n{listed}")
    if errors:
        raise errors[0]
    values["crop_size"] = -(-values["crop_size"] // 8) * 8
    return Hyperparameters(**values), warnings


def faults(given: Mapping[str, Any]) -> list[HyperparameterError]:
    """Returns what is wrong with hyperparameters that `parse` would refuse, one error for each."""
    return _parsed(given)[2]


def _parsed(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[HyperparameterError]]:
    """Returns the valid values by field, warnings, and all errors."""
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    warnings: list[str] = []
    errors: list[HyperparameterError] = []
    known = {rule.name for rule in rules()}
    for name, value in given.items():
        with _collecting(errors):
            texts[name] = text_of(name, value)
            if name not in known and not is_the_platforms(name):
                warnings.append(unknown(name, [rule.name for rule in rules()]))
    given_wrongly = {error.name for error in errors}
    texts = defaults() | texts
    if texts["lr_scheduler"] != "step":
        texts.pop("lr_scheduler_step", None)  # unused, so no value is an error
    absent = [rule.name for rule in rules() if rule.required and not texts.get(rule.name)]
    if texts["lr_scheduler"] == "step" and not texts.get("lr_scheduler_step"):
        absent.append("lr_scheduler_step")
    if absent := [name for name in absent if name not in given_wrongly]:
        errors.append(missing(absent))
    for field, rule in _rules().items():
        with _collecting(errors):
            values[field] = _value(rule, None if rule.name in absent else texts.get(rule.name))
    if {"class_weights", "num_classes"} <= values.keys():
        with _collecting(errors):
            _require_weight_for_each_class(values["class_weights"], values["num_classes"])
    return values, warnings, errors


@contextmanager
def _collecting(errors: list[HyperparameterError]) -> Iterator[None]:
    """Adds the error that the block raises to a list."""
    try:
        yield
    except HyperparameterError as error:
        errors.append(error)


def _require_weight_for_each_class(class_weights: str | tuple[float, ...] | None, num_classes: int | None) -> None:
    if isinstance(class_weights, tuple) and num_classes is not None and len(class_weights) != num_classes:
        raise HyperparameterError(
            f"The '_class_weights' hyperparameter has {len(class_weights)} numbers, but num_classes is {num_classes} "
            "(caused by ValidationError)",
            "Give one for each class, in the order of class ids, or 'auto'.",
            "_class_weights",
            f"has {len(class_weights)} numbers, but there are {num_classes} classes.",
        )


def _value(rule: Rule, text: str | None) -> Any:
    if text is None:
        return () if rule.name == "lr_scheduler_step" else None
    return rule(text)


def _as_string(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
