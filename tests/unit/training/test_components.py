from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.artifact.earlier import Earlier
from semseg.codecs.params import write_params
from semseg.data.label_map import parse_label_map
from semseg.data.pairs import Listing
from semseg.data.report import Report
from semseg.data.split_statistics import PairStatistics, SplitStatistics
from semseg.engines.choose import Trainer
from semseg.engines.group import ALONE, Group
from semseg.engines.protocols import Device, LearnerSpecification, OptimizerSettings
from semseg.errors import HyperparameterError
from semseg.networks.definitions import BACKBONES, NETWORKS, by_name
from semseg.networks.parameters import backbone_table, parameter_table
from semseg.sagemaker.hyperparameters import parse
from semseg.training import components
from semseg.training.checkpoints import Checkpoint
from semseg.training.components import build_learner, choose_class_weights
from semseg.training.progress import BEGINNING
from semseg.types import Arrays, Classes


def report(name: str) -> Report:
    """The report of a split with three pixels of class 0 and one of class 1."""
    statistics = SplitStatistics(Listing(name, (), ()), parse_label_map({"scale": 1}, 2, "map.json"))
    statistics.add(PairStatistics(values=np.bincount([0, 0, 0, 1], minlength=256)))
    return Report((statistics.report(),), (), ())


def test_the_weights_of_classes_are_none_given_or_counted(caplog: pytest.LogCaptureFixture) -> None:
    def weights(given: str) -> tuple[float, ...] | None:
        settings, _ = parse({"num_classes": "2", "_class_weights": given})
        return choose_class_weights(settings, report("train"))

    assert weights("none") is None
    assert weights("0.5,25") == (0.5, 25.0)
    with caplog.at_level("INFO", logger="semseg"):
        assert weights("auto") == pytest.approx((0.5 / 0.75, 0.5 / 0.25))
    assert caplog.messages == ["Class weights: 0.6667, 2"]


class Recording:
    """An engine that records the arguments of its learners."""

    def learner(
        self, specification: LearnerSpecification, arrays: Arrays, origin: str, device: Device, group: Group, /
    ) -> Any:
        assert group is ALONE
        self.specification, self.arrays, self.origin, self.device = specification, arrays, origin, device
        self.restored: Any = None
        return self

    def restore(self, arrays: Arrays, origin: str) -> None:
        self.restored = arrays, origin


def built(given: Mapping[str, str], weights: tuple[float, ...] | None = None, **start: Any) -> Recording:
    """Builds a learner, by default from scratch, and returns the recorded arguments."""
    engine: Any = Recording()
    settings, _ = parse({"num_classes": "3", "use_pretrained_model": "False", **given})
    trainer = Trainer(engine, Device("here"), "bfloat16")
    build_learner(settings, start.get("earlier"), start.get("checkpoint"), weights, trainer)
    assert engine.device == Device("here")
    recorded: Recording = engine
    return recorded


def test_a_learner_is_specified_as_the_hyperparameters_say() -> None:
    """Each has a different value, so that mixing two up is noticed."""
    given = {"algorithm": "psp", "backbone": "resnet-101", "optimizer": "nag", "_loss": "focal"}
    rates = {"momentum": "0.11", "weight_decay": "0.12", "gamma1": "0.13", "gamma2": "0.14", "_gradient_clip": "0.15"}
    engine = built(
        {
            **given,
            **rates,
            "_aux_weight": "0.16",
            "_aux_loss": "False",
            "_tf32": "True",
            "syncbn": "True",
            "_kvstore": "local",
        },
        (0.5, 1.0, 2.0),
    )
    assert engine.specification == LearnerSpecification(
        by_name("psp", NETWORKS),
        by_name("resnet-101", BACKBONES),
        3,
        OptimizerSettings("nag", 0.11, 0.12, 0.13, 0.14, 0.15),
        loss="focal",
        class_weights=(0.5, 1.0, 2.0),
        aux_loss=False,
        aux_weight=0.16,
        precision="bfloat16",
        tf32=True,
        syncbn=True,
        kvstore="local",
    )


@pytest.mark.req("R8")
def test_a_training_from_scratch_begins_with_values_of_its_seed() -> None:
    first, second, third = (built({"_seed": seed}).arrays for seed in ("17", "17", "18"))
    assert first.keys() == parameter_table(NETWORKS[0], BACKBONES[0], 3).keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.array_equal(first["conv1.0.weight"], third["conv1.0.weight"])
    assert not np.array_equal(first["head.block.0.weight"], third["head.block.0.weight"])


@pytest.mark.req("R7", "R9")
def test_a_pretrained_backbone_takes_the_place_of_initial_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "backbone.params"
    write_params(path, {name: np.full(p.shape, 7, np.float32) for name, p in backbone_table(BACKBONES[0]).items()})
    monkeypatch.setattr(components, "find_backbone", lambda name: {"resnet-50": path}[name])
    engine = built({"use_pretrained_model": "True"})
    assert engine.origin == str(path)
    for name, array in engine.arrays.items():
        assert name.startswith(("head.", "auxlayer.")) != bool((array == 7).all()), name


def test_a_backbone_that_is_not_to_be_had_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    with pytest.raises(HyperparameterError, match="use_pretrained_model"):
        built({"use_pretrained_model": "True"})


def test_an_earlier_model_comes_first_and_may_lack_the_auxiliary_head() -> None:
    arrays: Arrays = {
        name: np.full(parameter.shape, 5, np.float32)
        for name, parameter in parameter_table(NETWORKS[0], BACKBONES[0], 3, auxiliary=False).items()
    }
    engine = built({"use_pretrained_model": "True"}, earlier=Earlier(arrays, "model.tar.gz", Classes.unknown(3)))
    assert engine.origin == "model.tar.gz"
    assert engine.restored is None
    scratch = built({}).arrays
    for name, array in engine.arrays.items():
        np.testing.assert_array_equal(array, scratch[name] if name.startswith("auxlayer.") else arrays[name])


def test_initial_values_are_no_substitute_for_what_an_earlier_model_lacks() -> None:
    """The engine rejects incomplete parameters: random values must not repair a damaged model."""
    table = parameter_table(NETWORKS[0], BACKBONES[0], 3)
    for lacking in ("auxlayer.block.0.weight", "head.block.0.weight"):
        arrays: Arrays = {name: np.zeros(p.shape, np.float32) for name, p in table.items() if name != lacking}
        assert built({}, earlier=Earlier(arrays, "model.tar.gz", Classes.unknown(3))).arrays.keys() == table.keys() - {
            lacking
        }


def test_a_checkpoint_is_restored_whatever_else_is_there(tmp_path: Path) -> None:
    state: Arrays = {"anything": np.ones(3)}
    checkpoint = Checkpoint(tmp_path / "checkpoint", BEGINNING, state, memoryview(b""))
    engine = built(
        {"use_pretrained_model": "True"}, earlier=Earlier({}, "f", Classes.unknown(3)), checkpoint=checkpoint
    )
    assert engine.restored == (state, str(tmp_path / "checkpoint"))
