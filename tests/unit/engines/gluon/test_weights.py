from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.engines.gluon import networks, weights
from semseg.errors import HyperparameterError

NAMES = {
    "resnet-50": ("resnet50_v1s-25a187fa.params", "25a187fa281ddc98afbcd0cc0f0646885b874b80"),
    "resnet-101": ("resnet101_v1s-bd93a83c.params", "bd93a83c05f709a803b1221aeff0b028e6eebb03"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.mark.req("R7", "R9")
@pytest.mark.parametrize("algorithm", ["fcn", "psp", "deeplab"])
def test_the_backbone_gets_gluoncvs_weights_and_the_heads_keep_theirs(mx: Any, folder: Path, algorithm: str) -> None:
    from gluoncv.model_zoo import resnet50_v1s

    classifier = resnet50_v1s()
    classifier.initialize(mx.init.Normal(0.3))
    classifier(mx.nd.zeros((1, 3, 32, 32)))
    classifier.save_parameters(str(folder / "fabricated"))
    checksum = hashlib.sha1((folder / "fabricated").read_bytes(), usedforsecurity=False).hexdigest()
    (folder / "fabricated").rename(folder / f"resnet50_v1s-{checksum[:8]}.params")

    model = networks.build(algorithm, "resnet-50", 3, mx.cpu())
    before = {name: value.data().asnumpy() for name, value in networks.parameters(model).items()}
    weights.load_backbone(model, "resnet-50", checksum)
    pretrained = networks.parameters(classifier)
    for name, value in networks.parameters(model).items():
        expected = before[name] if name.startswith(("head.", "auxlayer.")) else pretrained[name].data().asnumpy()
        np.testing.assert_array_equal(value.data().asnumpy(), expected, err_msg=name)
    assert (before["conv1.0.weight"] != pretrained["conv1.0.weight"].data().asnumpy()).any()


@pytest.mark.req("R6", "R7")
@pytest.mark.parametrize("backbone", list(NAMES))
@pytest.mark.parametrize("content", [None, b"cut short"])
def test_an_absent_or_damaged_file_is_named_with_the_ways_out(
    model: Any, folder: Path, backbone: str, content: bytes | None
) -> None:
    name, checksum = NAMES[backbone]
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(HyperparameterError) as caught:
        weights.load_backbone(model, backbone)
    assert str(folder / name) in caught.value.message
    assert ("cannot be read" if content is None else "is damaged") in caught.value.message
    for way in ("use_pretrained_model to False", name, checksum, "MXNET_HOME"):
        assert way in caught.value.hint


def test_without_mxnet_home_the_file_is_sought_in_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MXNET_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert weights.models_folder() == Path("/home/somebody/.mxnet/models")
