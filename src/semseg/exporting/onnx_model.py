"""Exports a trained network as an ONNX file, whose metadata name the parameters that it was made from."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from onnx import helper

from semseg.artifact.model_dir import ModelDescription
from semseg.artifact.onnx_file import DIGEST
from semseg.codecs.colors import color_name
from semseg.codecs.params import read_params
from semseg.files import replacing
from semseg.networks.onnx import onnx_model
from semseg.types import IMAGENET_MEAN, IMAGENET_STD
from semseg.version import __version__


def build_onnx(model: ModelDescription) -> bytes:
    """The network of a model directory as the content of an ONNX file.

    Input `image`: float32 (N, 3, H, W), (RGB / 255 - mean) / std; output `logits`: float32 (N, C, ceil(H/stride),
    ceil(W/stride)); any N, H and W from 1. Batch normalisation is folded in, auxiliary head and dropout are left out.
    The metadata are texts or JSON: mean, std, classes and colors (if known), semseg_version, onnx_version, and
    params_sha256, the digest of the parameter file. Raises ArtifactError when that file does not fit the network.
    """
    arrays = read_params(model.params)
    content = onnx_model(model.network, model.backbone, model.num_classes, arrays, str(model.params))
    helper.set_model_props(content, _metadata(model))
    serialized: bytes = content.SerializeToString()
    return serialized


def write_onnx(model: ModelDescription, path: Path) -> None:
    """Write the network of a model directory to an ONNX file, atomically. Raises ArtifactError and OSError."""
    content = build_onnx(model)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _metadata(model: ModelDescription) -> dict[str, str]:
    classes = {"classes": json.dumps(model.classes.titles)} if model.classes.named else {}
    if model.classes.colored:
        colors = {str(class_id): color for class_id, color in enumerate(model.classes.colors) if color is not None}
        classes["colors"] = json.dumps({class_id: color_name(color) for class_id, color in colors.items()})
    return classes | {
        "mean": json.dumps(IMAGENET_MEAN),
        "std": json.dumps(IMAGENET_STD),
        "semseg_version": __version__,
        "onnx_version": onnx.__version__,
        DIGEST: model.digest,
    }
