from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from semseg.artifact.model_dir import describe
from semseg.artifact.params import read_params
from semseg.engines.gluon import networks, runtime
from semseg.inference.export import build_onnx
from semseg.inference.predictor import normalise
from semseg.inference.quantize import quantize
from semseg.types import IGNORED, Float32, UInt8

DARK, BRIGHT = 0, 1
MIDDLE = (slice(12, 28), slice(12, 36))


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FCN of random weights for 3 classes, without hyperparams.json."""
    directory = tmp_path_factory.mktemp("model")
    runtime.load().random.seed(0)
    networks.build("fcn", "resnet-50", 3, runtime.load().cpu()).save_parameters(str(directory / "model_best.params"))
    return directory


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    """A directory of the test's own with the same parameters."""
    directory = tmp_path / "copy"
    directory.mkdir()
    (directory / "model_best.params").symlink_to(model_dir / "model_best.params")
    return directory


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


@pytest.fixture(scope="session")
def discerning(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Sequence[str]], Path]]:
    """Makes networks that tell dark pictures from bright ones by all their features; class 2 is nowhere.

    Given stages, such as `layer1`, a channel of what their blocks hand on is 10,000 and has no weight in what follows:
    f32 does as well as without, int8 sees nothing but this channel.
    """
    arrays = {name: np.array(array) for name, array in read_params(model_dir / "model_best.params").items()}
    dark, bright = features(model_dir, picture(40)), features(model_dir, picture(200))
    direction = (bright - dark).mean(axis=1) / (bright.var(axis=1) + dark.var(axis=1) + 1e-6)
    middle = (direction @ bright).min() / 2 + (direction @ dark).max() / 2
    arrays["head.block.4.weight"][:] = 0
    arrays["head.block.4.weight"][BRIGHT, :, 0, 0] = direction
    arrays["head.block.4.bias"][:] = 0, -middle, -1e6
    written: list[Path] = []

    def make(stages: Sequence[str]) -> Path:
        written.append(write(outliers(arrays, stages), tmp_path_factory.mktemp("discerning")))
        return written[-1]

    yield make
    for directory in written:
        shutil.rmtree(directory)  # 140 MB each


def features(model_dir: Path, image: UInt8) -> Float32:
    """What the last convolution takes in, away from the edge: float32 (512, places)."""
    model = onnx.load_from_string(build_onnx(describe(model_dir)))
    name = model.graph.node[-1].input[0]
    model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Float32 = session.run([name], {"image": normalise(image)})[0][0, :, 1:4, 1:5]
    return found.reshape(len(found), -1)


def outliers(arrays: dict[str, Any], stages: Sequence[str]) -> dict[str, Any]:
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


def blocks_after_the_first(arrays: dict[str, Any], stage: str) -> set[str]:
    blocks = {".".join(name.split(".")[:2]) for name in arrays if name.startswith(f"{stage}.")}
    return blocks - {f"{stage}.0"}


def write(arrays: dict[str, Any], directory: Path) -> Path:
    network = networks.build("fcn", "resnet-50", 3, runtime.load().cpu())
    networks.assign(networks.parameters(network), arrays, "a test")
    network.save_parameters(str(directory / "model_best.params"))
    return directory


@pytest.fixture(scope="session")
def quantized(discerning: Callable[[Sequence[str]], Path]) -> Path:
    """A model directory with a model_int8.onnx that passed its gate."""
    directory = discerning([])
    path = directory / "model_int8.onnx"
    assert quantize(describe(directory), path, [image for image, _ in labelled()], labelled).passed
    return directory
