"""No GPU is needed: MXNet's errors are raised where it would raise them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.engines.gluon import faults
from semseg.engines.gluon.backend import GluonBackend
from semseg.engines.gluon.losses import MixedCrossEntropy, Part
from semseg.errors import DeviceError, DeviceMemoryError
from semseg.networks.definitions import NETWORKS
from semseg.sagemaker.job import run_job
from semseg.sagemaker.paths import Paths
from semseg.types import Batch

OUT_OF_MEMORY = [
    "cudaMalloc retry failed: out of memory",
    "cudaMalloc failed: out of memory",
    "Check failed: e == cudaSuccess: CUDA: out of memory",
    "Check failed: err == cudaSuccess (2 vs. 0) : Name: MapPlanKernel ErrStr:out of memory",
    "CUDA error: out of memory",
    "CUDA Driver: CUDA_ERROR_OUT_OF_MEMORY 2",
    "Check failed: e == CUDNN_STATUS_SUCCESS (2 vs. 0) : cuDNN: CUDNN_STATUS_ALLOC_FAILED",
    "Check failed: err == CUBLAS_STATUS_SUCCESS (3 vs. 0) : Create cublas handle failed: CUBLAS_STATUS_ALLOC_FAILED",
    "cuSolver: CUSOLVER_STATUS_ALLOC_FAILED",
    "cuRAND: CURAND_STATUS_ALLOCATION_FAILED",
]
NO_CODE = "Name: mxnet_generic_kernel ErrStr:no kernel image is available for execution on the device"
OTHERS = [
    "Check failed: e == cudaSuccess: CUDA: an illegal memory access was encountered",
    "cuDNN: CUDNN_STATUS_EXECUTION_FAILED",
    "Failed to allocate CPU Memory",
    "dot shape error: [2,3] X [2,3]",
]


def traceback(mx: Any, text: str) -> Exception:
    """As MXNet 1.9.1 makes its errors."""
    error: Exception = mx.base.MXNetError(
        f'Traceback (most recent call last):\n  File "../src/a.cc", line 187\nMXNetError: {text}'
    )
    return error


@pytest.mark.parametrize("text", OUT_OF_MEMORY)
def test_a_full_gpu_is_an_error_with_a_hint(mx: Any, text: str) -> None:
    with pytest.raises(DeviceMemoryError) as caught, faults.translated("Buy more."):
        raise traceback(mx, text)
    assert str(caught.value) == "The GPU's memory is too small. Buy more."
    assert (caught.value.exit_code, caught.value.http_status) == (1, 507)


def test_a_gpu_without_code_is_an_error_that_names_those_that_work(mx: Any) -> None:
    message = r"The GPU is one for which MXNet has no machine code; .* P3, P4d, G4dn"
    with pytest.raises(DeviceError, match=message) as caught, faults.translated(""):
        raise traceback(mx, NO_CODE)
    assert not isinstance(caught.value, DeviceMemoryError)


@pytest.mark.parametrize("text", OTHERS)
def test_other_errors_stay_as_they_are(mx: Any, text: str) -> None:
    error = traceback(mx, text)
    with pytest.raises(mx.base.MXNetError) as caught, faults.translated(""):
        raise error
    assert caught.value is error


class Full:
    """An array whose use fails as on a full GPU."""

    def __init__(self, mx: Any) -> None:
        self._mx = mx

    def __getattr__(self, name: str) -> Any:
        raise traceback(self._mx, OUT_OF_MEMORY[0])


def test_a_learner_says_how_to_need_less_memory(tiny_learner: Callable[..., Any], batch: Batch, mx: Any) -> None:
    full: Any = Full(mx)
    learner = tiny_learner("sgd")
    calls: list[Callable[[], Any]] = [
        lambda: learner.train_step(Batch(full, batch.labels), 0.1, 0),
        lambda: learner.evaluate(Batch(full, batch.labels)),
        lambda: learner.logits(full),
        lambda: learner.load(dict.fromkeys(learner.parameters(), full), "here"),
        lambda: learner.restore(dict.fromkeys(learner.state(), full), "here"),
    ]
    for call in calls:
        with pytest.raises(DeviceMemoryError, match="Lower mini_batch_size or crop_size"):
            call()


def test_a_loss_that_waits_for_a_full_gpu_raises_the_same_error(mx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong in a step is raised where its loss is asked for."""

    def fail(_: Any) -> float:
        raise traceback(mx, OUT_OF_MEMORY[0])

    logits, labels = mx.nd.zeros((1, 3, 2, 2)), mx.nd.zeros((1, 2, 2))
    with mx.autograd.record():
        loss = MixedCrossEntropy(0.5)([Part([logits], labels)]).value
    monkeypatch.setattr(mx.nd.NDArray, "asscalar", fail)
    with pytest.raises(DeviceMemoryError, match="Lower mini_batch_size"):
        float(loss)


def test_a_backend_suggests_smaller_tiles(model: Any, mx: Any) -> None:
    full: Any = Full(mx)
    with pytest.raises(DeviceMemoryError, match="SEMSEG_MAX_TILE_PIXELS"):
        GluonBackend(model, NETWORKS[0], mx.cpu()).logits(full)
    assert GluonBackend(model, NETWORKS[0], mx.cpu()).logits(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 3, 2, 2)


def test_the_failure_file_begins_with_what_went_wrong_in_mxnet(mx: Any, tmp_path: Path) -> None:
    """Not with the traceback that MXNet's errors begin with."""

    def job(_: threading.Event) -> None:
        mx.nd.dot(mx.nd.ones((2, 3)), mx.nd.ones((2, 3))).wait_to_read()

    paths = Paths(tmp_path)
    paths.failure.parent.mkdir()
    assert run_job(job, paths) == 2
    text = paths.failure.read_text()
    assert text.startswith("AlgorithmError: MXNetError: Check failed: ")
    assert "dot shape error: [2,3] X [2,3]\n\nTraceback (most recent call last)" in text
