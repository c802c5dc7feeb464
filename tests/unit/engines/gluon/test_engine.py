from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_networks import SINGLE
from untrained import initial_arrays, specification, write_model

from semseg.artifact.model_dir import ModelDescription, describe
from semseg.codecs.params import write_params
from semseg.engines.gluon import networks, runtime
from semseg.engines.gluon.engine import MxnetEngine
from semseg.engines.protocols import BackendOptions, Device
from semseg.errors import UserError
from semseg.networks.definitions import BACKBONES
from semseg.types import Classes


def test_a_network_that_gluoncv_does_not_have_is_neither_trained_nor_served(tmp_path: Path) -> None:
    engine, path = MxnetEngine(), tmp_path / "model_best.params"
    write_params(path, {})
    with pytest.raises(UserError, match="MXNet does not compute Single on ResNet-50"):
        engine.learner(replace(specification(), network=SINGLE), {}, "f", engine.cpu())
    model = ModelDescription(SINGLE, BACKBONES[0], 3, None, False, path, Classes.unknown(3))
    with pytest.raises(UserError, match="MXNet does not compute Single on ResNet-50"):
        engine.backend(model, engine.cpu(), BackendOptions())


def test_as_many_gpus_train_as_the_device_has_and_the_first_serves(tmp_path: Path) -> None:
    """CPU contexts stand in for GPUs."""
    engine, mx = MxnetEngine(), runtime.load()
    arrays = initial_arrays("fcn", "resnet-50", 3)
    for gpus in (0, 1, 2):
        device = Device((mx.cpu(0), mx.cpu(1)), gpus)
        learner: Any = engine.learner(specification(), arrays, "f", device)
        (held, *_) = networks.parameters(learner._model).values()
        assert held.list_ctx() == [mx.cpu(0), mx.cpu(1)][: max(1, gpus)]
    model = describe(write_model(tmp_path))
    backend: Any = engine.backend(model, Device((mx.cpu(1), mx.cpu(0)), 2), BackendOptions())
    assert backend._device == mx.cpu(1)
