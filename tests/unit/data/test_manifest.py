from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semseg.data import manifest
from semseg.data.ground_truth import ColorMap
from semseg.data.manifest import list_manifest
from semseg.data.pairs import Listing
from semseg.data.s3 import ObjectStore
from semseg.errors import DataError, Stopped

SCRATCH = {
    "0": {"class-name": "BACKGROUND", "hex-color": "#ffffff", "confidence": 0.9},
    "1": {"class-name": "scratch", "hex-color": "#2ca02c", "confidence": 0.9},
}
DENT = {"2": {"class-name": "dent", "hex-color": "#1f77b4"}}


KEYS = ["source-ref", "city-ref", "x-ref", "city-ref-metadata", "internal-color-map", "0", "class-name", "hex-color"]
VALUES = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(["a.jpg", "../a", "s3://bucket/key", "s3://", "#2ca02c"]),
    lambda inner: st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=4) | st.lists(inner, max_size=2),
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES).map(lambda value: json.dumps(value).encode())
"""Lines that are nearly right."""


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    """It is never asked for an object here."""
    with ObjectStore() as store:
        yield store


@pytest.fixture
def channel(tmp_path: Path) -> Path:
    (tmp_path / "train").mkdir()
    return tmp_path / "train"


class Manifests:
    """Writes and lists train/x.manifest."""

    def __init__(self, channel: Path, store: ObjectStore) -> None:
        self.path = channel / "x.manifest"
        self.store = store

    def listing(self, *lines: dict[str, Any] | str | bytes, label_attribute: str | None = None) -> Listing:
        texts = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
        self.path.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in texts))
        return list_manifest("train", self.path, self.store, label_attribute)

    def problem(self, *lines: dict[str, Any] | str | bytes) -> str:
        """The only one."""
        listing = self.listing(*lines)
        (problem,) = listing.problems
        assert problem.message.isprintable()
        return problem.message


@pytest.fixture
def manifests(channel: Path, store: ObjectStore) -> Manifests:
    return Manifests(channel, store)


def line(image: Any = "a.jpg", mask: Any = "a.png", **more: Any) -> dict[str, Any]:
    return {"source-ref": image, "city-ref": mask} | more


def test_reading_ends_on_request(channel: Path) -> None:
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(len(asked) == 2)
        return asked[-1]

    with ObjectStore(stop=stop) as store, pytest.raises(Stopped):
        Manifests(channel, store).listing(*[line()] * 9)
    assert asked == [False, False, True]


def names(listing: Listing) -> list[tuple[str, str]]:
    return [(pair.image.name, pair.mask.name) for pair in listing.pairs]


class TestLines:
    @pytest.mark.req("R36", "R37", "R40")
    def test_each_line_is_a_pair_in_order(self, manifests: Manifests) -> None:
        found = manifests.listing(line("s3://bucket/b.jpg", "s3://bucket/b c.png"), line(), line())
        assert names(found) == [
            (
                "line 1 of train/x.manifest: source-ref s3://bucket/b.jpg",
                "line 1 of train/x.manifest: city-ref s3://bucket/b c.png",
            ),
            ("line 2 of train/x.manifest: source-ref a.jpg", "line 2 of train/x.manifest: city-ref a.png"),
            ("line 3 of train/x.manifest: source-ref a.jpg", "line 3 of train/x.manifest: city-ref a.png"),
        ]
        assert (found.name, found.problems, found.colors) == ("train", (), None)

    @pytest.mark.req("R39")
    def test_what_else_a_line_holds_is_ignored(self, manifests: Manifests) -> None:
        extra = {
            "city-metadata": {"job-name": "label-city"},
            "id": 7,
            "nested": [[{"source-ref": 1}]],
            "b-reference": 1,
        }
        assert len(manifests.listing(line(**extra)).pairs) == 1

    def test_byte_order_mark_blank_lines_and_windows_lines(self, manifests: Manifests) -> None:
        text = json.dumps(line()).encode()
        found = manifests.listing(b"\xef\xbb\xbf" + text + b"\r", b"  \r", text + b"\r", b"")
        assert [name for name, _ in names(found)] == [
            "line 1 of train/x.manifest: source-ref a.jpg",
            "line 3 of train/x.manifest: source-ref a.jpg",
        ]
        assert not found.problems

    @pytest.mark.req("R42")
    def test_the_slip_of_the_documentation_is_explained(self, manifests: Manifests) -> None:
        slip = (
            '{"source-ref": "S3 bucket location", "city-streets-ref": "S3 bucket location", '
            '"city-streets-metadata": {"job-name": "label-city-streets", }}'
        )
        assert manifests.problem(line(), slip) == (
            "line 2 of train/x.manifest: not JSON: a comma before '}' at column 140."
        )

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[1]", "not a JSON object"),
            ('{"source-ref": "a", "b-ref": "b", "b-ref": "c"}', "key 'b-ref' is given twice"),
            (b'{"source-ref": "\xff"}', "not JSON: byte 17 is not UTF-8"),
            ("{}", "needs source-ref and exactly one other key that ends in -ref, but has no key"),
            ('{"source-ref": "a", "mask": "b"}', "but has 'source-ref', 'mask'"),
            ('{"a-ref": "a", "b\\n-ref": "b"}', r"but has 'a-ref', 'b\n-ref'"),
            ('{"source-ref": 5, "b-ref": "b"}', "source-ref is 5, not the path or address of a file"),
            ('{"source-ref": "a", "b-ref": null}', "b-ref is None, not the path or address of a file"),
            ('{"source-ref": "a", "b-ref": ""}', "b-ref is '', not the path or address of a file"),
            ('{"source-ref": "a\\u0000", "b-ref": "b"}', r"source-ref is 'a\x00', not the path or address of a file"),
            ('{"source-ref": "a", "b-ref": "\\ud800"}', r"b-ref is '\ud800', not the path or address of a file"),
            ('{"source-ref": "s3://b/", "b-ref": "b"}', "source-ref: s3://b/ is not an address in S3"),
            ('{"source-ref": "a", "b-ref": "s3://bucket"}', "b-ref: s3://bucket names a bucket, not an object"),
        ],
    )
    def test_wrong_lines_are_reported_with_their_number(
        self, manifests: Manifests, text: str | bytes, said: str
    ) -> None:
        problem = manifests.problem(line(), text, line())
        assert problem.startswith("line 2 of train/x.manifest: ")
        assert said in problem

    def test_all_wrong_lines_are_reported_and_the_others_listed(self, manifests: Manifests) -> None:
        found = manifests.listing("{", line(), "[]")
        assert [problem.message[:7] for problem in found.problems] == ["line 1 ", "line 3 "]
        assert len(found.pairs) == 1
        assert "one object per line" in found.problems[0].hint

    def test_after_a_thousand_wrong_lines_it_ends(self, manifests: Manifests) -> None:
        found = manifests.listing(*["{"] * 1500)
        assert len(found.problems) == 1001
        assert found.problems[-1].message == "line 1001 of train/x.manifest and the following ones were not read."

    def test_an_endless_line_is_not_read(self, manifests: Manifests) -> None:
        assert manifests.problem(line(), b" " * 1_000_001) == "line 2 of train/x.manifest is longer than 1000000 bytes."

    def test_lines_beyond_the_limit_are_not_read(self, manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(manifest, "MAX_LINES", 2)
        assert len(manifests.listing(line(), line()).pairs) == 2
        assert manifests.problem(line(), line(), line()) == "line 3 of train/x.manifest is beyond the limit of 2 lines."

    @given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | OBJECTS)
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_whatever_a_line_holds_it_is_a_pair_or_a_problem(self, manifests: Manifests, text: bytes) -> None:
        found = manifests.listing(text, line())
        assert len(found.pairs) + len(found.problems) >= 1
        assert all(problem.message.isprintable() for problem in found.problems)
        for pair in found.pairs:
            assert pair.image.name.isprintable()
            if "s3://" not in pair.image.name:
                with pytest.raises(DataError, match=r"There is no such file|File name too long"):
                    pair.image.read()

    @pytest.mark.parametrize("text", [b"", b"\n \n", b"\xef\xbb\xbf"])
    def test_an_empty_manifest_is_a_problem(self, manifests: Manifests, text: bytes) -> None:
        assert manifests.problem(text) == "train/x.manifest is empty."

    def test_a_manifest_that_cannot_be_read(self, manifests: Manifests) -> None:
        (problem,) = list_manifest("train", manifests.path, manifests.store).problems
        assert problem.message == "train/x.manifest cannot be read: No such file or directory."


FAILED = {"city-ref-metadata": {"failure-reason": "ClientError: no\nanswer", "human-annotated": "yes"}}


class TestLabels:
    """Lines of labeling jobs that nobody labelled, and of jobs that adjust another one's labels."""

    @pytest.mark.parametrize(
        ("unlabelled", "reason"),
        [
            ({"source-ref": "b.jpg"}, ""),
            ({"source-ref": "b.jpg", "city-ref-metadata": {"job-name": "labeling-job/city"}}, ""),
            ({"source-ref": "b.jpg", **FAILED}, r" (failure-reason: 'ClientError: no\nanswer')"),
            ({"source-ref": "b.jpg", "id": 7, **FAILED}, r" (failure-reason: 'ClientError: no\nanswer')"),
            ({"source-ref": "b.jpg", "city-ref": None, **FAILED}, r" (failure-reason: 'ClientError: no\nanswer')"),
            ({"source-ref": "b.jpg", "city-ref": "", **FAILED}, r" (failure-reason: 'ClientError: no\nanswer')"),
        ],
    )
    def test_unlabelled_lines_are_skipped_with_one_warning(
        self, manifests: Manifests, unlabelled: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        found = manifests.listing(line(), unlabelled, line(), *[unlabelled] * 1500)
        assert (len(found.pairs), found.problems) == (2, ())
        assert caplog.messages == [
            f"line 2 (and 1500 more) of train/x.manifest: was never labelled, and is skipped{reason}."
        ]

    def test_a_manifest_without_labels_is_one_problem(
        self, manifests: Manifests, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As the input of a labeling job is, or its output where all images failed."""
        assert manifests.problem(*[{"source-ref": "a.jpg"}] * 1500) == (
            "No line of train/x.manifest is labelled: none has a key other than source-ref that ends in -ref."
        )
        assert "(failure-reason: 'ClientError: no" in manifests.problem({"source-ref": "a.jpg", **FAILED})
        assert not caplog.messages

    def test_several_keys_are_one_problem_that_names_them(self, manifests: Manifests) -> None:
        found = manifests.listing(line(), *[line(**{"better-ref": "b.png"})] * 1500)
        assert [problem.message for problem in found.problems] == [
            "line 2 (and 1499 more) of train/x.manifest: has several keys that end in -ref: 'city-ref', 'better-ref'."
        ]
        assert "_label_attribute" in found.problems[0].hint

    @pytest.mark.parametrize(("wanted", "mask"), [("city-ref", "a.png"), ("better-ref", "b.png")])
    def test_of_several_keys_one_can_be_chosen(self, manifests: Manifests, wanted: str, mask: str) -> None:
        found = manifests.listing(line(**{"better-ref": "b.png"}), label_attribute=wanted)
        assert [name for _, name in names(found)] == [f"line 1 of train/x.manifest: {wanted} {mask}"]

    def test_lines_without_the_chosen_key_are_unlabelled(
        self, manifests: Manifests, caplog: pytest.LogCaptureFixture
    ) -> None:
        lines = [line(), line(**{"better-ref": "b.png"}), {"source-ref": "c.jpg", "split": "train"}]
        found = manifests.listing(*lines, label_attribute="better-ref")
        assert len(found.pairs) == 1
        assert caplog.messages == [
            "line 1 (and 1 more) of train/x.manifest: has no label 'better-ref', and is skipped."
        ]
        (problem,) = manifests.listing(*lines, label_attribute="best-ref").problems
        assert problem.message == (
            "No line of train/x.manifest has the label 'best-ref'; the labels are 'city-ref', 'better-ref'."
        )


class TestPaths:
    @pytest.mark.parametrize(
        "name", ["a b.png", "图片 ü.png", "100%25+1.png", "?#&.png", "0_2020-07-01T00:00:00.1.png", "~"]
    )
    def test_names_are_taken_literally(self, channel: Path, manifests: Manifests, name: str) -> None:
        (channel / name).write_bytes(b"bytes")
        (pair,) = manifests.listing(line(mask=name)).pairs
        assert pair.mask.read() == b"bytes"
        assert pair.mask.name == f"line 1 of train/x.manifest: city-ref {name}"

    def test_names_may_be_spelled_in_another_normal_form(self, channel: Path, manifests: Manifests) -> None:
        (channel / "gro\u0308\u00dfe").mkdir()
        (channel / "gro\u0308\u00dfe/u\u0308.jpg").write_bytes(b"image")
        (channel / "\u00e4.png").write_bytes(b"mask")
        pair = manifests.listing(line("gr\u00f6\u00dfe/\u00fc.jpg", "a\u0308.png")).pairs[0]
        assert (pair.image.read(), pair.mask.read()) == (b"image", b"mask")

    def test_siblings_are_in_reach(self, tmp_path: Path, manifests: Manifests) -> None:
        (tmp_path / "train_annotation").mkdir()
        (tmp_path / "train_annotation/a.png").write_bytes(b"bytes")
        (pair,) = manifests.listing(line(mask="../train_annotation/./a.png")).pairs
        assert pair.mask.read() == b"bytes"

    @pytest.mark.parametrize(
        "value",
        [
            "/etc/hostname",
            "../../a.png",
            "a/../../../a.png",
            "https://host/a.png",
            "file:///a.png",
            "S3://bucket/a.png",
        ],
    )
    def test_other_places_are_refused(self, manifests: Manifests, value: str) -> None:
        problem = manifests.problem(line(value))
        assert problem.startswith(f"line 1 of train/x.manifest: source-ref is '{value}', neither s3://")

    def test_a_link_leads_to_the_directory_where_the_manifest_is(
        self, tmp_path: Path, manifests: Manifests, store: ObjectStore
    ) -> None:
        manifests.listing(line())
        (manifests.path.parent / "a.jpg").write_bytes(b"bytes")
        (tmp_path / "job/input/train").mkdir(parents=True)
        link = tmp_path / "job/input/train/linked.manifest"
        link.symlink_to(manifests.path)
        (pair,) = list_manifest("train", link, store).pairs
        assert pair.image.read() == b"bytes"
        assert pair.image.name == "line 1 of train/linked.manifest: source-ref a.jpg"

    def test_links_among_the_data_are_followed(self, tmp_path: Path, channel: Path, manifests: Manifests) -> None:
        (tmp_path / "elsewhere/deep").mkdir(parents=True)
        (tmp_path / "elsewhere/deep/a.jpg").write_bytes(b"bytes")
        (channel / "images").symlink_to(tmp_path / "elsewhere/deep")
        (pair,) = manifests.listing(line("images/a.jpg")).pairs
        assert pair.image.read() == b"bytes"

    def test_what_is_no_file_is_reported_with_its_line_and_not_waited_for(
        self, channel: Path, manifests: Manifests
    ) -> None:
        os.mkfifo(channel / "fifo")
        for name in ("lost.jpg", "fifo", ".", "x" * 300):
            (pair,) = manifests.listing(line(name)).pairs
            with pytest.raises(
                DataError, match=rf"^line 1 of train/x\.manifest: source-ref {name}: .*(no such|too long)"
            ):
                pair.image.read()

    def test_control_characters_stay_out_of_messages(self, manifests: Manifests) -> None:
        (pair,) = manifests.listing(line("a\nERROR")).pairs
        assert pair.image.name.isprintable()
        with pytest.raises(DataError) as raised:
            pair.image.read()
        assert raised.value.message.isprintable()


class TestGroundTruth:
    def test_names_and_colours_of_all_lines_are_joined_and_shared(self, manifests: Manifests) -> None:
        found = manifests.listing(
            line(**{"city-ref-metadata": {"internal-color-map": SCRATCH}}),
            line(),
            line(**{"city-metadata": {"internal-color-map": DENT}}),
        )
        assert not found.problems
        first, second, third = (pair.colors for pair in found.pairs)
        assert first is found.colors
        assert first == ColorMap(((0, "BACKGROUND", 0xFFFFFF), (1, "scratch", 0x2CA02C), (2, "dent", 0x1F77B4)))
        assert second is None
        assert third is first

    def test_lines_that_contradict_each_other_are_both_named(self, manifests: Manifests) -> None:
        other = {"1": {"class-name": "dent", "hex-color": "#2ca02c"}}
        problem = manifests.problem(
            line(**{"city-ref-metadata": {"internal-color-map": SCRATCH}}),
            line(**{"city-ref-metadata": {"internal-color-map": other}}),
        )
        assert problem == (
            "line 2 of train/x.manifest: internal-color-map says class 1 is 'dent' in #2ca02c, "
            "but line 1 says 'scratch' in #2ca02c."
        )

    @pytest.mark.req("R39")
    def test_only_in_the_map_a_key_that_is_given_twice_matters(self, manifests: Manifests) -> None:
        colors = json.dumps(DENT)
        ignored = '{"source-ref": "a", "b-ref": "b", "x": {"k": 1, "k": 2}, "b-ref-metadata": {"k": 1, "k": 2%s}}'
        assert not manifests.listing(ignored % "", ignored % f', "internal-color-map": {colors}').problems
        for wrong in (f"{colors[:-1]}, {colors[1:]}", colors.replace("}", ', "class-name": "dent"}', 1)):
            problem = manifests.problem(ignored % f', "internal-color-map": {wrong}')
            assert re.fullmatch(r"line 1 of train/x\.manifest: key '(2|class-name)' is given twice\.", problem)

    def test_a_malformed_map_is_reported_with_its_line(self, manifests: Manifests) -> None:
        problem = manifests.problem(line(**{"city-ref-metadata": {"internal-color-map": {"x": 1}}}))
        assert problem == "line 1 of train/x.manifest: key 'x' of internal-color-map is not a class from 0 to 255."
