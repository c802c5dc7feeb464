from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from tiny_network import MakeLearner
from untrained import initial_arrays
from untrained import specification as declared

from semseg.engines.torch.learner import TorchLearner
from semseg.errors import ArtifactError
from semseg.types import IMAGENET_MEAN, IMAGENET_STD, Arrays, Batch


def require_equal(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_network_learns_what_it_is_shown(tiny_learner: MakeLearner, batch: Batch, precision: str) -> None:
    learner = tiny_learner("adam", precision=precision)
    losses = [float(learner.train_step(batch, 0.01, seed)) for seed in range(20)]
    assert losses[-1] < losses[0] / 2


def test_it_predicts_of_normalised_images_what_it_evaluates(tiny_learner: MakeLearner, batch: Batch) -> None:
    """At 1 and 5 places a stride apart, where upsampling keeps the logits."""
    learner = tiny_learner("sgd")
    images = np.random.default_rng(1).integers(0, 256, (2, 17, 17, 3)).astype(np.uint8)
    normalised = ((images / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).transpose(0, 3, 1, 2)
    logits = learner.logits(normalised)
    assert logits.shape == (2, 3, 5, 5)
    assert logits.dtype == np.float32
    assert learner.stride == 4
    classes, _ = learner.evaluate(Batch(images, np.zeros((2, 17, 17), np.uint8)))
    np.testing.assert_array_equal(classes[:, ::4, ::4], logits.argmax(1))
    assert len(np.unique(classes)) > 1


def test_cudnn_times_its_algorithms_for_the_crops_of_training_alone(
    tiny_learner: MakeLearner, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    learner = tiny_learner("sgd")
    layer = learner._network.bn1
    layer.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
    layer.register_full_backward_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
    learner.train_step(batch, 0.001, 0)
    learner.evaluate(batch)
    assert seen == [True, True, False]
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("algorithm", ["psp", "deeplab"])
def test_a_batch_of_one_image_trains_although_it_is_pooled_to_one_value(algorithm: str) -> None:
    learner = TorchLearner(declared(algorithm), torch.device("cpu"), "float32")
    learner.load(initial_arrays(algorithm, "resnet-50", 3), "initial values")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1, 24, 24, 3)).astype(np.uint8)
    loss = float(learner.train_step(Batch(images, (images[..., 0] // 86).astype(np.uint8)), 0.001, 0))
    assert 0 < loss < 10
    assert all(np.isfinite(array).all() for array in learner.parameters().values())


# Half precision


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_convolutions_compute_in_the_precision_and_all_that_is_kept_is_float32(
    tiny_learner: MakeLearner, batch: Batch, precision: str, dtype: torch.dtype
) -> None:
    learner, seen = tiny_learner("adam", precision=precision), []
    for layer in learner._network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    learner.train_step(batch, 0.01, 0)
    learner.evaluate(batch)
    assert seen == (9 + 7) * [dtype]  # evaluated without the auxiliary head
    state = learner.state()
    assert {array.dtype for name, array in state.items() if name.startswith(("parameter", "optimizer/c"))} == {
        np.dtype(np.float32)
    }
    assert learner.logits(np.zeros((1, 3, 8, 8), np.float32)).dtype == np.float32


def test_bfloat16_trains_almost_as_float32(tiny_learner: MakeLearner, batch: Batch) -> None:
    def losses(precision: str) -> list[float]:
        learner = tiny_learner("sgd", precision=precision)
        return [float(learner.train_step(batch, 0.01, seed)) for seed in range(10)]

    exact, rounded = losses("float32"), losses("bfloat16")
    assert rounded == pytest.approx(exact, rel=0.05)
    assert rounded != exact


def test_a_gradient_that_overflows_float16_is_no_update(
    tiny_learner: MakeLearner, batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    learner = tiny_learner("adam", precision="float16")
    learner.train_step(batch, 0.01, 0)
    learner.restore(learner.state() | {"loss_scale/scale": np.array([2.0**24])}, "here")
    before = learner.state()
    with caplog.at_level(logging.WARNING):
        loss = learner.train_step(batch, 0.01, 1)
    assert np.isfinite(loss)
    assert "An update is skipped: a gradient overflowed float16." in caplog.text
    after = learner.state()
    assert after["loss_scale/scale"] == 2.0**23
    for name, array in before.items():
        if not name.startswith("loss_scale/") and "running" not in name:
            np.testing.assert_array_equal(after[name], array, err_msg=name)


# State


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop", "adagrad", "nag"])
def test_a_restored_learner_goes_on_bit_for_bit(
    tiny_learner: MakeLearner, batch: Batch, name: str, precision: str
) -> None:
    def steps(learner: Any, seeds: range) -> list[float]:
        return [float(learner.train_step(batch, 0.01, seed)) for seed in seeds]

    straight, other = tiny_learner(name, precision=precision), tiny_learner(name, seed=1, precision=precision)
    steps(straight, range(3))
    state = straight.state()
    losses = steps(straight, range(3, 6))
    steps(other, range(50, 57))
    other.restore(state, "checkpoint")
    assert steps(other, range(3, 6)) == losses
    require_equal(other.state(), straight.state())


def test_a_learner_that_made_no_update_has_a_state_too(tiny_learner: MakeLearner, batch: Batch) -> None:
    fresh, used = tiny_learner("adam"), tiny_learner("adam", seed=1)
    for seed in range(2):
        used.train_step(batch, 0.01, seed)
    state = fresh.state()
    assert [name for name in state if not name.startswith("parameter/")] == ["optimizer/updates"]
    used.restore(state, "checkpoint")
    for seed in range(2):
        assert used.train_step(batch, 0.01, seed) == fresh.train_step(batch, 0.01, seed)


def test_another_precision_resumes_a_state(tiny_learner: MakeLearner, batch: Batch) -> None:
    learners = [tiny_learner("adam", precision=precision) for precision in ("float32", "bfloat16", "float16")]
    for seed, learner in enumerate(learners):
        learner.train_step(batch, 0.01, seed)
    for learner in learners:
        for other in learners:
            other.restore(learner.state(), "checkpoint")
            require_equal(other.parameters(), learner.parameters())


def test_the_state_of_another_optimizer_is_refused(tiny_learner: MakeLearner, batch: Batch) -> None:
    sgd, adam = tiny_learner("sgd"), tiny_learner("adam")
    sgd.train_step(batch, 0.01, 0)
    with pytest.raises(ArtifactError, match=r"here\.params does not fit the network: auxlayer.*/1 is missing"):
        adam.restore(sgd.state(), "here.params")
