from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.engines.gluon import networks
from semseg.errors import ArtifactError, HyperparameterError, WeightsError
from semseg.networks import backbones, store
from semseg.networks.store import StoredFile

NAMES = {
    "resnet-50": ("resnet50_v1s-25a187fa.params", "25a187fa281ddc98afbcd0cc0f0646885b874b80"),
    "resnet-101": ("resnet101_v1s-bd93a83c.params", "bd93a83c05f709a803b1221aeff0b028e6eebb03"),
}


@pytest.mark.req("R7", "R9")
@pytest.mark.parametrize("algorithm", ["fcn", "psp", "deeplab"])
def test_the_backbone_gets_gluoncvs_weights_and_the_heads_keep_theirs(
    mx: Any, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    from gluoncv.model_zoo import model_store, resnet50_v1s

    classifier = resnet50_v1s()
    classifier.initialize(mx.init.Normal(0.3))
    classifier(mx.nd.zeros((1, 3, 32, 32)))
    classifier.save_parameters(str(tmp_path / "fabricated"))
    content = (tmp_path / "fabricated").read_bytes()
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(model_store._model_sha1, "resnet50_v1s", sha1)
    put(content, f"resnet50_v1s-{sha1[:8]}.params")

    model = networks.build(algorithm, "resnet-50", 3, mx.cpu())
    before = {name: value.data().asnumpy() for name, value in networks.parameters(model).items()}
    backbones.load_backbone(model, "resnet-50")
    pretrained = networks.parameters(classifier)
    for name, value in networks.parameters(model).items():
        expected = before[name] if name.startswith(("head.", "auxlayer.")) else pretrained[name].data().asnumpy()
        np.testing.assert_array_equal(value.data().asnumpy(), expected, err_msg=name)
    assert (before["conv1.0.weight"] != pretrained["conv1.0.weight"].data().asnumpy()).any()


@pytest.fixture(scope="session")
def trained(mx: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of backbone parameters, all of them 0.5."""
    path = tmp_path_factory.mktemp("trained") / "file"
    wanted = networks.backbone_parameters(networks.build("fcn", "resnet-50", 3, mx.cpu()))
    mx.nd.save(str(path), {name: mx.nd.full(value.shape, 0.5) for name, value in wanted.items()})
    return path


@pytest.fixture
def stored(store: Any, trained: Path, monkeypatch: pytest.MonkeyPatch) -> StoredFile:
    """What GluonCV's model store takes for ResNet-50's file, and the store on the network has."""
    from gluoncv.model_zoo import model_store

    content = trained.read_bytes()
    sha1 = hashlib.sha1(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(model_store._model_sha1, "resnet50_v1s", sha1)
    file = backbones.stored_file("resnet-50")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(file.name, content)
    store.has(buffer.getvalue())
    return file


def is_trained(model: Any) -> bool:
    return all((value.data().asnumpy() == 0.5).all() for value in networks.backbone_parameters(model).values())


def put(content: bytes, name: str) -> Path:
    path = store.models_folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("backbone", list(NAMES))
def test_the_address_is_that_of_gluoncvs_store(monkeypatch: pytest.MonkeyPatch, backbone: str) -> None:
    from gluoncv.model_zoo import model_store

    name, sha1 = NAMES[backbone]
    path = f"gluon/models/{name.removesuffix('.params')}.zip"
    monkeypatch.delenv("MXNET_GLUON_REPO", raising=False)
    assert backbones.stored_file(backbone) == StoredFile(name, sha1, model_store.apache_repo_url + path)
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://mirror/of/it")
    assert backbones.stored_file(backbone).url == f"http://mirror/of/it/{path}"


def test_an_absent_file_is_fetched_once(
    model: Any, store: Any, stored: StoredFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "semseg")
    for _ in range(2):
        backbones.load_backbone(model, "resnet-50")
    assert is_trained(model)
    assert store.asked == [f"/gluon/models/{stored.name.removesuffix('.params')}.zip"]
    path = store.models_folder() / stored.name
    assert path.is_file()
    assert caplog.messages == [f"Fetching {stored.url}, for at most 20 seconds.", f"Fetched {path}."]


@pytest.mark.parametrize("home", ["file", "x" * 300])
def test_where_mxnets_home_cannot_be_written_the_file_is_fetched_and_found_elsewhere(
    model: Any, store: Any, stored: StoredFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / home))
    for _ in range(2):
        backbones.load_backbone(model, "resnet-50")
    assert is_trained(model)
    assert len(store.asked) == 1
    assert (store.spare_folder() / stored.name).is_file()


def test_a_damaged_file_is_told_and_replaced(
    model: Any, stored: StoredFile, caplog: pytest.LogCaptureFixture, trained: Path
) -> None:
    path = put(b"cut short", stored.name)
    backbones.load_backbone(model, "resnet-50")
    assert is_trained(model)
    assert path.read_bytes() == trained.read_bytes()
    assert f"{path} is damaged (SHA-1 " in caplog.text


@pytest.mark.parametrize("damaged", [False, True])
def test_an_imported_file_spares_the_download(
    model: Any, store: Any, stored: StoredFile, trained: Path, damaged: bool
) -> None:
    put(trained.read_bytes(), backbones.imported_name("resnet-50"))
    if damaged:
        put(b"cut short", stored.name)
    backbones.load_backbone(model, "resnet-50")
    assert is_trained(model)
    assert store.asked == []


def test_gluoncvs_file_goes_before_an_imported_one(model: Any, stored: StoredFile, trained: Path) -> None:
    put(trained.read_bytes(), stored.name)
    put(b"never read", backbones.imported_name("resnet-50"))
    backbones.load_backbone(model, "resnet-50")
    assert is_trained(model)


@pytest.mark.parametrize("size", [0, 9, 1000, -1])
def test_a_damaged_imported_file_is_named_with_the_way_out(model: Any, store: Any, trained: Path, size: int) -> None:
    path = put(trained.read_bytes()[:size], backbones.imported_name("resnet-50"))
    with pytest.raises(ArtifactError, match="import-weights") as caught:
        backbones.load_backbone(model, "resnet-50")
    assert f"{path} is damaged" in caught.value.message


def test_an_imported_file_of_another_network_is_refused(mx: Any, model: Any, store: Any) -> None:
    path = put(b"", backbones.imported_name("resnet-50"))
    mx.nd.save(str(path), {"conv1.0.weight": mx.nd.zeros((1,))})
    with pytest.raises(ArtifactError, match=r"does not fit the network: bn1\.beta is missing"):
        backbones.load_backbone(model, "resnet-50")
    mx.nd.save(str(path), [mx.nd.zeros((1,))])
    with pytest.raises(ArtifactError, match="does not fit the network"):
        backbones.load_backbone(model, "resnet-50")


@pytest.mark.req("R6", "R7")
@pytest.mark.parametrize("backbone", list(NAMES))
@pytest.mark.parametrize("content", [None, b"cut short"])
@pytest.mark.parametrize("offline", [False, True])
def test_an_absent_or_damaged_file_is_named_with_the_ways_out(
    model: Any, store: Any, monkeypatch: pytest.MonkeyPatch, backbone: str, content: bytes | None, offline: bool
) -> None:
    name, checksum = NAMES[backbone]
    path = store.models_folder() / name
    if content is not None:
        put(content, name)
    if offline:
        monkeypatch.setenv("SEMSEG_OFFLINE", "1")
    with pytest.raises(HyperparameterError) as caught:
        backbones.load_backbone(model, backbone)
    assert f"{path} {'is not there' if content is None else 'is damaged (SHA-1 '}" in caught.value.message
    assert ("SEMSEG_OFFLINE is set" if offline else ".zip answers 404 Not Found") in caught.value.message
    ways = ("use_pretrained_model to False", "--with-weights", name, checksum, "semseg import-weights", "MXNET_HOME")
    for way in ("The default use_pretrained_model=True needs it", *ways):
        assert way in caught.value.hint
    assert len(str(caught.value)) < 1000  # what the platform shows of a failure
    assert content is None or path.read_bytes() == content


def test_fetching_beforehand_asks_only_for_what_is_not_there(
    store: Any, stored: StoredFile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "semseg")
    assert backbones.fetch_backbone("resnet-50") == backbones.fetch_backbone("resnet-50")
    assert len(store.asked) == 1
    assert "for at most 600 seconds" in caplog.text
    put(b"cut short", stored.name)
    backbones.fetch_backbone("resnet-50")
    assert len(store.asked) == 2
    assert store.fault(store.models_folder() / stored.name, stored.sha1) == ""


def test_fetching_beforehand_takes_no_other_folder(store: Any, stored: StoredFile, tmp_path: Path) -> None:
    (tmp_path / "mxnet").touch()
    with pytest.raises(WeightsError, match=f"{tmp_path}/mxnet/models/{stored.name} cannot be written"):
        backbones.fetch_backbone("resnet-50")
