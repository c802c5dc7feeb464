from __future__ import annotations

import numpy as np
import pytest
import torch
from untrained import initial_arrays, random_arrays

from semseg.engines.torch.backend import TorchBackend, load_backend
from semseg.errors import ArtifactError
from semseg.machine import has_bf16
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.types import Arrays, Float32

CPU = torch.device("cpu")


def loaded(arrays: Arrays, algorithm: str = "fcn", *, bf16: bool = False) -> TorchBackend:
    return load_backend(by_name(algorithm, NETWORKS), BACKBONES[0], 3, arrays, "f", CPU, bf16)


def noise(height: int, width: int, count: int = 1) -> Float32:
    return np.random.default_rng(height).normal(size=(count, 3, height, width)).astype(np.float32)


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return initial_arrays("fcn", "resnet-50", 3)


@pytest.fixture(scope="module")
def backend(arrays: Arrays) -> TorchBackend:
    return loaded(arrays)


@pytest.mark.req("R10")
@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 9), (40, 17)])
def test_logits_are_an_eighth_of_any_image(backend: TorchBackend, height: int, width: int) -> None:
    logits = backend.logits(noise(height, width, count=2))
    assert logits.shape == (2, 3, -(-height // 8), -(-width // 8))
    assert logits.dtype == np.float32
    assert logits.flags.c_contiguous
    assert np.isfinite(logits).all()


def test_an_answer_does_not_depend_on_what_was_asked_before(backend: TorchBackend) -> None:
    first = backend.logits(noise(40, 32))
    kept = first.copy()
    for height, width in ((8, 8), (64, 24), (33, 40)):
        backend.logits(noise(height, width))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(backend.logits(noise(40, 32)), kept)


def test_images_may_be_read_only_and_need_not_be_contiguous(backend: TorchBackend) -> None:
    images = np.ascontiguousarray(noise(16, 24).transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    images.flags.writeable = False
    np.testing.assert_array_equal(backend.logits(images), backend.logits(noise(16, 24)))


def test_a_file_without_auxiliary_head_serves_the_same(arrays: Arrays, backend: TorchBackend) -> None:
    without = {name: array for name, array in arrays.items() if not name.startswith("auxlayer.")}
    np.testing.assert_array_equal(loaded(without).logits(noise(32, 24)), backend.logits(noise(32, 24)))


def test_a_file_of_another_network_is_an_error(arrays: Arrays) -> None:
    with pytest.raises(ArtifactError, match=r"f does not fit the network: head\.aspp.* is missing"):
        loaded(arrays, "deeplab")


@pytest.mark.skipif(not has_bf16(), reason="a CPU without bf16")
@pytest.mark.parametrize("algorithm", [network.name for network in NETWORKS])
def test_bf16_is_near_f32_and_another_number(algorithm: str) -> None:
    arrays = random_arrays(algorithm, "resnet-50", 3)
    exact, rounded = (loaded(arrays, algorithm, bf16=bf16).logits(noise(48, 40)) for bf16 in (False, True))
    error = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert 1e-6 < error < 0.05
    assert rounded.dtype == np.float32


def test_on_a_cpu_the_memory_is_the_host_s(backend: TorchBackend) -> None:
    assert backend.device_memory() is None
    assert (backend.stride, backend.bytes_per_pixel) == (8, NETWORKS[0].bytes_per_pixel["torch"])
