"""The model directory: which parameter file it has, which network that is for, and how both are written."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semseg.artifact.params import read_params
from semseg.errors import ArtifactError, UserError
from semseg.sagemaker.config_files import read_json_object
from semseg.types import Arrays

BEST = "model_best.params"
LAST = "model_algo-1"
HYPERPARAMS = "hyperparams.json"

_HEADS = {"psp": "head.psp.", "deeplab": "head.aspp.", "fcn": "head.block."}  # the others have a head.block too
_BACKBONES = {6: "resnet-50", 23: "resnet-101"}  # by the blocks of layer3
_CLASSIFIER = "head.block.4.weight"


@dataclass(frozen=True)
class ModelDescription:
    """Which network a model directory holds.

    algorithm: fcn, psp or deeplab; backbone: resnet-50 or resnet-101; aux: whether the file has the auxiliary head;
    params: the file with the parameters.
    """

    algorithm: str
    backbone: str
    num_classes: int
    crop_size: int
    aux: bool
    params: Path


def describe(model_dir: Path) -> ModelDescription:
    """Describe the network of `model_best.params`, or else of `model_algo-1`; other files are ignored.

    The parameters' names and shapes tell the network. `hyperparams.json`, whose full form nobody has seen, may lack
    any key or be absent (crop_size is then 240, the original's default), but must not contradict them.
    Raises ArtifactError when there is no parameter file, it is damaged or foreign, or the two files disagree.
    """
    path = _parameter_file(model_dir)
    arrays = read_params(path)
    stated = _read_hyperparams(model_dir / HYPERPARAMS)
    return ModelDescription(
        algorithm=stated.agreeing("algorithm", _algorithm(arrays, path)),
        backbone=stated.agreeing("backbone", _backbone(arrays, path)),
        num_classes=int(stated.agreeing("num_classes", str(_num_classes(arrays, path)))),
        crop_size=stated.crop_size(),
        aux=any(name.startswith("auxlayer.") for name in arrays),
        params=path,
    )


def write_hyperparams(model_dir: Path, values: Mapping[str, str]) -> None:
    """Write `hyperparams.json`, atomically."""
    with replacing(model_dir / HYPERPARAMS) as temporary:
        temporary.write_text(json.dumps(dict(values), indent=2) + "\n")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; what is written there becomes `path` at once, or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.replace(path)
        _flush_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parameter_file(model_dir: Path) -> Path:
    for name in (BEST, LAST):
        if (model_dir / name).is_file():
            return model_dir / name
    raise ArtifactError(
        f"{model_dir} holds neither {BEST} nor {LAST}.", "Give the unpacked model.tar.gz of a training job."
    )


def _algorithm(arrays: Arrays, path: Path) -> str:
    for algorithm, prefix in _HEADS.items():
        if any(name.startswith(prefix) for name in arrays):
            return algorithm
    raise _foreign(path, "it has no head of FCN, PSP or DeepLab")


def _backbone(arrays: Arrays, path: Path) -> str:
    blocks = sum(name.startswith("layer3.") and name.endswith(".conv1.weight") for name in arrays)
    if blocks not in _BACKBONES:
        raise _foreign(path, f"its layer3 has {blocks} blocks, ResNet-50 has 6 and ResNet-101 has 23")
    return _BACKBONES[blocks]


def _num_classes(arrays: Arrays, path: Path) -> int:
    shape = arrays[_CLASSIFIER].shape if _CLASSIFIER in arrays else ()
    if len(shape) != 4:
        raise _foreign(path, f"it has no 4-dimensional {_CLASSIFIER}")
    if not 2 <= shape[0] <= 254:
        raise ArtifactError(f"{path} holds a network of {shape[0]} classes; a mask of 8 bits takes 2 to 254.")
    return shape[0]


def _foreign(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path} does not hold one of the six networks: {reason}.",
        "It must be the parameters of GluonCV's FCN, PSPNet or DeepLabV3 on ResNet-50 or ResNet-101 v1s.",
    )


@dataclass(frozen=True)
class _Stated:
    """What hyperparams.json says, as plain text."""

    path: Path
    values: Mapping[str, str]

    def agreeing(self, key: str, found: str) -> str:
        """Return `found`, which the parameters tell, unless the file says another value."""
        stated = self.values.get(key, found)
        if stated != found:
            raise ArtifactError(
                f"{self.path} says that {key} is {stated:.100}, but the parameters are of {key} {found}.",
                "The files come from different trainings: take both from one.",
            )
        return found

    def crop_size(self) -> int:
        """Return the crop size rounded up to a multiple of 8, as training does."""
        text = self.values.get("crop_size", "240")
        if not re.fullmatch("[1-9][0-9]{0,4}", text):
            raise ArtifactError(f"{self.path} says that crop_size is {text:.100}, not a number of pixels.")
        return -(-int(text) // 8) * 8


def _read_hyperparams(path: Path) -> _Stated:
    """Read values that may be typed or strings, bare or JSON-quoted; null counts as missing."""
    try:
        values = read_json_object(path)
    except UserError as error:
        raise ArtifactError(error.message) from error
    return _Stated(path, {key: _plain(value) for key, value in values.items() if value is not None})


def _plain(value: Any) -> str:
    """`"fcn"`, `fcn`, 21, 21.0 and "21.0" -> fcn, fcn, 21, 21, 21."""
    return str(value).strip().strip('"').removesuffix(".0")
