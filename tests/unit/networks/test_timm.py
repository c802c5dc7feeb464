from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from numpy_layers import convolve, max_pool, normalise
from safetensors.numpy import save, save_file

from semseg.codecs.params import read_params
from semseg.errors import WeightsError
from semseg.networks import timm
from semseg.networks.backbones import imported_name, read_backbone
from semseg.networks.definitions import BACKBONES, Network, by_name
from semseg.networks.layers import Layers, T
from semseg.networks.onnx import onnx_model
from semseg.networks.store import models_folder

Array = NDArray[Any]

DEPTHS = {"resnet-50": (3, 4, 6, 3), "resnet-101": (3, 4, 23, 3)}


@pytest.fixture(autouse=True)
def _home(store: Any) -> None:
    """An empty MXNET_HOME, and a store without files."""


@pytest.fixture(scope="session")
def arrays() -> dict[str, Array]:
    return random_weights("resnet-50", 0)


def write(path: Path, arrays: dict[str, Array]) -> Path:
    save_file(arrays, path)
    return path


def _last_two_stages(layers: Layers[T], stages: Sequence[T], num_classes: int) -> T:
    return layers.concatenate(stages[2:])


FEATURES = Network("features", "Features", _last_two_stages, None, "", 8, {})


@pytest.mark.parametrize("name", list(DEPTHS))
def test_imported_weights_give_the_features_that_timm_computes(tmp_path: Path, name: str) -> None:
    arrays = random_weights(name, 1)
    source = write(tmp_path / "model.safetensors", arrays)
    path = timm.import_backbone(source, models_folder())
    assert path == models_folder() / imported_name(name)
    assert list(path.parent.iterdir()) == [path]

    backbone = by_name(name, BACKBONES)
    model = onnx_model(FEATURES, backbone, 2, read_backbone(path, backbone), str(path))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(2).standard_normal((2, 3, 41, 57)).astype(np.float32)
    (found,) = session.run(["logits"], {"image": images})
    expected = features(arrays, images)
    assert found.shape == expected.shape == (2, 1024 + 2048, 6, 8)
    for part in (slice(1024), slice(1024, None)):
        deviation = expected[:, part].std()
        assert deviation > 0.1
        np.testing.assert_allclose(found[:, part], expected[:, part], rtol=1e-4, atol=1e-4 * deviation)


def test_a_file_of_float16_without_classifier_or_counts_will_do(tmp_path: Path, arrays: dict[str, Array]) -> None:
    half = {
        name: array.astype(np.float16)
        for name, array in arrays.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }
    path = timm.import_backbone(write(tmp_path / "half", half), tmp_path / "a/new/folder")
    imported = read_params(path)
    assert len(imported) == len(half)
    for name, source in (("conv1.0.weight", "conv1.0.weight"), ("layer4.2.bn3.gamma", "layer4.2.bn3.weight")):
        assert imported[name].dtype == np.float32
        np.testing.assert_array_equal(imported[name], half[source].astype(np.float32))


def without(name: str) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


def changed(name: str, change: Callable[[Array], Array]) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda arrays: arrays | {name: change(arrays[name])}


def first_is(value: float) -> Callable[[Array], Array]:
    return lambda array: np.concatenate([[np.float32(value)], array[1:]])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (without("layer1.0.downsample.1.running_var"), "missing layer1.0.downsample.1.running_var"),
        (lambda arrays: arrays | {"head\n": np.zeros(1)}, r"unknown 'head\n'"),
        (lambda arrays: arrays | {"conv1.0.num_batches_tracked": np.zeros(1)}, "unknown 'conv1.0.num_batches_tracked'"),
        (changed("bn1.bias", lambda array: array[1:]), "wrong bn1.bias (shape (127,) instead of (128,))"),
        (changed("bn1.bias", lambda array: array.astype(float)), "wrong bn1.bias (dtype F64 instead of F32 or F16)"),
        (changed("bn1.bias", first_is(np.nan)), "infinite bn1.bias"),
        (changed("bn1.weight", first_is(np.inf)), "infinite bn1.weight"),
        (changed("bn1.running_var", first_is(-1)), "negative bn1.running_var"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(
    tmp_path: Path,
    arrays: dict[str, Array],
    change: Callable[[dict[str, Array]], dict[str, Array]],
    fault: str,
) -> None:
    source = write(tmp_path / "model.safetensors", change(arrays))
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(WeightsError) as caught:
        timm.import_backbone(source, folder)
    assert caught.value.message == f"{source} does not fit the network: {fault}."
    assert "resnet50s.gluon_in1k or resnet101s.gluon_in1k" in caught.value.hint
    assert not list(folder.iterdir())


def test_bfloat16_is_refused_by_name(tmp_path: Path, arrays: dict[str, Array]) -> None:
    content = save(arrays | {"bn1.bias": arrays["bn1.bias"].astype(np.float16)})
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header["bn1.bias"]["dtype"] = "BF16"
    changed = json.dumps(header).encode()
    source = tmp_path / "model.safetensors"
    source.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + length :])
    with pytest.raises(WeightsError, match="dtype BF16 instead of F32 or F16"):
        timm.import_backbone(source, tmp_path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is not a safetensors file, or is damaged"),
        (b"PK\x03\x04 a checkpoint of PyTorch's", "is not a safetensors file, or is damaged"),
        (save({"layer3.0.conv1.weight": np.zeros(9)})[:-1], "is not a safetensors file, or is damaged"),
        (save({"layer3.0.conv1.weight": np.zeros(9)}), "is of a network other than ResNet-50 or ResNet-101"),
        (save({}), "is of a network other than"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    source = tmp_path / "file"
    source.write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        timm.import_backbone(source, tmp_path / "models")
    assert f"{source} is " in caught.value.message
    assert fault in caught.value.message


def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as large:
        large.truncate(timm.MAX_BYTES + 1)
    for name, fault in (("absent", "is not there"), ("pipe", "is not a file"), ("large", "has 536,870,913 bytes")):
        with pytest.raises(WeightsError, match=f"{tmp_path / name} {fault}"):
            timm.import_backbone(tmp_path / name, tmp_path)
    with pytest.raises(WeightsError, match="cannot be read: File name too long"):
        timm.import_backbone(tmp_path / ("x" * 300), tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, arrays: dict[str, Array]) -> None:
    source = write(tmp_path / "model.safetensors", arrays)
    with pytest.raises(WeightsError) as caught:
        timm.import_backbone(source, source)
    assert caught.value.message == f"{source}/resnet50_v1s-imported.params cannot be written: File exists."
    assert caught.value.hint == "--out names another folder."


def test_a_full_disk_is_named_with_the_way_out(
    tmp_path: Path, arrays: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(path: Path, _: Any) -> None:
        path.symlink_to("/dev/full")  # fails as a full disk does
        path.write_text("weights")

    monkeypatch.setattr(timm, "write_params", fill)
    source = write(tmp_path / "model.safetensors", arrays)
    with pytest.raises(WeightsError, match="cannot be written: No space left on device") as caught:
        timm.import_backbone(source, tmp_path / "models")
    assert caught.value.hint == "--out names another folder."
    assert not list((tmp_path / "models").iterdir())


# timm's resnet50s and resnet101s written down again, in numpy: their names, and what they compute at stride 8.


def random_weights(backbone: str, seed: int) -> dict[str, Array]:
    """All arrays of a file in timm's form, float32, including running statistics."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}

    def convolution(name: str, outputs: int, inputs: int, size: int) -> None:
        scale = (2 / (inputs * size * size)) ** 0.5
        weight = rng.standard_normal((outputs, inputs, size, size), np.float32) * np.float32(scale)
        arrays[f"{name}.weight"] = weight

    def normalisation(name: str, channels: int) -> None:
        arrays[f"{name}.weight"] = rng.uniform(0.3, 1, channels).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(0, 0.3, channels).astype(np.float32)
        arrays[f"{name}.running_mean"] = rng.normal(0, 0.3, channels).astype(np.float32)
        arrays[f"{name}.running_var"] = rng.uniform(0.5, 2, channels).astype(np.float32)
        arrays[f"{name}.num_batches_tracked"] = np.array(7)

    for name, outputs, inputs in (("conv1.0", 64, 3), ("conv1.3", 64, 64), ("conv1.6", 128, 64)):
        convolution(name, outputs, inputs, 3)
    for name, channels in (("conv1.1", 64), ("conv1.4", 64), ("bn1", 128)):
        normalisation(name, channels)
    inputs = 128
    for stage, depth in enumerate(DEPTHS[backbone]):
        width = 64 << stage
        for number in range(depth):
            block = f"layer{stage + 1}.{number}"
            forms = ((inputs, width, 1), (width, width, 3), (width, 4 * width, 1))
            for index, (before, after, size) in enumerate(forms, 1):
                convolution(f"{block}.conv{index}", after, before, size)
                normalisation(f"{block}.bn{index}", after)
            if number == 0:
                convolution(f"{block}.downsample.0", 4 * width, inputs, 1)
                normalisation(f"{block}.downsample.1", 4 * width)
            inputs = 4 * width
    arrays["fc.weight"] = rng.standard_normal((1000, inputs), np.float32)
    arrays["fc.bias"] = rng.standard_normal(1000, np.float32)
    return arrays


def features(arrays: dict[str, Array], images: Array) -> Array:
    """(N, 3, H, W) -> the outputs of layer3 and layer4 side by side, (N, 1024 + 2048, ceil(H/8), ceil(W/8)).

    The last two stages dilate where the classifier strides: a stage's first block as far as the stage before.
    """
    x = images
    for convolution, stride, following in (("conv1.0", 2, "conv1.1"), ("conv1.3", 1, "conv1.4"), ("conv1.6", 1, "bn1")):
        x = convolve(x, arrays[f"{convolution}.weight"], stride)
        x = np.maximum(_normalise(x, arrays, following), 0)
    x = max_pool(x)
    outputs = []
    for stage, (stride, first, dilation) in enumerate([(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)], 1):
        depth = len([name for name in arrays if name.startswith(f"layer{stage}.") and name.endswith(".conv1.weight")])
        for number in range(depth):
            block = f"layer{stage}.{number}"
            x = _bottleneck(x, arrays, block, *((1, dilation) if number else (stride, first)))
        outputs.append(x)
    return np.concatenate(outputs[2:], axis=1)


def _bottleneck(x: Array, arrays: dict[str, Array], block: str, stride: int, dilation: int) -> Array:
    y = x
    for index, (steps, spread) in enumerate([(1, 1), (stride, dilation), (1, 1)], 1):
        y = convolve(y, arrays[f"{block}.conv{index}.weight"], steps, spread)
        y = _normalise(y, arrays, f"{block}.bn{index}")
        if index < 3:
            y = np.maximum(y, 0)
    if f"{block}.downsample.0.weight" in arrays:
        x = _normalise(convolve(x, arrays[f"{block}.downsample.0.weight"], stride), arrays, f"{block}.downsample.1")
    return np.maximum(x + y, 0)


def _normalise(x: Array, arrays: dict[str, Array], name: str) -> Array:
    return normalise(x, *(arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")))
