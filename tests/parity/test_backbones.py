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


@pytest.mark.req("R7", "R9")
@EACH
def test_a_file_that_gluoncv_saved_holds_the_backbone_and_a_classifier(
    mx: Any, tmp_path: Path, backbone: Backbone
) -> None:
    from gluoncv import model_zoo

    classifier = getattr(model_zoo, PRETRAINED[backbone.name].gluon)()
    classifier.initialize(mx.init.Normal(0.3))
    classifier(mx.nd.zeros((1, 3, 32, 32)))
    classifier.save_parameters(str(tmp_path / "file"))

    found = read_backbone(tmp_path / "file", backbone)
    pretrained = classifier._collect_params_with_prefix()
    assert found.keys() == backbone_table(backbone).keys() == pretrained.keys() - {"fc.weight", "fc.bias"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, pretrained[name].data().asnumpy(), err_msg=name)
