from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_networks import NOTHING, SINGLE

from semseg.artifact.model_dir import ModelDescription
from semseg.engines.openvino.engine import OpenVinoEngine
from semseg.engines.protocols import BackendOptions
from semseg.errors import UserError
from semseg.types import Classes


def test_a_network_whose_definition_leaves_openvino_out_is_refused(tmp_path: Path) -> None:
    engine, network = OpenVinoEngine(), replace(SINGLE, bytes_per_pixel={"mxnet": 1000})
    model = ModelDescription(network, NOTHING, 3, None, False, tmp_path / "model_best.params", Classes.unknown(3))
    with pytest.raises(UserError, match="OpenVINO does not compute Single"):
        engine.backend(model, engine.cpu(), BackendOptions())
