"""The facts about GluonCV's pretrained backbones, and its own files of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.networks.backbones import GLUON_STORE, PRETRAINED, read_backbone, stored_file
from semseg.networks.definitions import BACKBONES, Backbone
from semseg.networks.parameters import backbone_table

EACH = pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)


@EACH
def test_names_digests_and_addresses_are_those_of_gluoncvs_store(
    mx: Any, monkeypatch: pytest.MonkeyPatch, backbone: Backbone
) -> None:
    from gluoncv.model_zoo import model_store

    monkeypatch.delenv("MXNET_GLUON_REPO", raising=False)
    assert model_store.apache_repo_url == f"{GLUON_STORE}/"
    name, file = PRETRAINED[backbone.name].gluon, stored_file(backbone.name)
    assert file.sha1 == model_store._model_sha1[name]
    stem = f"{name}-{model_store.short_hash(name)}"
    assert file.name == f"{stem}.params"
    assert file.url == model_store._url_format.format(repo_url=model_store.apache_repo_url, file_name=stem)


def classifier(backbone: Backbone) -> Any:
    """GluonCV's network whose pretrained weights these are."""
    from gluoncv import model_zoo

    return getattr(model_zoo, PRETRAINED[backbone.name].gluon)()


@pytest.mark.req("R7", "R9")
@EACH
def test_gluoncvs_file_holds_the_backbone_and_a_classifier(mx: Any, backbone: Backbone) -> None:
    network = classifier(backbone)
    network.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
    shapes = {name: parameter.shape for name, parameter in network._collect_params_with_prefix().items()}
    assert (shapes.pop("fc.weight"), shapes.pop("fc.bias")) == ((1000, 2048), (1000,))
    assert shapes == {name: parameter.shape for name, parameter in backbone_table(backbone).items()}


@pytest.mark.req("R7", "R9")
def test_the_backbone_is_read_from_a_file_that_gluoncv_saved(mx: Any, tmp_path: Path) -> None:
    network = classifier(BACKBONES[0])
    network.initialize(mx.init.Uniform(0.3))
    network(mx.nd.zeros((1, 3, 32, 32)))
    network.save_parameters(str(tmp_path / "file"))
    pretrained = network._collect_params_with_prefix()
    for name, array in read_backbone(tmp_path / "file", BACKBONES[0]).items():
        np.testing.assert_array_equal(array, pretrained[name].data().asnumpy(), err_msg=name)
