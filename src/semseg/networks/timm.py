"""Turns timm's port of GluonCV's backbones back into GluonCV's parameters.

timm's `resnet50s.gluon_in1k` and `resnet101s.gluon_in1k` are the same layers by the same names, but for those of batch
normalisation: `weight` and `bias` there, `gamma` and `beta` here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from semseg.codecs.params import write_params
from semseg.errors import FormatError, WeightsError, first_few, one_line
from semseg.networks.backbones import PRETRAINED, imported_name
from semseg.networks.definitions import BACKBONES, Backbone, titles
from semseg.networks.parameters import backbone_table
from semseg.networks.store import placing
from semseg.types import Arrays

MAX_BYTES = 512 << 20
"""Of a file: that of ResNet-101 has 179 MB."""

_CLASSIFIER = ("fc.weight", "fc.bias")
_BATCHES = ".num_batches_tracked"
_DTYPES = ("F32", "F16")

_Names = dict[str, tuple[str, tuple[int, ...]]]
"""What timm calls each parameter of a backbone, to GluonCV's name and the shape."""


def import_backbone(source: Path, folder: Path) -> Path:
    """Write the weights of timm's model.safetensors as a file for `backbones.read_backbone`, and return its path.

    The folder is made if need be; a file of an earlier import is replaced. The arrays are of float32 or float16; names
    and shapes must be those of the backbone, besides them only the classifier (`fc`), which has no use here, and
    `num_batches_tracked`. Raises WeightsError, which names what does not fit, and writes nothing then.
    """
    try:
        backbone, arrays = _read(source)
    except FormatError as fault:
        ports = " or ".join(pretrained.timm for pretrained in PRETRAINED.values())
        raise WeightsError(
            f"{one_line(str(source))} {fault}.", f"Give the model.safetensors of timm's {ports}, copied whole."
        ) from None
    except OSError as error:
        raise WeightsError(f"{one_line(str(source))} cannot be read: {error.strerror or error}.") from error
    path = folder / imported_name(backbone.name)
    with placing(path, "--out names another folder.") as temporary:
        write_params(temporary, arrays)
    return path


def _read(source: Path) -> tuple[Backbone, Arrays]:
    """The backbone that a file is of, and its arrays, float32, by GluonCV's names."""
    from safetensors import SafetensorError, safe_open

    if not source.is_file():
        raise FormatError("is not there" if not source.exists() else "is not a file")
    if (size := source.stat().st_size) > MAX_BYTES:
        raise FormatError(f"has {size:,} bytes, more than the {MAX_BYTES:,} allowed")
    try:
        with safe_open(source, framework="np") as file:
            backbone, names = _nearest(set(file.keys()))
            _check_names(file, names)
            arrays = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise FormatError(f"is no safetensors file, or a damaged one ({error!s:.200})") from error
    _check_values(arrays)
    return backbone, {names[name][0]: array.astype(np.float32) for name, array in arrays.items()}


def _nearest(found: set[str]) -> tuple[Backbone, _Names]:
    """The backbone that most of the names of a file are of, and what timm calls its parameters."""
    candidates = [(backbone, _timm_names(backbone)) for backbone in BACKBONES]
    backbone, names = min(candidates, key=lambda candidate: len(candidate[1].keys() ^ found))
    if len(names.keys() & found) <= len(names) // 2:
        raise FormatError(f"is of another network than {titles(BACKBONES)}")
    return backbone, names


def _timm_names(backbone: Backbone) -> _Names:
    return {
        re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name)): (name, parameter.shape)
        for name, parameter in backbone_table(backbone).items()
    }


def _check_names(file: Any, names: _Names) -> None:
    """Raise FormatError unless the file, opened but not read, has these arrays, and no other that has a use."""
    found = set(file.keys())
    batches = {name.removesuffix(".running_var") + _BATCHES for name in names if name.endswith(".running_var")}
    unknown = found - names.keys() - batches - {*_CLASSIFIER}
    _refuse(
        missing=sorted(names.keys() - found),
        unknown=sorted(f"{name!r:.100}" for name in unknown),
        wrong=[
            f"{name} ({fault})"
            for name in sorted(names.keys() & found)
            if (fault := _fault(file.get_slice(name), names[name][1]))
        ],
    )


def _fault(array: Any, shape: tuple[int, ...]) -> str:
    """What is wrong with the form of an array, nothing if it is right."""
    found = tuple(array.get_shape())
    if found != shape:
        return f"shape {found!s:.100} instead of {shape}"
    return "" if array.get_dtype() in _DTYPES else f"dtype {array.get_dtype()} instead of {' or '.join(_DTYPES)}"


def _check_values(arrays: Arrays) -> None:
    variances = {name: array for name, array in arrays.items() if name.endswith(".running_var")}
    _refuse(
        infinite=[name for name, array in arrays.items() if not np.isfinite(array).all()],
        negative=[name for name, array in variances.items() if (array < 0).any()],
    )


def _refuse(**faults: list[str]) -> None:
    """Raise FormatError if there is any fault, by kind and array."""
    told = [f"{kind} {first_few(names, 4)}" for kind, names in faults.items() if names]
    if told:
        raise FormatError(f"does not fit the network: {'; '.join(told)}")
