from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from semseg.data.s3 import ObjectStore
from semseg.data.shapes import write_shapes
from semseg.errors import HyperparameterError, Stopped
from semseg.networks.definitions import NETWORKS
from semseg.sagemaker.paths import Paths
from semseg.training import prepare
from semseg.training.inputs import check_inputs


def test_a_network_that_the_engine_does_not_train_is_refused_before_weights_and_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are neither: no pretrained backbone, and the image is damaged."""
    for channel in ("train", "validation"):
        for folder, name in ((channel, "0.jpg"), (f"{channel}_annotation", "0.png")):
            (tmp_path / "input/data" / folder).mkdir(parents=True)
            (tmp_path / "input/data" / folder / name).write_bytes(b"damaged")
    (tmp_path / "input/config").mkdir()
    (tmp_path / "input/config/hyperparameters.json").write_text(json.dumps({"num_classes": "4", "algorithm": "psp"}))
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "none"))
    for engine in ("mxnet", "torch"):  # whichever is installed
        monkeypatch.delitem(NETWORKS[1].bytes_per_pixel, engine)
    refused = pytest.raises(HyperparameterError, match=r"(MXNet|PyTorch) does not train PSP\. Set algorithm to fcn")
    with refused as caught, ExitStack() as resources:
        prepare.prepare(Paths(tmp_path), threading.Event(), None, resources)
    assert "psp" not in caught.value.hint


def test_s3_is_given_minutes_once_the_data_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before that, a job that cannot read its data fails soon; a stop request works at any time."""
    write_shapes(tmp_path / "input/data", train=2, validation=1, size=(40, 40), seed=0)
    quick = {"num_classes": "4", "crop_size": "24", "mini_batch_size": "2", "use_pretrained_model": "False"}
    (tmp_path / "input/config").mkdir()
    (tmp_path / "input/config/hyperparameters.json").write_text(json.dumps(quick))
    stores: list[ObjectStore] = []

    class Seen(ObjectStore):
        def __enter__(self) -> ObjectStore:
            stores.append(self)
            return super().__enter__()

    patience: list[float] = []

    def checked(inputs: Any, workers: int, stop: Any) -> Any:
        patience.append(stores[0].patience)
        return check_inputs(inputs, workers, stop)

    def begun(*_: Any) -> None:
        patience.append(stores[0].patience)
        raise Stopped

    monkeypatch.setattr(prepare, "ObjectStore", Seen)
    monkeypatch.setattr(prepare, "check_inputs", checked)
    monkeypatch.setattr(prepare, "build_learner", begun)
    with pytest.raises(Stopped), ExitStack() as resources:
        prepare.prepare(Paths(tmp_path), threading.Event(), None, resources)
    assert patience == [15, 300]
