"""No GPU is needed: PyTorch's errors are raised where it would raise them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import NOTHING, SINGLE

from semseg.engines.torch import faults
from semseg.engines.torch.backend import load_backend
from semseg.errors import DeviceError, DeviceMemoryError

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.58 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
]
OTHERS = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (2) at non-singleton dimension 0"),
    ValueError("out of memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_a_full_gpu_is_reported_with_the_way_out(error: RuntimeError) -> None:
    with pytest.raises(DeviceMemoryError) as caught, faults.translated("Buy more."):
        raise error
    assert str(caught.value) == "The GPU's memory is too small. Buy more."
    assert (caught.value.exit_code, caught.value.http_status) == (1, 507)


def test_a_gpu_without_code_is_reported_with_what_there_is_code_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80"])
    error = torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device")
    says = r"PyTorch has no machine code; it has for sm_80\."
    with pytest.raises(DeviceError, match=says) as caught, faults.translated(""):
        raise error
    assert not isinstance(caught.value, DeviceMemoryError)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    """Those of CUDA last as long as the process, which the server ends when they repeat."""
    with pytest.raises(type(error)) as caught, faults.translated(""):
        raise error
    assert caught.value is error


NO_SHARED_MEMORY = (
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, unhandled system error (run with "
    "NCCL_DEBUG=INFO for details), NCCL version 2.27.7\nncclSystemError: System call (e.g. socket, malloc) or external "
    "library call failed or device error. \nLast error:\nError while creating shared memory segment "
    "/dev/shm/nccl-WU88OE (size 9637888), error: No space left on device (28)"
)


@pytest.mark.parametrize("translated", [faults.translated("Buy more."), faults.translated_group()])
def test_too_little_shared_memory_for_the_ranks_of_a_machine_is_reported_with_the_way_out(translated: Any) -> None:
    """A container of Docker has 64 MiB, if nothing else is set."""
    with pytest.raises(DeviceError) as caught, translated:
        raise torch.distributed.DistBackendError(NO_SHARED_MEMORY)
    assert str(caught.value) == (
        "NCCL, which connects the GPUs of this machine, has too little shared memory: Error while creating shared "
        "memory segment /dev/shm/nccl-WU88OE (size 9637888), error: No space left on device (28). Give the container "
        "more: docker run --shm-size=1g, or shm_size in a Compose file."
    )


def test_a_backend_names_the_size_of_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"c.weight": np.ones((2, 3, 1, 1), np.float32), "c.bias": np.zeros(2, np.float32)}
    backend = load_backend(SINGLE, NOTHING, 2, arrays, "f", torch.device("cpu"), bf16=False)

    def fail(*_: object) -> None:
        raise OUT_OF_MEMORY[0]

    monkeypatch.setattr(torch.nn.functional, "conv2d", fail)
    with pytest.raises(DeviceMemoryError, match="SEMSEG_MAX_TILE_PIXELS"):
        backend.logits(np.zeros((1, 3, 8, 8), np.float32))


def test_what_a_call_held_is_free_while_its_lack_of_memory_is_handled() -> None:
    """The next image may be computed before the error has been answered."""
    activations: list[weakref.ref[torch.Tensor]] = []

    def forward() -> None:
        activation = torch.zeros(3)
        activations.append(weakref.ref(activation))
        raise RuntimeError("CUDA out of memory")

    @faults.translated("a hint")
    def predict() -> None:
        image = torch.zeros(3)
        activations.append(weakref.ref(image))
        forward()

    gc.disable()
    try:
        try:
            predict()
        except DeviceMemoryError:
            assert [each() for each in activations] == [None, None]
    finally:
        gc.enable()
