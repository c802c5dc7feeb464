from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from semseg.artifact.model_dir import (
    BEST,
    CLASSES,
    LAST,
    ModelDescription,
    describe,
    write_classes,
    write_hyperparams,
    write_label_maps,
)
from semseg.errors import ArtifactError
from semseg.networks.definitions import BACKBONES, NETWORKS, Backbone, Network, by_name, titles
from semseg.types import Classes

Write = Callable[[Path, dict[str, NDArray[Any]]], Path]
Parameters = Callable[..., dict[str, NDArray[Any]]]

STATED = {"algorithm": "psp", "backbone": "resnet-101", "num_classes": "7", "crop_size": "240"}


@pytest.mark.req("R4", "R6")
@pytest.mark.parametrize("found", NETWORKS, ids=lambda found: found.name)
@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)
@pytest.mark.parametrize("aux", [False, True])
def test_parameters_alone_identify_the_network(
    tmp_path: Path, write: Write, network: Parameters, found: Network, backbone: Backbone, aux: bool
) -> None:
    path = write(tmp_path / LAST, network(found.name, backbone.name, classes=9, aux=aux))
    has_auxiliary = aux and found.auxiliary is not None
    assert describe(tmp_path) == ModelDescription(found, backbone, 9, None, has_auxiliary, path, Classes.unknown(9))


def test_the_best_parameters_come_first_and_strangers_are_ignored(
    tmp_path: Path, write: Write, network: Parameters
) -> None:
    for stranger in ("model.tar.gz", "model.onnx", ".model_best.params.partial"):
        (tmp_path / stranger).write_bytes(b"anything")
    (tmp_path / "code").mkdir()
    last = write(tmp_path / LAST, network(classes=3))
    assert describe(tmp_path).params == last
    best = write(tmp_path / BEST, network(classes=4))
    assert describe(tmp_path).params == best


@pytest.mark.parametrize(
    ("stated", "crop_size"),
    [
        (STATED, 240),
        ({}, None),
        ({"algorithm": '"psp"', "num_classes": '"7"', "crop_size": '"240"'}, 240),
        ({"algorithm": "psp", "num_classes": 7, "crop_size": 240, "use_pretrained_model": True}, 240),
        ({"num_classes": 7.0, "crop_size": "240.0", "backbone": None}, 240),
        ({"crop_size": 233}, 240),
        ({"crop_size": None}, None),
    ],
)
def test_values_may_be_typed_quoted_or_missing(
    tmp_path: Path, write: Write, network: Parameters, stated: dict[str, object], crop_size: int | None
) -> None:
    path = write(tmp_path / BEST, network("psp", "resnet-101", 7))
    (tmp_path / "hyperparams.json").write_text(json.dumps(stated))
    assert describe(tmp_path) == ModelDescription(
        by_name("psp", NETWORKS), BACKBONES[1], 7, crop_size, True, path, Classes.unknown(7)
    )


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("algorithm", "fcn", "algorithm is fcn, but the parameters are of algorithm psp"),
        ("backbone", "resnet-50", "backbone is resnet-50, but the parameters are of backbone resnet-101"),
        ("num_classes", 21, "num_classes is 21, but the parameters are of num_classes 7"),
        ("crop_size", "big", "crop_size is big, not a number of pixels"),
        ("crop_size", "9" * 4000, "not a number of pixels"),
        ("crop_size", "-8", "not a number of pixels"),
        ("crop_size", "8\ud800", r"'8\ud800', not a number of pixels"),
        ("algorithm", "fcn\nmodel loaded", r"algorithm is 'fcn\nmodel loaded', but"),
    ],
)
def test_a_contradiction_shows_both_sides(
    tmp_path: Path, write: Write, network: Parameters, key: str, value: object, says: str
) -> None:
    write(tmp_path / BEST, network("psp", "resnet-101", 7))
    (tmp_path / "hyperparams.json").write_text(json.dumps(STATED | {key: value}))
    with pytest.raises(ArtifactError) as caught:
        describe(tmp_path)
    assert says in caught.value.message
    assert str(tmp_path / "hyperparams.json") in caught.value.message
    assert len(str(caught.value)) < 1024


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b" " * (1 << 21), b"[" * 100_000])
def test_unreadable_hyperparams_are_an_artifact_error(
    tmp_path: Path, write: Write, network: Parameters, content: bytes
) -> None:
    write(tmp_path / BEST, network())
    (tmp_path / "hyperparams.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"hyperparams\.json"):
        describe(tmp_path)


KNOWN = f"{titles(NETWORKS)} on {titles(BACKBONES)}"


@pytest.mark.parametrize("arrays", [{"conv0_weight": np.ones(3)}, {"head.block.4.weight": np.ones((5, 4, 1, 1))}])
def test_parameters_of_something_else_are_one_clear_error(
    tmp_path: Path, write: Write, arrays: dict[str, NDArray[Any]]
) -> None:
    path = write(tmp_path / BEST, arrays)
    with pytest.raises(ArtifactError) as caught:
        describe(tmp_path)
    assert caught.value.message == f"{path} does not hold one of the networks known here: {KNOWN}."
    assert caught.value.hint == f"It must be the parameters of {KNOWN} v1s, by the names that GluonCV gives them."


def test_parameters_that_lack_some_name_file_and_network(tmp_path: Path, write: Write, network: Parameters) -> None:
    arrays = network("psp")
    del arrays["conv1.0.weight"]
    path = write(tmp_path / BEST, arrays)
    with pytest.raises(ArtifactError) as caught:
        describe(tmp_path)
    fault = "does not hold PSP on ResNet-50, the nearest network: conv1.0.weight is missing."
    assert caught.value.message == f"{path} {fault}"
    assert caught.value.hint == f"It must be the parameters of {KNOWN} v1s, by the names that GluonCV gives them."


@pytest.mark.parametrize("classes", [1, 255])
def test_an_impossible_number_of_classes_is_an_error(
    tmp_path: Path, write: Write, network: Parameters, classes: int
) -> None:
    path = write(tmp_path / BEST, network(classes=classes))
    with pytest.raises(ArtifactError) as caught:
        describe(tmp_path)
    assert str(caught.value) == f"{path} holds a network of {classes} classes; a mask of 8 bits takes 2 to 254."


def test_a_classifier_of_another_form_is_an_error_that_says_what_is_wanted(
    tmp_path: Path, write: Write, network: Parameters
) -> None:
    path = write(tmp_path / BEST, network() | {"head.block.4.weight": np.ones(5, np.float32)})
    with pytest.raises(ArtifactError) as caught:
        describe(tmp_path)
    assert caught.value.message == f"{path} has no 4-dimensional head.block.4.weight."
    assert caught.value.hint == f"It must be the parameters of {KNOWN} v1s, by the names that GluonCV gives them."


def test_a_directory_without_parameters_names_both_files(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"neither model_best\.params nor model_algo-1"):
        describe(tmp_path)


def test_hyperparams_are_written_as_strings_and_read_back(tmp_path: Path, write: Write, network: Parameters) -> None:
    write_hyperparams(tmp_path, STATED)
    assert json.loads((tmp_path / "hyperparams.json").read_text()) == STATED
    write(tmp_path / BEST, network("psp", "resnet-101", 7))
    assert describe(tmp_path).num_classes == 7


NAMES = ["background", 'Öl, "schwarz"', "background"]


def test_class_names_are_written_and_read_back(tmp_path: Path, write: Write, network: Parameters) -> None:
    write(tmp_path / BEST, network(classes=3))
    write_classes(tmp_path, Classes((*NAMES,), (None,) * 3))
    assert describe(tmp_path).classes.names == tuple(NAMES)
    assert json.loads((tmp_path / CLASSES).read_text()) == {"classes": NAMES}
    assert [path.name for path in sorted(tmp_path.iterdir())] == [CLASSES, BEST]


def test_class_names_may_have_company(tmp_path: Path, write: Write, network: Parameters) -> None:
    write(tmp_path / BEST, network(classes=3))
    content = json.dumps({"classes": NAMES, "colors": {"0": "#ffffff"}}, ensure_ascii=False)
    (tmp_path / CLASSES).write_text(content, encoding="utf-8")
    assert describe(tmp_path).classes.names == tuple(NAMES)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not valid JSON"),
        ('["a", "b", "c"]', "must hold a JSON object, not list"),
        ("{}", "must hold a list of 3 names under the key classes, one for each class, not None"),
        ('{"classes": {"0": "a"}}', "not {'0': 'a'}"),
        ('{"classes": ["a", "b"]}', "not 2 of them"),
        ('{"classes": ["a", "b", "c", "d"]}', "not 4 of them"),
        ('{"classes": ["a", "b", 3]}', "the name of class 2 is 3, not a text of 1 to 256 characters on one line"),
        ('{"classes": ["a", "", "c"]}', "the name of class 1 is ''"),
        ('{"classes": ["a\\nb", "b", "c"]}', r"the name of class 0 is 'a\nb'"),
        ('{"classes": ["a", "b", "\\ud800"]}', r"the name of class 2 is '\ud800'"),
        (json.dumps({"classes": ["a", "b", "c" * 257]}), "the name of class 2 is 'ccc"),
        (json.dumps({"classes": ["c" * 4000] * 9}), "not 9 of them"),
        (" " * (1 << 20) + "{}", "is larger than 1048576 bytes"),
    ],
)
def test_wrong_class_names_are_an_error_that_names_the_fault(
    tmp_path: Path, write: Write, network: Parameters, content: str, says: str
) -> None:
    write(tmp_path / BEST, network(classes=3))
    (tmp_path / CLASSES).write_text(content)
    with pytest.raises(ArtifactError) as caught:
        describe(tmp_path)
    assert says in caught.value.message
    assert str(tmp_path / CLASSES) in caught.value.message
    assert len(str(caught.value)) < 1024


@pytest.mark.parametrize(
    ("stated", "base_size", "scale"),
    [
        ({"base_size": "200", "_serving_scale": "base"}, 200, "base"),
        ({"base_size": 520.0, "_serving_scale": '"none"'}, 520, "none"),
        ({"base_size": "large"}, None, "none"),
        ({}, None, "none"),
    ],
)
def test_the_size_of_its_training_and_the_scale_of_serving_are_kept(
    tmp_path: Path, write: Write, network: Parameters, stated: Any, base_size: int | None, scale: str
) -> None:
    write(tmp_path / BEST, network())
    (tmp_path / "hyperparams.json").write_text(json.dumps(stated))
    found = describe(tmp_path)
    assert (found.base_size, found.serving_scale) == (base_size, scale)


def test_an_unknown_scale_of_serving_is_an_error(tmp_path: Path, write: Write, network: Parameters) -> None:
    write(tmp_path / BEST, network())
    (tmp_path / "hyperparams.json").write_text('{"_serving_scale": "half"}')
    with pytest.raises(
        ArtifactError, match=r"hyperparams\.json says that _serving_scale is half, neither none nor base"
    ):
        describe(tmp_path)


@pytest.mark.parametrize(
    ("colors", "known"),
    [({"1": "#2ca02c"}, (None, 0x2CA02C, None)), ({}, (None, None, None)), (None, (None, None, None))],
)
def test_colours_may_be_given_for_some_classes(
    tmp_path: Path, write: Write, network: Parameters, colors: Any, known: tuple[int | None, ...]
) -> None:
    write(tmp_path / BEST, network(classes=3))
    (tmp_path / CLASSES).write_text(json.dumps({"classes": ["sky", "class 1", "car"], "colors": colors}))
    assert describe(tmp_path).classes == Classes(("sky", None, "car"), known)
    if any(known):
        write_classes(tmp_path, describe(tmp_path).classes)
        assert json.loads((tmp_path / CLASSES).read_text()) == {"classes": ["sky", "class 1", "car"], "colors": colors}


@pytest.mark.parametrize(
    "colors", [["#000000"], {"3": "#000000"}, {"a": "#000000"}, {"0": "red"}, {"0": 7}, "x" * 5000]
)
def test_wrong_colours_are_an_error(tmp_path: Path, write: Write, network: Parameters, colors: Any) -> None:
    write(tmp_path / BEST, network(classes=3))
    (tmp_path / CLASSES).write_text(json.dumps({"classes": ["sky", "road", "car"], "colors": colors}))
    with pytest.raises(ArtifactError, match=r"classes\.json: under the key colors, ") as caught:
        describe(tmp_path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["", "a\nb", "c" * 257])
def test_names_that_could_not_be_read_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="the name of class 1"):
        write_classes(tmp_path, Classes(("background", name), (None, None)))
    assert list(tmp_path.iterdir()) == []


def test_label_maps_are_written_and_read_back(tmp_path: Path, write: Write, network: Parameters) -> None:
    write(tmp_path / BEST, network())
    assert describe(tmp_path).label_maps == {}
    label_maps: dict[str, dict[str, Any]] = {"train": {"scale": "3"}, "validation": {"map": {"0": 5, "1": 0}}}
    write_label_maps(tmp_path, {**label_maps, "other": {"scale": 1}})
    assert describe(tmp_path).label_maps == label_maps


@pytest.mark.parametrize("content", ['{"train": 3}', "[]", "{"])
def test_damaged_label_maps_are_an_error(tmp_path: Path, write: Write, network: Parameters, content: str) -> None:
    write(tmp_path / BEST, network())
    (tmp_path / "label_maps.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"label_maps\.json"):
        describe(tmp_path)


@pytest.mark.parametrize("name", [CLASSES, "hyperparams.json", "label_maps.json"])
def test_a_pipe_in_a_file_s_place_is_not_waited_for(
    tmp_path: Path, write: Write, network: Parameters, name: str
) -> None:
    write(tmp_path / BEST, network())
    os.mkfifo(tmp_path / name)
    with pytest.raises(ArtifactError, match=f"{name} is not a file"):
        describe(tmp_path)


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        (
            "model.tar.gz",
            "{folder}/model.tar.gz is still packed: unpack it with tar -xf {folder}/model.tar.gz -C",
        ),
        ("model/model.tar.gz", "{folder}/model/model.tar.gz is still packed"),
        ("model/model_best.params", "There is a model in {folder}/model: give that folder, or move its files up."),
        ("a/b/model_algo-1", "There is a model in {folder}/a/b"),
        (".cache/model_best.params", "Give the unpacked model.tar.gz"),
        ("._model.tar.gz", "Give the unpacked model.tar.gz"),
    ],
)
def test_a_packed_or_nested_model_is_found_for_the_user(tmp_path: Path, place: str, hint: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    with pytest.raises(ArtifactError, match="holds neither") as caught:
        describe(tmp_path)
    assert hint.format(folder=tmp_path) in caught.value.hint


def test_of_endless_folders_few_are_looked_into(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}").mkdir()
    (tmp_path / "299/model_best.params").touch()
    with pytest.raises(ArtifactError) as caught:
        describe(tmp_path)
    assert "Give the unpacked model.tar.gz" in caught.value.hint


def test_parameters_that_no_network_computes_with_are_an_error_that_names_them(
    tmp_path: Path, write: Write, network: Parameters
) -> None:
    arrays = network()
    arrays["layer3.2.conv1.weight"][0] = np.nan
    arrays["head.block.4.weight"][1] = np.inf
    path = write(tmp_path / BEST, arrays)
    with pytest.raises(ArtifactError) as caught:
        describe(tmp_path)
    assert str(path) in caught.value.message
    assert caught.value.message.endswith("below 0, in layer3.2.conv1.weight, head.block.4.weight.")
    assert "train again" in caught.value.hint


def test_the_digest_is_of_the_parameter_file(tmp_path: Path, write: Write, network: Parameters) -> None:
    path = write(tmp_path / BEST, network())
    assert describe(tmp_path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_parameter_file_that_is_gone_has_no_digest(tmp_path: Path, write: Write, network: Parameters) -> None:
    path = write(tmp_path / BEST, network())
    model = describe(tmp_path)
    path.unlink()
    with pytest.raises(ArtifactError, match=f"{path} cannot be read: No such file"):
        _ = model.digest
