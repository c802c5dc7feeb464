from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from untrained import ALGORITHMS, ENCODERS

from semseg.codecs.params import read_params
from semseg.engines.gluon import networks
from semseg.engines.gluon.backend import load_backend
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import initial_values, parameter_table

CLASSES = 5
SIZES = [(64, 64), (97, 131), (40, 72), (1, 1)]


@pytest.fixture(scope="module", params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=ENCODERS)
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def oracle(randomised: Any, algorithm: str, backbone: str) -> Any:
    return randomised(algorithm, backbone, CLASSES)


@pytest.fixture(scope="module")
def file(oracle: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("networks") / "model_best.params"
    oracle.save_parameters(str(path))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def predicted(mx: Any, oracle: Any) -> list[tuple[Any, Any]]:
    """Images of several sizes, and what plain GluonCV predicts of each."""
    images = [mx.nd.random.normal(shape=(1, 3, *size)) for size in SIZES]
    return [(image, oracle.predict(image).asnumpy()) for image in images]


def assert_resized_logits(mx: Any, logits: Any, expected: Any) -> None:
    """Stretched to the size of the image they are what GluonCV predicts."""
    height, width = expected.shape[2:]
    assert logits.shape == (1, CLASSES, -(-height // 8), -(-width // 8))
    resized = mx.nd.contrib.BilinearResize2D(logits, height=height, width=width)
    np.testing.assert_allclose(resized.asnumpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.req("R3", "R4", "R5", "R6")
def test_logits_at_any_size_are_gluoncvs(
    mx: Any, predicted: list[tuple[Any, Any]], file: Path, algorithm: str, backbone: str
) -> None:
    """One graph serves all sizes, and the first again."""
    model = networks.build(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), CLASSES, mx.cpu())
    networks.assign(networks.parameters(model), read_params(file), str(file))
    network = networks.LowResolutionLogits(model, aux=True)
    network.hybridize()
    for images, expected in [*predicted, predicted[0]]:
        assert_resized_logits(mx, network(images)[0], expected)


@pytest.mark.req("R5", "R10")
def test_the_backend_serves_a_file_without_its_auxiliary_head(
    mx: Any, predicted: list[tuple[Any, Any]], file: Path, algorithm: str, backbone: str
) -> None:
    backend = load_backend(
        by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), CLASSES, read_params(file), str(file), mx.cpu()
    )
    for images, expected in predicted:
        assert_resized_logits(mx, mx.nd.from_numpy(backend.logits(images.asnumpy())), expected)


def test_the_auxiliary_logits_are_gluoncvs(mx: Any, randomised: Any) -> None:
    oracle = randomised("fcn", "resnet-50", CLASSES)
    images = mx.nd.random.normal(shape=(1, 3, 64, 64))
    oracle.predict(images)  # sets the size of its upsampling
    _, auxiliary = networks.LowResolutionLogits(oracle, aux=True)(images)
    resized = mx.nd.contrib.BilinearResize2D(auxiliary, height=64, width=64)
    np.testing.assert_allclose(resized.asnumpy(), oracle(images)[1].asnumpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.req("R8")
def test_the_table_of_parameters_and_their_first_values_are_gluoncvs(
    initialised: Any, algorithm: str, backbone: str
) -> None:
    theirs = initialised(algorithm, backbone, CLASSES)._collect_params_with_prefix()
    table = parameter_table(by_name(algorithm, NETWORKS), by_name(backbone, BACKBONES), CLASSES)
    assert {
        name: (parameter.shape, parameter.rate, "write" if parameter.trained else "null")
        for name, parameter in table.items()
    } == {name: (parameter.shape, parameter.lr_mult, parameter.grad_req) for name, parameter in theirs.items()}
    for name, found in initial_values(table, seed=0).items():
        expected = theirs[name].data().asnumpy()
        assert found.dtype == expected.dtype
        if name.endswith(".weight"):
            np.testing.assert_allclose(np.abs(found).max(), np.abs(expected).max(), rtol=0.02, err_msg=name)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)
