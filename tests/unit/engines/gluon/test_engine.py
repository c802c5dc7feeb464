from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_networks import SINGLE
from untrained import specification

from semseg.artifact.model_dir import ModelDescription
from semseg.codecs.params import write_params
from semseg.engines.gluon.engine import MxnetEngine
from semseg.engines.protocols import BackendOptions
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
