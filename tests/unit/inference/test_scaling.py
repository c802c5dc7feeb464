from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from fake_backend import OnHost
from PIL import Image

from semseg.artifact.model_dir import ModelDescription
from semseg.data.shapes import draw
from semseg.errors import UserError
from semseg.inference.memory import request_bytes
from semseg.inference.predictor import Predictor
from semseg.inference.scaling import UNSCALED, Scale, parse_scale, scale_of
from semseg.inference.tiling import SMALLEST_BUDGET
from semseg.networks.definitions import BACKBONES, NETWORKS
from semseg.types import Classes, Float32

MODEL = ModelDescription(NETWORKS[0], BACKBONES[0], 3, None, True, Path("/nowhere"), Classes.unknown(3))


class Channels(OnHost):
    """A network whose classes are the channels; it records the sizes of its input."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def logits(self, images: Float32) -> Float32:
        self.sizes.append(images.shape[2:])
        return images[:, :, ::8, ::8]


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("none", (360, 480), (360, 480)),
        ("1", (360, 480), (360, 480)),
        ("0.5", (361, 480), (181, 240)),
        ("2.5", (2, 3), (5, 8)),
        ("0.05", (3, 9), (1, 1)),
        ("base", (360, 480), (150, 200)),
        ("base", (480, 360), (200, 150)),
        ("base", (50, 50), (200, 200)),
        ("base", (1, 6_000_000), (1, 200)),
        ("base", (7, 480), (3, 200)),
    ],
)
def test_the_size_of_the_network_s_input(text: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert parse_scale(text, base_size=200).size(*size) == expected


def test_a_model_may_say_at_which_size_it_is_served() -> None:
    assert scale_of(MODEL) == UNSCALED
    trained = dataclasses.replace(MODEL, base_size=200, serving_scale="base")
    assert scale_of(trained) == scale_of(MODEL, "0.5").__class__(long_side=200)
    assert scale_of(trained, "none") == UNSCALED
    assert [str(scale_of(trained, text)) for text in ("base", "none", "0.5", "1")] == ["base", "none", "0.5", "none"]
    assert [str(parse_scale(text, None)) for text in ("3.123456", "0.054321", "2.0")] == ["3.123456", "0.054321", "2"]


@pytest.mark.parametrize("text", ["", "model ", "half", "0.049", "4.01", "1e0", "-1", "nan", "٢", "0,5", "1" * 999])
def test_anything_else_is_an_error_that_says_what_is_allowed(text: str) -> None:
    with pytest.raises(UserError, match=r"or a factor of 0\.05 to 4") as caught:
        parse_scale(text, base_size=200)
    assert len(str(caught.value)) < 300


def test_without_its_base_size_a_model_cannot_be_served_at_it() -> None:
    with pytest.raises(UserError, match=r"does not say at which base_size .* hyperparams\.json"):
        scale_of(MODEL, "base")


@pytest.mark.parametrize(("text", "size"), [("0.4", (96, 128)), ("1.7", (96, 128)), ("0.3", (33, 57))])
def test_images_are_resized_as_in_training(text: str, size: tuple[int, int]) -> None:
    image, _ = draw(size[::-1], np.random.default_rng(1))
    resized = parse_scale(text, None).resized(image)
    height, width = resized.shape[:2]
    assert (height, width) == parse_scale(text, None).size(*size)
    expected = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    assert np.abs(resized.astype(int) - expected).max() <= 2
    turned = np.ascontiguousarray(image.transpose(1, 0, 2)).transpose(1, 0, 2)
    np.testing.assert_array_equal(parse_scale(text, None).resized(turned), resized)


def test_an_image_of_that_size_is_not_copied() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    assert UNSCALED.resized(image) is image
    assert Scale(long_side=30).resized(image) is image


@pytest.mark.parametrize("size", [(40, 64), (1, 9), (300, 1)])
@pytest.mark.parametrize("scale", [Scale(0.25), Scale(2.0), Scale(long_side=50)])
def test_answers_have_the_image_s_size(size: tuple[int, int], scale: Scale) -> None:
    network = Channels()
    prediction = Predictor(network, 3, 10**6, scale=scale).predict(np.full((*size, 3), 9, np.uint8))
    assert network.sizes == [scale.size(*size)]
    assert prediction.labels().shape == size
    assert prediction.probabilities().shape == (3, *size)


def test_a_call_may_ask_for_another_size() -> None:
    network, image = Channels(), np.zeros((64, 64, 3), np.uint8)
    predictor = Predictor(network, 3, 10**6, scale=Scale(0.5))
    predictor.predict(image)
    predictor.predict(image, UNSCALED)
    assert network.sizes == [(32, 32), (64, 64)]


def test_tiles_are_those_of_the_resized_image() -> None:
    """Smooth colours, so that resizing and the network's stride lose little."""
    ramp = np.linspace(0, 255, 900)
    image = np.stack(np.broadcast_arrays(ramp[:700, None], ramp[::-1], np.float64(120)), axis=2).astype(np.uint8)
    one, many = Channels(), Channels()
    whole = Predictor(one, 3, 10**7, scale=Scale(0.5)).predict(image)
    tiled = Predictor(many, 3, SMALLEST_BUDGET, scale=Scale(0.5)).predict(image)
    assert one.sizes == [(350, 450)]
    assert len(many.sizes) > 1
    assert max(height * width for height, width in many.sizes) <= SMALLEST_BUDGET
    np.testing.assert_allclose(tiled.probabilities(), whole.probabilities(), atol=1e-5)
    unscaled = Predictor(Channels(), 3, 10**7).predict(image)
    assert (unscaled.labels() == tiled.labels()).mean() > 0.98


def test_the_memory_of_a_request_is_that_of_the_resized_image() -> None:
    size = (2000, 3000)
    plain = request_bytes(21, *size, 8, answer=3)
    assert request_bytes(21, *size, 8, answer=3, scale=Scale(0.5)) < plain + 18 * 6_000_000
    assert request_bytes(21, *size, 8, answer=3, scale=Scale(4.0)) > (84 / 64 + 6) * 16 * 6_000_000
    assert request_bytes(21, *size, 8, answer=3, scale=Scale(1.0)) == plain
