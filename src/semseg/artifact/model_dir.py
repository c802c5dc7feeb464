"""Describes the network in a model directory, and writes the files beside its parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from semseg.artifact.misplaced import find_misplaced
from semseg.codecs.colors import color_name, parse_color
from semseg.codecs.params import read_params
from semseg.errors import ArtifactError, UserError, first_few, one_line
from semseg.files import naming_file, replacing, sha256
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network, titles
from semseg.networks.identify import Identity, identify
from semseg.networks.parameters import unusable_parameters
from semseg.sagemaker.channels import SPLITS, TEST
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.hyperparameters import MAX_CLASSES
from semseg.types import Arrays, Classes, is_class_name, unnamed

BEST = "model_best.params"
LAST = "model_algo-1"
HYPERPARAMS = "hyperparams.json"
ONNX = "model.onnx"
"""The network with the served parameters in ONNX form, which OpenVINO reads instead of them."""

INT8 = "model_int8.onnx"
"""The same in int8. It is only written if it passes its gate, and is then served instead."""

CLASSES = "classes.json"
"""The names of all classes, in the order of the ids, and the colours of those that have one:
`{"classes": ["background", "scratch"], "colors": {"1": "#2ca02c"}}`. A class without a name is called `class 3`."""

LABEL_MAPS = "label_maps.json"
"""The label map of each split of the training: `{"train": {"scale": 3}, "validation": {"scale": 3}}`. There is no such
file if the values of all annotations were the classes."""

NONE, BASE = "none", "base"
"""The values of `_serving_scale`: images are served at their own size, or with `base_size` as their long side."""

CARD = "README.md"
"""What the model is, for people: its data, classes, numbers, use and limits. Nothing reads it."""


@dataclass(frozen=True)
class ModelDescription:
    """The network in a model directory.

    crop_size: that of its training, None if unknown; aux: whether the file has the auxiliary head; params: the file
    with the parameters; classes: names and colours, as far as they are known; base_size: that of its training, None if
    unknown; serving_scale: the size at which it is to be served, NONE or BASE. label_maps: those of its training by
    split, as JSON objects that are not checked; empty if there was none, or if it is unknown.
    """

    network: Network
    backbone: Backbone
    num_classes: int
    crop_size: int | None
    aux: bool
    params: Path
    classes: Classes
    base_size: int | None = None
    serving_scale: str = NONE
    label_maps: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of `params` in hexadecimal digits, computed once. Raises ArtifactError if it cannot be read."""
        with naming_file(self.params, ArtifactError):
            return sha256(self.params)


def describe(model_dir: Path) -> ModelDescription:
    """Describe the network in `model_best.params`, or else in `model_algo-1`.

    The names and shapes of the parameters determine the network. `hyperparams.json` may lack any key or be absent, as
    the built-in algorithm's is not fully known, but must not contradict them. `classes.json` and `label_maps.json` may
    be absent, as the built-in algorithm writes none. All parameters are read once. Raises ArtifactError if there is no
    parameter file, if it is damaged, of another network or has infinite, NaN or otherwise unusable values, or if the
    files disagree.
    """
    path = parameter_file(model_dir)
    arrays = read_params(path)
    stated = _read_hyperparams(model_dir / HYPERPARAMS)
    found = _identify(arrays, path)
    stated.require("algorithm", found.network.name)
    stated.require("backbone", found.backbone.name)
    stated.require("num_classes", str(found.num_classes))
    _require_usable(arrays, path)
    return ModelDescription(
        found.network,
        found.backbone,
        found.num_classes,
        crop_size=stated.crop_size(),
        aux=found.auxiliary,
        params=path,
        classes=_read_classes(model_dir / CLASSES, found.num_classes),
        base_size=stated.base_size(),
        serving_scale=stated.serving_scale(),
        label_maps=_read_label_maps(model_dir / LABEL_MAPS),
    )


def files_of_model(model_dir: Path) -> tuple[str, ...]:
    """Return the names of a directory's files that hold a network, in any format; empty if there is none."""
    return tuple(name for name in (BEST, LAST, ONNX, INT8) if (model_dir / name).exists())


def write_hyperparams(model_dir: Path, values: Mapping[str, str]) -> None:
    """Write `hyperparams.json`, atomically."""
    with replacing(model_dir / HYPERPARAMS) as temporary:
        temporary.write_text(json.dumps(dict(values), indent=2) + "\n")


def write_classes(model_dir: Path, classes: Classes) -> None:
    """Write `classes.json`, atomically. Raises ArtifactError for a name that `describe` would reject."""
    path = model_dir / CLASSES
    content: dict[str, object] = {"classes": _checked_names(list(classes.titles), len(classes), path)}
    if classes.colored:
        colors = ((str(class_id), color) for class_id, color in enumerate(classes.colors))
        content["colors"] = {class_id: color_name(color) for class_id, color in colors if color is not None}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def write_label_maps(model_dir: Path, label_maps: Mapping[str, dict[str, Any]]) -> None:
    """Write `label_maps.json`, atomically. label_maps: JSON objects by split."""
    with replacing(model_dir / LABEL_MAPS) as temporary:
        temporary.write_text(json.dumps(dict(label_maps), indent=2) + "\n")


def parameter_file(model_dir: Path) -> Path:
    """Return the file of parameters that is served. Raises ArtifactError if there is none."""
    for name in (BEST, LAST):
        if (model_dir / name).is_file():
            return model_dir / name
    raise ArtifactError(
        f"{model_dir} holds neither {BEST} nor {LAST}.",
        find_misplaced(model_dir, (BEST, LAST)) or "Give the unpacked model.tar.gz of a training job.",
    )


def _identify(arrays: Arrays, path: Path) -> Identity:
    known = f"{titles(NETWORKS)} on {titles(BACKBONES)} v1s, by the names that GluonCV gives them"
    with naming_file(path, ArtifactError, f"It must be the parameters of {known}."):
        found = identify(arrays)
    if not 2 <= found.num_classes <= MAX_CLASSES:
        raise ArtifactError(
            f"{path} holds a network of {found.num_classes} classes; a mask of 8 bits takes 2 to {MAX_CLASSES}."
        )
    return found


def _require_usable(arrays: Arrays, path: Path) -> None:
    names = unusable_parameters(arrays)
    if names:
        raise ArtifactError(
            f"{path} has infinite or NaN values, or variances below 0, in {first_few(names)}.",
            "It is damaged, or its training diverged: train again with a lower learning rate, or give another model.",
        )


@dataclass(frozen=True)
class _Hyperparams:
    """The content of hyperparams.json, as plain strings."""

    path: Path
    values: Mapping[str, str]

    def require(self, key: str, found: str) -> None:
        """Raise ArtifactError if the file states a value other than `found`, which is that of the parameters."""
        stated = self.values.get(key, found)
        if stated != found:
            raise ArtifactError(
                f"{self.path} says that {key} is {one_line(stated):.100}, but the parameters are of {key} {found}.",
                "The files come from different trainings: take both from the same one.",
            )

    def crop_size(self) -> int | None:
        """Return the crop size rounded up to a multiple of 8, as training does; None if the file has none."""
        text = self.values.get("crop_size")
        if text is None:
            return None
        if not re.fullmatch("[1-9][0-9]{0,4}", text):
            raise ArtifactError(f"{self.path} says that crop_size is {one_line(text):.100}, not a number of pixels.")
        return -(-int(text) // 8) * 8

    def base_size(self) -> int | None:
        """Return the long side of the training's images; None if the file has no such number."""
        text = self.values.get("base_size", "")
        return int(text) if re.fullmatch("[1-9][0-9]{0,9}", text) else None

    def serving_scale(self) -> str:
        """Return NONE or BASE; NONE if the file has neither, like the built-in algorithm's."""
        text = self.values.get("_serving_scale", NONE)
        if text not in (NONE, BASE):
            raise ArtifactError(
                f"{self.path} says that _serving_scale is {one_line(text):.100}, neither {NONE} nor {BASE}.",
                "Correct it, or remove it.",
            )
        return text


def _read_hyperparams(path: Path) -> _Hyperparams:
    """Read values that may be typed or strings, bare or JSON-quoted; null counts as missing."""
    return _Hyperparams(path, {key: _plain(value) for key, value in _read_json(path).items() if value is not None})


def _plain(value: Any) -> str:
    """`"fcn"`, `fcn`, 21, 21.0 and "21.0" -> fcn, fcn, 21, 21, 21."""
    return str(value).strip().strip('"').removesuffix(".0")


def _read_classes(path: Path, num_classes: int) -> Classes:
    """Return the names and colours in a file, which may be missing; keys other than `classes`, `colors` are ignored."""
    if not path.exists():
        return Classes.unknown(num_classes)
    content = _read_json(path)
    titles = _checked_names(content.get("classes"), num_classes, path)
    names = (None if title == unnamed(class_id) else title for class_id, title in enumerate(titles))
    return Classes(tuple(names), _checked_colors(content.get("colors"), num_classes, path))


def _checked_names(names: object, num_classes: int, path: Path) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) != num_classes:
        found = f"{len(names)} of them" if isinstance(names, list) else f"{names!r:.100}"
        raise ArtifactError(
            f"{path} must hold a list of {num_classes} names under the key classes, one for each class, not {found}.",
            "Correct it, or remove it: the classes then have no names.",
        )
    for label, name in enumerate(names):
        if not is_class_name(name):
            raise ArtifactError(
                f"{path}: the name of class {label} is {name!r:.100}, not a text of 1 to 256 characters on one line."
            )
    return tuple(names)


def _checked_colors(colors: object, num_classes: int, path: Path) -> tuple[int | None, ...]:
    """The colour of each class from an object of texts such as `#2ca02c` by class id; None means no colours."""
    try:
        if colors is not None and not isinstance(colors, dict):
            raise ValueError(f"{colors!r:.40} is not an object.")
        given = {key: parse_color(str(color)) for key, color in (colors or {}).items()}
        if unknown := given.keys() - set(map(str, range(num_classes))):
            raise ValueError(f"{min(unknown)!r:.40} is not a class.")
        return tuple(given.get(str(class_id)) for class_id in range(num_classes))
    except ValueError as error:
        raise ArtifactError(
            f"{path}: under the key colors, {error}", "Correct it, or remove it: the classes then have no colours."
        ) from error


def _read_label_maps(path: Path) -> dict[str, dict[str, Any]]:
    """Return the label maps in a file, which may be missing; keys that are no splits are ignored."""
    content = _read_json(path)
    label_maps = {split: content[split] for split in (*SPLITS, TEST[0]) if split in content}
    for split, label_map in label_maps.items():
        if not isinstance(label_map, dict):
            raise ArtifactError(
                f"{path}: the label map of {split} is {label_map!r:.40}, not an object.",
                "Correct it, or remove it: the label maps of the training are then unknown.",
            )
    return label_maps


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file, empty if there is no file. Raises ArtifactError."""
    if path.exists() and not path.is_file():  # reading a FIFO would wait for its writer
        raise ArtifactError(f"{path} is not a file.")
    try:
        return read_json_object(path)
    except UserError as error:
        raise ArtifactError(error.message) from error
