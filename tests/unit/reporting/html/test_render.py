from __future__ import annotations

import base64
import dataclasses
import errno
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_report import HOSTILE, made_report
from PIL import Image

from semseg.codecs.palettes import palette
from semseg.data.check import check
from semseg.data.label_map import DEFAULT, parse_label_map
from semseg.data.pairs import list_pairs
from semseg.data.shapes import write_shapes
from semseg.errors import DiskFullError
from semseg.reporting.html import render as module
from semseg.reporting.html.content import ReportContent, SampleGroup
from semseg.reporting.html.render import render, split_shares, write_report
from semseg.reporting.html.samples import MAX_PIXELS, Sample
from semseg.types import IGNORED, Classes

VOID = {"meta", "link", "img", "br"}


class Document(HTMLParser):
    """The elements of a document: their names, attributes and, for `data`, their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.numbers: list[tuple[str, str]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "data":
            self.numbers.append((str(self.elements[-1][1]["value"]), data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize(("epochs", "classes"), [(1, 2), (1, 150), (50, 24), (50, 25), (300, 150)])
def test_reports_of_any_size_are_whole_and_small(epochs: int, classes: int) -> None:
    text = render(made_report(epochs, classes))
    document = Document(text)
    assert len(text) < 1e6
    assert len(document.all("img")) == 8 * 4
    assert text.count('class="class"') >= classes
    assert not document.all("script")


def test_nothing_is_loaded() -> None:
    document = Document(render(made_report(2, 30)))
    addresses = [
        value
        for _, attributes in document.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
    ]
    assert len(addresses) > 32
    assert all(str(address).startswith(("data:image/", "data:,", "#")) for address in addresses)
    text = render(made_report(2, 30))
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = [m for m in document.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_names_with_html_in_them_stay_text() -> None:
    names = (HOSTILE, "</style><img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "{{ 7 * 7 }}", "\ud800")
    content = made_report(2, 5, names, failure=HOSTILE)
    content = dataclasses.replace(
        content,
        title=HOSTILE,
        settings={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        notes=[HOSTILE],
        samples=[SampleGroup(HOSTILE, HOSTILE, [dataclasses.replace(content.samples[0].samples[0], name=names[1])])],
    )
    document = Document(render(content))
    plain = Document(render(made_report(2, 5)))
    assert {tag for tag, _ in document.elements} <= {tag for tag, _ in plain.elements}
    assert not any(name.startswith("on") for _, attributes in document.elements for name in attributes)
    assert len(document.all("style")) == 1
    assert "49" not in [text for _, text in document.numbers]


def test_the_images_of_noise_fit_into_two_megabytes() -> None:
    """The worst that a training can give: nothing of it can be compressed."""
    rng = np.random.default_rng(0)
    side = int(MAX_PIXELS**0.5)
    noisy = [
        Sample(
            f"{number}",
            rng.integers(0, 256, (side, side, 3), np.uint8),
            rng.integers(0, 254, (side, side), np.uint8),
            rng.integers(0, 254, (side, side), np.uint8),
            1.0,
        )
        for number in range(8)
    ]
    content = dataclasses.replace(made_report(1, 2), samples=[SampleGroup("Noise", "", noisy)])
    assert len(render(content).encode()) < 2_000_000


def test_the_views_show_labels_predictions_and_errors() -> None:
    labels = np.array([[0, 1], [2, IGNORED]], np.uint8)
    found = Sample("a.jpg", np.full((2, 2, 3), 90, np.uint8), labels, np.array([[0, 2], [2, 1]], np.uint8), 1 / 3)
    content = dataclasses.replace(made_report(1, 3), samples=[SampleGroup("Images", "", [found])])
    images = Document(render(content)).all("img")
    photo, truth, prediction, errors = (decoded(str(image["src"])) for image in images)
    assert (np.abs(photo[..., :3].astype(int) - 90) < 3).all()
    colours = palette("voc")
    for view, ids in ((truth, labels), (prediction, found.predicted)):
        np.testing.assert_array_equal(view[ids != IGNORED][:, :3], colours[ids[ids != IGNORED]])
    assert truth[..., 3].tolist() == [[255, 255], [255, 0]]
    assert prediction[..., 3].tolist() == [[255, 255], [255, 255]]
    assert errors[..., 3].tolist() == [[0, 255], [0, 90]]
    assert [image["alt"] for image in images] == [f"{n} of a.jpg" for n in ("Image", "Truth", "Prediction", "Errors")]


def decoded(uri: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))


def test_numbers_are_given_exactly() -> None:
    content = made_report(3, 4)
    numbers = Document(render(content)).numbers
    for epoch in content.epochs:
        assert str(epoch.validated.mean_iou) in [value for value, _ in numbers]
    assert content.matrix
    assert [str(value) for value in content.matrix.iou()[:3]] == [
        value for value, _ in numbers if value in list(map(str, content.matrix.iou()))
    ]
    for value, shown in numbers:
        assert float(shown.replace(",", "")) == pytest.approx(float(value), abs=6e-5, rel=0.01)


def test_percentages_are_0_for_none_and_100_for_all_alone() -> None:
    percent = module.environment().filters["percent"]
    assert [percent(share) for share in (0.0, 1e-9, 0.0005, 0.5, 0.9994, 0.99999, 1.0)] == [
        *("0", "< 0.1", "0.1", "50.0", "99.9", "> 99.9", "100"),
    ]


def test_a_loss_that_is_not_finite_is_said_to_be() -> None:
    content = made_report(2, 2)
    ended = content.epochs[-1]
    validated = dataclasses.replace(ended.validated, loss=float("inf"))
    epochs = [content.epochs[0], dataclasses.replace(ended, validated=validated)]
    assert ("inf", "not finite") in Document(render(dataclasses.replace(content, epochs=epochs))).numbers


def test_what_is_said_of_shares_and_measures_is_said_where_there_are_any() -> None:
    content = made_report(2, 3)
    measures, shares = "A class without annotated pixels has none.", "Shares are of the pixels that are not ignored"
    text = render(content)
    assert measures in text
    assert shares in text
    assert shares not in render(dataclasses.replace(content, shares={}))
    assert measures not in render(dataclasses.replace(content, matrix=None, measured_on=""))


def test_what_is_empty_is_left_out() -> None:
    content = ReportContent("Evaluation", "FCN", "Done.", Classes.unknown(2))
    document = Document(render(content))
    assert not document.all("section")
    assert not document.all("table")


def test_the_data_check_is_shown(tmp_path: Path) -> None:
    write_shapes(tmp_path, train=2, validation=2, size=(40, 30), seed=0)
    label_map = parse_label_map(DEFAULT, 4, "the label map")
    pairs = [list_pairs(name, tmp_path / name, tmp_path / f"{name}_annotation") for name in ("train", "validation")]
    report = check([(listing, label_map) for listing in pairs], workers=0)
    report = dataclasses.replace(report, suspicions=("Class 3 is <rare>.",))
    content = dataclasses.replace(made_report(1, 4), data=report, shares=split_shares(report))
    text = render(content)
    assert "Class 3 is &lt;rare&gt;." in text
    assert "<td>40 x 30</td><td>JPEG RGB</td>" in text
    assert re.search(r'<tr><th scope="row">train</th><td><data value="2">2</data></td>', text)
    assert "The check found nothing suspicious." in render(
        dataclasses.replace(content, data=dataclasses.replace(report, suspicions=()))
    )


def test_pixels_of_values_that_no_label_map_lists_count_as_ignored(tmp_path: Path) -> None:
    for folder, values in (
        ("train", np.zeros((10, 10, 3), np.uint8)),
        ("train_annotation", np.zeros((10, 10), np.uint8)),
    ):
        (tmp_path / folder).mkdir()
        values[:5] = 7
        Image.fromarray(values).save(tmp_path / folder / "0.png")
    label_map = parse_label_map({"map": {"0": 0}}, 2, "the label map")
    report = check([(list_pairs("train", tmp_path / "train", tmp_path / "train_annotation"), label_map)], workers=0)
    assert "<td>50.0 %</td>" in render(dataclasses.replace(made_report(1, 2), data=report))


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    write_report(made_report(1, 2), path)
    before = path.read_bytes()
    (tmp_path / ".report.html.partial").symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match="The disk is full"):
        write_report(made_report(2, 2), path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]

    def fail(*_: object) -> str:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(module, "render", fail)
    with pytest.raises(OSError, match="broken"):
        write_report(made_report(2, 2), path)
    assert path.read_bytes() == before
