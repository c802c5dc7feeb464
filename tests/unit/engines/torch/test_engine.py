from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_model import known, write_small_model
from small_networks import NOTHING, SINGLE
from untrained import initial_arrays, specification

from semseg.artifact.model_dir import ModelDescription, describe
from semseg.engines.protocols import BackendOptions, Device
from semseg.engines.torch import runtime
from semseg.engines.torch.engine import TorchEngine
from semseg.errors import ArtifactError, UserError
from semseg.types import Classes

ENGINE, CPU = TorchEngine(), Device(torch.device("cpu"))


@pytest.fixture
def model(tmp_path: Path) -> Iterator[ModelDescription]:
    with known():
        yield describe(write_small_model(tmp_path / "model"))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_network_whose_definition_leaves_pytorch_out_is_neither_trained_nor_served(tmp_path: Path) -> None:
    network = replace(SINGLE, bytes_per_pixel={"openvino": 100})
    with pytest.raises(UserError, match="PyTorch does not compute Single"):
        ENGINE.learner(replace(specification(), network=network), {}, "f", CPU)
    model = ModelDescription(network, NOTHING, 3, None, False, tmp_path / "model_best.params", Classes.unknown(3))
    with pytest.raises(UserError, match="PyTorch does not compute Single"):
        ENGINE.backend(model, CPU, BackendOptions())


@pytest.mark.parametrize(
    ("precision", "has_bf16", "expected"),
    [("auto", True, "f32"), ("f32", True, "f32"), ("bf16", True, "bf16"), ("auto", False, "f32")],
)
@pytest.mark.usefixtures("threads")
def test_a_cpu_computes_in_f32_unless_bf16_is_requested(
    model: ModelDescription,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    precision: str,
    has_bf16: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(runtime, "has_bf16", lambda: has_bf16)
    with caplog.at_level("INFO"):
        ENGINE.backend(model, CPU, BackendOptions(precision))
    assert f"PyTorch computes in {expected} on 1 cores." in caplog.messages


@pytest.mark.parametrize(
    ("precision", "says"),
    [
        ("int8", "SEMSEG_PRECISION is int8, but PyTorch computes only in f32 and bf16. Set SEMSEG_BACKEND to openvino"),
        ("bf16", "SEMSEG_PRECISION is bf16, which this device does not compute in"),
    ],
)
def test_a_precision_that_the_device_does_not_compute_in_is_an_error(
    model: ModelDescription, monkeypatch: pytest.MonkeyPatch, precision: str, says: str
) -> None:
    monkeypatch.setattr(runtime, "has_bf16", lambda: False)
    with pytest.raises(UserError) as caught:
        ENGINE.backend(model, CPU, BackendOptions(precision))
    assert str(caught.value).startswith(says)


@pytest.mark.usefixtures("threads")
def test_a_backend_computes_on_as_many_cores_as_it_is_given(model: ModelDescription) -> None:
    for cores in (2, 1):
        ENGINE.backend(model, CPU, BackendOptions(cores=cores))
        assert torch.get_num_threads() == cores


def test_parameters_that_do_not_fit_are_an_error_that_names_their_file() -> None:
    arrays = initial_arrays("fcn", "resnet-50", 4)
    with pytest.raises(
        ArtifactError, match=r"model\.tar\.gz does not fit the network: .*head\.block\.4\.bias has shape"
    ):
        ENGINE.learner(specification(num_classes=3), arrays, "model.tar.gz", CPU)


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_as_the_job_says_and_a_device_without_it_is_mentioned(
    tf32: bool, caplog: pytest.LogCaptureFixture
) -> None:
    arrays = initial_arrays("fcn", "resnet-50", 3)
    ENGINE.learner(replace(specification(), tf32=tf32), arrays, "f", CPU)
    assert torch.backends.cudnn.conv.fp32_precision == ("tf32" if tf32 else "ieee")
    runtime.allow_tf32(False)
    assert any("'_tf32' has no effect" in message for message in caplog.messages) is tf32


PAGE_FAULTS = """
import resource
import numpy as np
from tiny_network import specification, tiny_arrays
from semseg.engines.torch.engine import TorchEngine
from semseg.machine import keep_memory_flat
from semseg.types import Batch

keep_memory_flat(1 << 20, kept=1 << 20)
engine = TorchEngine()
learner = engine.learner(specification(), tiny_arrays(), "a test", engine.cpu())
batch = Batch(np.zeros((4, 512, 512, 3), np.uint8), np.zeros((4, 512, 512), np.uint8))
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    learner.train_step(batch, 0.001, 0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_step_on_a_cpu_reuses_the_memory_of_the_step_before() -> None:
    """With a new mapping for each activation, as training's own threshold has it, a step has 55,000 page faults."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PAGE_FAULTS]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600, check=True)
    assert int(done.stdout) < 10_000
