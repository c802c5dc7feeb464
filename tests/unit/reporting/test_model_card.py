from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from made_report import HOSTILE, made_classes, made_epochs
from markdown_it import MarkdownIt

from semseg.data.check import check
from semseg.data.label_map import LabelMap, parse_label_map
from semseg.data.pairs import list_pairs
from semseg.data.shapes import write_shapes
from semseg.reporting.events import Event, Failed, ModelSaved, Resumed, Scored, Stopping
from semseg.reporting.model_card import ModelCard
from semseg.reporting.report_file import Background

EPOCHS = made_epochs(3, 2)
KNOWN = Background(
    "FCN on ResNet-50",
    5,
    made_classes(2, ("sky", "road")),
    settings={"algorithm": "fcn", "_loss": "dice+ce"},
    versions={"semseg-container": "1.2.3", "numpy": "1.23.5"},
)
SCORED = Scored("test", 7, 0.75, 0.5, 0.625, [0.5123, None])


def card(folder: Path, *events: Event, known: Background = KNOWN) -> str:
    sink = ModelCard(folder, known)
    for event in (*EPOCHS, ModelSaved(folder / "model_best.params"), ModelSaved(folder / "model_algo-1"), *events):
        sink(event)
    sink.close()
    return (folder / "README.md").read_text()


def test_it_says_what_the_model_is(tmp_path: Path) -> None:
    text = card(tmp_path, SCORED)
    best = max(EPOCHS, key=lambda epoch: epoch.validated.mean_iou).validated
    assert text.startswith("# FCN on ResNet-50, 2 classes\n")
    assert "trained with semseg-container 1.2.3." in text
    assert "Trained for 3 of 5 epochs." in text
    assert f"| crops of validation, epoch {best.epoch + 1} | {best.mean_iou:.4f} |" in text
    assert "| 7 whole images of test | 0.5000 | 0.6250 | 0.7500 |" in text
    assert f"| 0 | sky | {best.iou[0]:.4f} | 0.5123 |" in text
    assert f"| 1 | road | {best.iou[1]:.4f} | - |" in text
    assert "A class without annotated pixels has no IoU, and counts as 0 in mIOU." in text
    assert "without annotated pixels" not in card(tmp_path)
    assert "| `_loss` | dice+ce |" in text
    assert "| numpy | 1.23.5 |" in text
    assert "localhost:8080/invocations" in text
    assert 'semseg.load("model.tar.gz")' in text
    assert "expect less on other images" not in text
    assert "expect less on other images" in card(tmp_path)


def test_it_says_by_which_label_maps_the_annotations_were_read(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=2, validation=2, size=(32, 24), seed=0)
    listings = [list_pairs(name, tmp_path / name, tmp_path / f"{name}_annotation") for name in ("train", "validation")]
    direct, mapped = (parse_label_map(source, 4, "the map") for source in ({"scale": 1}, {"map": {"0": 0, "1": 3}}))

    def said(train: LabelMap, validation: LabelMap) -> str:
        report = check(list(zip(listings, (train, validation), strict=True)), workers=0)
        return card(tmp_path, known=dataclasses.replace(KNOWN, data=report))

    read = 'were read by the label map {"map": {"0": 0, "1": 3}}.'
    assert f"The annotations of train and validation {read}" in said(mapped, mapped)
    assert f"The annotations of validation {read}" in said(direct, mapped)
    assert "label map" not in said(direct, direct)


def test_it_says_that_a_training_was_stopped_or_resumed(tmp_path: Path) -> None:
    assert "Trained for 3 of 5 epochs, stopped on request." in card(tmp_path, Stopping())
    sink = ModelCard(tmp_path, KNOWN)
    for event in (Resumed(tuple(EPOCHS)), ModelSaved(tmp_path / "model_algo-1")):
        sink(event)
    sink.close()
    assert "Trained for 3 of 5 epochs." in (tmp_path / "README.md").read_text()


def test_another_process_may_have_saved_the_model(tmp_path: Path) -> None:
    sink = ModelCard(tmp_path, KNOWN, saved=True)
    for event in (Resumed(tuple(EPOCHS)), SCORED):
        sink(event)
    sink.close()
    assert "| 7 whole images of test | 0.5000 |" in (tmp_path / "README.md").read_text()


def test_a_model_without_a_validation_has_a_card(tmp_path: Path) -> None:
    sink = ModelCard(tmp_path, KNOWN)
    sink(ModelSaved(tmp_path / "model_algo-1"))
    sink.close()
    assert "The model was not validated: no epoch has ended." in (tmp_path / "README.md").read_text()


def test_names_are_neither_markdown_nor_html(tmp_path: Path) -> None:
    names = (HOSTILE, "a | b ``` *c* [d](http://e) _f_\n# g")
    known = dataclasses.replace(
        KNOWN, title=HOSTILE, classes=made_classes(2, names), settings={"_label_attribute": "`|x"}, notes=[names[1]]
    )
    tokens = MarkdownIt("commonmark").enable("table").parse(card(tmp_path, known=known))
    parts = [part for token in tokens for part in (token.children or [])]
    assert not [part for part in parts if part.type in ("html_inline", "link_open", "em_open", "image")]
    assert not [token for token in tokens if token.type in ("html_block",)]
    assert len([token for token in tokens if token.type == "heading_open"]) == 8
    assert len([token for token in tokens if token.type == "fence"]) == 2
    cells = ["".join(part.content for part in token.children or []) for token in tokens if token.type == "inline"]
    assert HOSTILE in cells
    assert "`|x" in cells


@pytest.mark.parametrize("last", [(), (ModelSaved(Path("model_algo-1")), Failed("lost"))])
def test_there_is_none_without_a_whole_model(tmp_path: Path, last: tuple[Event, ...]) -> None:
    sink = ModelCard(tmp_path, KNOWN)
    for event in (*EPOCHS, ModelSaved(Path("model_best.params")), *last):
        sink(event)
    sink.close()
    assert list(tmp_path.iterdir()) == []
