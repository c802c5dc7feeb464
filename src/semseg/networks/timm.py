"""Converts timm's port of GluonCV's backbones back into GluonCV's parameters.

timm's `resnet50s.gluon_in1k` and `resnet101s.gluon_in1k` have the same layers and names, except that timm calls the
parameters of batch normalisation `weight` and `bias` instead of `gamma` and `beta`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from semseg.codecs.params import write_params
from semseg.errors import FormatError, WeightsError, first_few
from semseg.files import naming_file, require_file
from semseg.networks.backbones import PRETRAINED, imported_name
from semseg.networks.definitions import BACKBONES, Backbone, titles
from semseg.networks.parameters import backbone_table
from semseg.networks.store import writing_file
from semseg.types import Arrays

MAX_BYTES = 512 << 20
"""Limit for a file: that of ResNet-101 has 179 MB."""

_CLASSIFIER = ("fc.weight", "fc.bias")
_BATCH_COUNT = ".num_batches_tracked"
_DTYPES = ("F32", "F16")

_Names = dict[str, tuple[str, tuple[int, ...]]]
"""Maps timm's name of each parameter of a backbone to GluonCV's name and the shape."""


def import_backbone(source: Path, folder: Path) -> Path:
    """Convert timm's model.safetensors to a file for `backbones.read_backbone`, and return its path.

    Creates the folder if necessary, and replaces the file of an earlier import. The arrays must be float32 or float16,
    with the names and shapes of the backbone; in addition only the classifier (`fc`) and `num_batches_tracked`, which
    are ignored, may be there. Raises WeightsError, which names what does not fit, and writes nothing then.
    """
    ports = " or ".join(pretrained.timm for pretrained in PRETRAINED.values())
    with naming_file(source, WeightsError, f"Give the model.safetensors of timm's {ports}, copied whole."):
        backbone, arrays = _read(source)
    path = folder / imported_name(backbone.name)
    with writing_file(path, "--out names another folder.") as temporary:
        write_params(temporary, arrays)
    return path


def _read(source: Path) -> tuple[Backbone, Arrays]:
    """The backbone in a file, and its arrays, float32, by GluonCV's names."""
    from safetensors import SafetensorError, safe_open

    require_file(source)
    if (size := source.stat().st_size) > MAX_BYTES:
        raise FormatError(f"has {size:,} bytes, more than the {MAX_BYTES:,} allowed")
    try:
        with safe_open(source, framework="np") as file:
            backbone, names = _nearest(set(file.keys()))
            _check_names(file, names)
            arrays = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise FormatError(f"is not a safetensors file, or is damaged ({error!s:.200})") from error
    _check_values(arrays)
    return backbone, {names[name][0]: array.astype(np.float32) for name, array in arrays.items()}


def _nearest(found: set[str]) -> tuple[Backbone, _Names]:
    """The backbone that shares most names with a file, and timm's names of its parameters."""
    candidates = [(backbone, _timm_names(backbone)) for backbone in BACKBONES]
    backbone, names = min(candidates, key=lambda candidate: len(candidate[1].keys() ^ found))
    if len(names.keys() & found) <= len(names) // 2:
        raise FormatError(f"is of a network other than {titles(BACKBONES)}")
    return backbone, names


def _timm_names(backbone: Backbone) -> _Names:
    return {
        re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name)): (name, parameter.shape)
        for name, parameter in backbone_table(backbone).items()
    }


def _check_names(file: Any, names: _Names) -> None:
    """Raise FormatError unless the open file has exactly these arrays, apart from those that are ignored."""
    found = set(file.keys())
    counts = {name.removesuffix(".running_var") + _BATCH_COUNT for name in names if name.endswith(".running_var")}
    unknown = found - names.keys() - counts - {*_CLASSIFIER}
    _require_none(
        missing=sorted(names.keys() - found),
        unknown=sorted(f"{name!r:.100}" for name in unknown),
        wrong=[
            f"{name} ({fault})"
            for name in sorted(names.keys() & found)
            if (fault := _fault(file.get_slice(name), names[name][1]))
        ],
    )


def _fault(array: Any, shape: tuple[int, ...]) -> str:
    """What is wrong with the shape or dtype of an array; empty if nothing is."""
    found = tuple(array.get_shape())
    if found != shape:
        return f"shape {found!s:.100} instead of {shape}"
    return "" if array.get_dtype() in _DTYPES else f"dtype {array.get_dtype()} instead of {' or '.join(_DTYPES)}"


def _check_values(arrays: Arrays) -> None:
    variances = {name: array for name, array in arrays.items() if name.endswith(".running_var")}
    _require_none(
        infinite=[name for name, array in arrays.items() if not np.isfinite(array).all()],
        negative=[name for name, array in variances.items() if (array < 0).any()],
    )


def _require_none(**faults: list[str]) -> None:
    """Raise FormatError if any list is not empty; `faults` has the names of faulty arrays by kind of fault."""
    texts = [f"{kind} {first_few(names, 4)}" for kind, names in faults.items() if names]
    if texts:
        raise FormatError(f"does not fit the network: {'; '.join(texts)}")
