from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from semseg.artifact.model_dir import describe
from semseg.data.labelled_folder import open_labelled
from semseg.inference.load import load_predictor
from semseg.offline import combinations
from semseg.offline.combinations import Combination, evaluate_all


def test_a_model_has_left_the_memory_when_the_next_one_is_loaded(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        alive.append(sum(predictor() is not None for predictor in loaded))
        found = load_predictor(*arguments, **options)
        loaded.append(weakref.ref(found.predictor))
        return found

    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images/a.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "masks/a.png")
    monkeypatch.setattr(combinations, "load_predictor", watched)
    folder = open_labelled(tmp_path / "images", tmp_path / "masks", None, 4)
    choices = ["openvino"], ["f32", "f32", "int8", "f32"], ["1"]
    outcomes = list(evaluate_all(small_model, describe(small_model), folder, choices, "auto", lambda: None, "model"))
    assert alive == [0, 0, 0, 0]
    assert [outcome.combination for outcome in outcomes[1:]] == [
        Combination("openvino", precision, "1") for precision in ("f32", "int8", "f32")
    ]
    assert str(outcomes[2].result).startswith("model has no int8 model, model_int8.onnx.")
