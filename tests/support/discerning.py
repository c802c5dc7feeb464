"""Networks that tell dark pictures from bright ones, and those pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from semseg.artifact.model_dir import describe
from semseg.codecs.params import read_params, write_params
from semseg.exporting.onnx_model import build_onnx
from semseg.inference.predictor import normalise
from semseg.types import IGNORED, Arrays, Float32, UInt8

DARK, BRIGHT = 0, 1
MIDDLE = (slice(12, 28), slice(12, 36))


def picture(brightness: int, seed: int = 0) -> UInt8:
    """Noise of 40 levels around a brightness."""
    noise = np.random.default_rng(seed).integers(-20, 20, (40, 48, 3))
    return (brightness + noise).astype(np.uint8)


def labelled(count: int = 3) -> list[tuple[UInt8, UInt8 | None]]:
    """Dark and bright pictures in turn; only the middle is labelled: towards the edge features are others."""
    found: list[tuple[UInt8, UInt8 | None]] = []
    for seed, (label, level) in enumerate([(DARK, 40), (BRIGHT, 200)] * count):
        labels = np.full((40, 48), IGNORED, np.uint8)
        labels[MIDDLE] = label
        found.append((picture(level, seed), labels))
    return found


def discerning_arrays(model_dir: Path) -> Arrays:
    """Parameters that tell dark pictures from bright ones by all features of the network in a directory."""
    arrays = {name: np.array(array) for name, array in read_params(model_dir / "model_best.params").items()}
    dark, bright = features(model_dir, picture(40)), features(model_dir, picture(200))
    direction = (bright - dark).mean(axis=1) / (bright.var(axis=1) + dark.var(axis=1) + 1e-6)
    middle = (direction @ bright).min() / 2 + (direction @ dark).max() / 2
    arrays["head.block.4.weight"][:] = 0
    arrays["head.block.4.weight"][BRIGHT, :, 0, 0] = direction
    arrays["head.block.4.bias"][:] = 0, -middle, -1e6
    return arrays


def features(model_dir: Path, image: UInt8) -> Float32:
    """What the last convolution takes in, away from the edge: float32 (512, places)."""
    model = onnx.load_from_string(build_onnx(describe(model_dir)))
    name = model.graph.node[-1].input[0]
    model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Float32 = session.run([name], {"image": normalise(image)})[0][0, :, 1:4, 1:5]
    return found.reshape(len(found), -1)


def outliers(arrays: Arrays, stages: Sequence[str]) -> Arrays:
    """The parameters with channel 0 of each stage as told."""
    changed = {name: array.copy() for name, array in arrays.items()}
    following = {"layer1": "layer2.0", "layer2": "layer3.0", "layer3": "layer4.0", "layer4": "head.block.0"}
    for stage in stages:
        changed[f"{stage}.0.bn3.beta"][0] = 10_000
        takers = [f"{block}.conv1.weight" for block in blocks_after_the_first(arrays, stage)]
        takers += [f"{following[stage]}{part}.weight" for part in ("", ".conv1", ".downsample.0")]
        for name in set(takers) & set(changed):
            changed[name][:, 0] = 0
    return changed


def blocks_after_the_first(arrays: Arrays, stage: str) -> set[str]:
    blocks = {".".join(name.split(".")[:2]) for name in arrays if name.startswith(f"{stage}.")}
    return blocks - {f"{stage}.0"}


def write(arrays: Arrays, directory: Path) -> Path:
    """The directory, with these parameters as a model."""
    write_params(directory / "model_best.params", arrays)
    return directory
