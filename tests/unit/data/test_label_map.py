from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semseg.data.label_map import UNLISTED_COLOR, parse_label_map
from semseg.data.label_map_files import find_label_map
from semseg.errors import ChannelError, DataError
from semseg.types import IGNORED, Classes, UInt8

ALL = np.arange(256, dtype=np.uint8)


def apply(source: dict[str, Any] | str, *values: int, num_classes: int = 3) -> list[int]:
    label_map = parse_label_map(source, num_classes, "map.json")
    mask: UInt8 = np.array([values], np.uint8)
    labels: list[int] = label_map.apply(mask)[0].tolist()
    return labels


class TestScale:
    @pytest.mark.req("R28", "R29")
    def test_the_default_takes_values_as_classes_and_ignores_255(self) -> None:
        assert apply({"scale": "1"}, 0, 1, 2, 255) == [0, 1, 2, IGNORED]

    @pytest.mark.req("R30", "R31", "R33")
    @pytest.mark.parametrize("scale", ["3", 3, 3.0, "3.0", " 3 "])
    def test_example_of_the_documentation(self, scale: str | float) -> None:
        assert apply({"scale": scale}, 0, 3, 6) == [0, 1, 2]

    @pytest.mark.req("R30")
    def test_no_proper_integer_gives_the_greatest_below(self) -> None:
        assert apply({"scale": 3}, 2, 4, 5, 8) == [0, 1, 1, 2]
        assert apply({"scale": 2.5}, 2, 3, 5) == [0, 1, 2]

    def test_255_is_a_class_when_scaled_down_to_one(self) -> None:
        assert apply({"scale": 255}, 0, 254, 255, num_classes=2) == [0, 0, 1]
        assert apply({"scale": 100}, 255) == [2]

    def test_255_is_ignored_when_scaled_down_to_none(self) -> None:
        label_map = parse_label_map({"scale": 2}, 100, "map.json")
        assert label_map.table[255] == IGNORED
        assert not label_map.invalid[255]

    def test_a_value_beyond_the_classes_is_invalid(self) -> None:
        label_map = parse_label_map({"scale": 10}, 3, "map.json")
        np.testing.assert_array_equal(label_map.invalid, (ALL >= 30) & (ALL < 255))
        assert not label_map.unlisted.any()

    @pytest.mark.parametrize("scale", [0, 0.5, -1, 256, "", "three", None, True, [1], {}, "nan", "inf", 10**400])
    def test_other_scales_are_refused(self, scale: object) -> None:
        with pytest.raises(DataError, match=r"map\.json: 'scale' is "):
            parse_label_map({"scale": scale}, 3, "map.json")

    def test_a_long_scale_leaves_room_for_the_rest_of_the_message(self) -> None:
        with pytest.raises(DataError, match=r"'scale' is '1{99}, not a number from 1 to 255"):
            parse_label_map({"scale": "1" * 5000}, 3, "map.json")


class TestMap:
    @pytest.mark.req("R32")
    def test_example_of_the_documentation(self) -> None:
        assert apply({"map": {"0": 5, "1": 0, "2": 2}}, 0, 5, 2) == [1, 0, 2]

    def test_binary_masks(self) -> None:
        assert apply({"map": {"0": 0, "1": 255}}, 0, 255, num_classes=2) == [0, 1]

    def test_values_no_map_lists_are_ignored_and_known_but_255_goes_without_saying(self) -> None:
        label_map = parse_label_map({"map": {"0": 5, "1": "7", "255": 9}}, 2, "map.json")
        np.testing.assert_array_equal(label_map.unlisted, ~np.isin(ALL, [5, 7, 9, 255]))
        np.testing.assert_array_equal(np.flatnonzero(label_map.table != IGNORED), [5, 7])
        assert not label_map.invalid.any()

    @pytest.mark.parametrize("key", ["3", "254", "256", "-1", "1.0", "", "one", "1000", "\u0661"])
    def test_keys_that_are_no_class(self, key: str) -> None:
        with pytest.raises(DataError, match=r"map\.json: key .* of 'map' is not a class"):
            parse_label_map({"map": {key: 0}}, 3, "map.json")

    @pytest.mark.parametrize("value", [256, -1, 1.5, 2.0, "x", None, True, [1]])
    def test_values_that_are_no_pixel(self, value: object) -> None:
        with pytest.raises(DataError, match=r"map\.json: the value .* of key '1' of 'map'"):
            parse_label_map({"map": {"0": 0, "1": value}}, 3, "map.json")

    def test_a_pixel_value_of_two_classes(self) -> None:
        with pytest.raises(DataError, match="is repeated"):
            parse_label_map({"map": {"0": 4, "1": 4}}, 3, "map.json")

    def test_a_class_in_two_spellings(self) -> None:
        with pytest.raises(DataError, match="is repeated"):
            parse_label_map({"map": {"1": 4, "01": 5}}, 3, "map.json")

    @pytest.mark.parametrize("form", ["map", "colors"])
    @pytest.mark.parametrize("mapping", [{}, [], 1, None, "0"])
    def test_no_classes(self, form: str, mapping: object) -> None:
        with pytest.raises(DataError, match=f"map.json: '{form}' is not an object"):
            parse_label_map({form: mapping}, 3, "map.json")


class TestFewBitsOfGrey:
    """Of how many bits they are spread over 0 to 255."""

    @pytest.mark.parametrize("scale", [1.5, 2, "128", 255])
    def test_all_under_a_scale(self, scale: object) -> None:
        assert parse_label_map({"scale": scale}, 3, "map.json").spread == {1, 2, 4}

    @pytest.mark.parametrize("scale", [1, "1", 1.0])
    def test_none_under_scale_1(self, scale: object) -> None:
        assert not parse_label_map({"scale": scale}, 3, "map.json").spread

    def test_all_under_colours(self) -> None:
        assert parse_label_map({"colors": {"1": "#ffffff"}}, 3, "map.json").spread == {1, 2, 4}

    @pytest.mark.parametrize(
        ("values", "stored"),
        [
            ({"0": 0, "1": 255}, set()),
            ({"1": 255}, set()),
            ({"0": 0, "1": 1, "2": 255}, set()),
            ({"0": 255, "1": 0}, set()),
            ({"0": 0}, set()),
            ({"0": 0, "1": 85, "2": 170}, set()),
            ({"0": 0, "1": 1}, {1, 2, 4}),
            ({"0": 1, "1": 0}, {1, 2, 4}),
            ({"1": 1}, {1, 2, 4}),
            ({"0": 0, "1": 1, "255": 255}, {1, 2, 4}),  # as without the last entry
            ({"0": 0, "1": 1, "255": 2}, {1, 2, 4}),
            ({"0": 0, "255": 255}, set()),
            ({"0": 0, "1": 2, "2": 3}, {2, 4}),
            ({"0": 0, "1": 10, "2": 15}, {4}),
            ({"0": 0, "1": 1, "2": 17}, {1, 2}),
            ({"0": 0, "1": 1, "255": 85}, {1}),  # what is to be ignored is spread
        ],
    )
    def test_under_a_map_all_but_those_it_lists_as_stored_and_not_as_spread(
        self, values: dict[str, int], stored: set[int]
    ) -> None:
        assert parse_label_map({"map": values}, 3, "map.json").spread == {1, 2, 4} - stored


class TestColors:
    def test_colours_give_classes_and_255_is_ignored(self) -> None:
        source = {"colors": {"0": "#000000", "1": ["#2ca02c", "#98DF8A"], "255": "#ffffff"}}
        label_map = parse_label_map(source, 2, "map.json")
        assert label_map.colors == {0: 0, 0x2CA02C: 1, 0x98DF8A: 1, 0xFFFFFF: IGNORED}
        assert label_map.source == source
        assert label_map.apply(np.array([[0, 1, UNLISTED_COLOR, 255]], np.uint8)).tolist() == [[0, 1, IGNORED, IGNORED]]

    def test_other_colours_are_ignored_and_known(self) -> None:
        label_map = parse_label_map({"colors": {"0": "#000000"}}, 254, "map.json")
        np.testing.assert_array_equal(np.flatnonzero(label_map.unlisted), [UNLISTED_COLOR])
        assert label_map.table[UNLISTED_COLOR] == IGNORED
        assert not label_map.invalid.any()

    def test_the_other_forms_have_none(self) -> None:
        assert parse_label_map({"scale": 1}, 3, "map.json").colors is None
        assert parse_label_map({"map": {"0": 0}}, 3, "map.json").colors is None

    @pytest.mark.parametrize("key", ["3", "254", "one", ""])
    def test_keys_that_are_no_class(self, key: str) -> None:
        with pytest.raises(DataError, match=r"map\.json: key .* of 'colors' is not a class"):
            parse_label_map({"colors": {key: "#000000"}}, 3, "map.json")

    @pytest.mark.parametrize("color", ["red", "2ca02c", "#fff", "#2ca02g", "#2ca02c ", 5, None, [], ["#000000", 1], {}])
    def test_values_that_are_no_colour(self, color: object) -> None:
        with pytest.raises(DataError, match=r"^map\.json: .* of key '1' of 'colors' is not a colour"):
            parse_label_map({"colors": {"0": "#123456", "1": color}}, 3, "map.json")

    @pytest.mark.parametrize("second", ["#2ca02c", "#2CA02C", ["#000000", "#2ca02c"]])
    def test_a_colour_of_two_classes(self, second: object) -> None:
        with pytest.raises(DataError, match=r"'#2.*' of key '1' of 'colors' is not a colour or is repeated"):
            parse_label_map({"colors": {"0": "#2ca02c", "1": second}}, 3, "map.json")


class TestJson:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{}", "has no key instead of exactly one form"),
            ('{"scale": 1, "map": {"0": 0}}', "has 'scale' and 'map' instead of exactly one form"),
            ('{"scale": 1, "color": 2}', "unknown key 'color'"),
            ('{"scale": 1, "scale": 2}', "key 'scale' is given twice"),
            ('{"map": {"0": 1, "0": 2}}', "key '0' is given twice"),
            ("[1]", "not a JSON object"),
            ("{scale: 1}", "not JSON"),
            ("", "not JSON"),
            ("[" * 100_000, "not JSON"),
            ('{"scale": ' + "9" * 5000 + "}", "not JSON"),
            ('{"scale": 1}' + " " * 1_000_000, "larger than"),
            ('{"map": {"0": 1,}}', "a comma before '}' at column 17"),
            ('{"map":\n{"0": 1,}}', "a comma before '}' at line 2 column 9"),
        ],
    )
    def test_what_is_wrong_is_said_with_the_file(self, text: str, message: str) -> None:
        with pytest.raises(DataError, match=f"^map.json: .*({message})"):
            parse_label_map(text, 3, "map.json")

    def test_bytes_that_are_no_text(self) -> None:
        with pytest.raises(DataError, match="not JSON"):
            parse_label_map(b'{"scale": "\xff"}', 3, "map.json")

    def test_a_byte_order_mark_is_no_obstacle(self) -> None:
        assert parse_label_map(b'\xef\xbb\xbf{"scale": 1}', 3, "map.json").source == {"scale": 1}


class TestFinding:
    @pytest.fixture
    def annotation(self, tmp_path: Path) -> Path:
        (tmp_path / "train_annotation").mkdir()
        return tmp_path / "train_annotation"

    @pytest.fixture
    def channel(self, tmp_path: Path) -> Path:
        (tmp_path / "label_map").mkdir()
        return tmp_path / "label_map"

    @pytest.mark.req("R17", "R21", "R34")
    def test_without_any_the_default_and_the_original_warning(
        self, annotation: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert find_label_map("train", annotation, None, 3).source == {"scale": 1}
        assert caplog.record_tuples == [("semseg", logging.WARNING, "label maps not provided, using defaults.")]

    def test_a_folder_that_is_no_channel_of_a_training_has_the_default_without_a_warning(
        self, annotation: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert find_label_map("annotations", annotation, None, 3).source == {"scale": 1}
        assert not caplog.messages

    def test_without_an_annotation_channel(self, channel: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert find_label_map("train", None, None, 3).source == {"scale": 1}
        (channel / "label_map.json").write_text('{"colors": {"0": "#000000"}}')
        assert find_label_map("train", None, channel, 3).colors == {0: 0}
        assert caplog.messages == ["label maps not provided, using defaults."]

    @pytest.mark.req("R22", "R34")
    def test_the_name_of_the_split_comes_first_then_the_common_name(self, annotation: Path, channel: Path) -> None:
        (channel / "label_map.json").write_text('{"scale": 2}')
        (channel / "train_label_map.json").write_text('{"scale": 3}')
        assert find_label_map("train", annotation, channel, 90).source == {"scale": 3}
        assert find_label_map("validation", annotation, channel, 130).source == {"scale": 2}

    @pytest.mark.req("R21")
    def test_in_the_annotation_channel(self, annotation: Path) -> None:
        (annotation / "label_map.json").write_text(json.dumps({"map": {"0": 7}}))
        assert find_label_map("train", annotation, None, 2).source == {"map": {"0": 7}}

    def test_a_link_that_leads_nowhere_is_no_absence(self, annotation: Path) -> None:
        (annotation / "label_map.json").symlink_to(annotation / "nowhere.json")
        with pytest.raises(DataError, match=r"train_annotation/label_map\.json is a link to .*, which does not exist"):
            find_label_map("train", annotation, None, 3)

    def test_two_files_for_one_split_are_warned_about(
        self, annotation: Path, channel: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (annotation / "label_map.json").write_text('{"scale": 1}')
        (channel / "train_label_map.json").write_text('{"scale": 3}')
        assert find_label_map("train", annotation, channel, 90).source == {"scale": 3}
        assert "is ignored for train" in caplog.text

    @pytest.mark.req("R34")
    def test_a_map_for_the_other_split_only(
        self, annotation: Path, channel: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (channel / "validation_label_map.json").write_text('{"scale": 3}')
        assert find_label_map("train", annotation, channel, 3).source == {"scale": 1}
        assert "no map for train" in caplog.text

    def test_names_in_a_map_come_first_then_a_file_beside_it_then_one_beside_the_annotations(
        self, annotation: Path, channel: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (annotation / "classes.txt").write_text("a\nb #2ca02c\n")
        assert find_label_map("train", annotation, None, 2).classes == Classes(("a", "b"), (None, 0x2CA02C))
        (channel / "classes.json").write_text('{"1": "c"}')
        found = find_label_map("train", annotation, channel, 2)
        assert (found.source, found.classes.names) == ({"scale": 1}, (None, "c"))
        assert "classes.txt is ignored for train" in caplog.messages[-1]
        (channel / "label_map.json").write_text('{"map": {"0": 7}, "names": ["d", "e"]}')
        found = find_label_map("train", annotation, channel, 2)
        assert (found.source, found.classes.names) == ({"map": {"0": 7}}, ("d", "e"))
        assert [message.split(" ")[0].rpartition("/")[2] for message in caplog.messages[-2:]] == [
            "classes.json",
            "classes.txt",
        ]
        assert find_label_map("test", None, channel, 2).classes.names == ("d", "e")

    def test_names_that_do_not_fit_are_an_error_only_where_they_were_given(
        self, annotation: Path, channel: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (annotation / "classes.txt").write_text("a\nb\nc\n")
        assert find_label_map("train", annotation, None, 2).given is None
        assert "classes.txt has 3 entries, but num_classes is 2." in caplog.messages[-1]
        (channel / "classes.txt").write_text("a\nb\nc\n")
        with pytest.raises(DataError, match=r"label_map/classes.txt has 3 entries"):
            find_label_map("train", annotation, channel, 2)

    def test_a_channel_of_names_alone_asks_for_no_map(self, channel: Path, caplog: pytest.LogCaptureFixture) -> None:
        (channel / "classes.txt").write_text("a\nb\n")
        for split in ("train", "test"):
            assert find_label_map(split, None, channel, 2).classes.names == ("a", "b")
        assert caplog.messages == ["label maps not provided, using defaults."] * 2

    def test_the_map_of_test_must_not_be_forgotten(self, tmp_path: Path, channel: Path) -> None:
        """Scored by the default map, its numbers would be wrong beside those of validation."""
        for split in ("train", "validation"):
            (channel / f"{split}_label_map.json").write_text('{"scale": 3}')
        with pytest.raises(
            DataError, match=r"train_label_map\.json.*validation_label_map\.json.*no map for test"
        ) as raised:
            find_label_map("test", tmp_path, channel, 90)
        assert "test_label_map.json" in raised.value.hint

    @pytest.mark.parametrize("place", ["label_map/test_label_map.json", "label_map/label_map.json", "label_map.json"])
    def test_the_map_of_test_has_its_own_name_or_that_of_all(self, tmp_path: Path, channel: Path, place: str) -> None:
        (channel / "train_label_map.json").write_text('{"scale": 3}')
        (tmp_path / place).write_text('{"scale": 2}')
        assert find_label_map("test", tmp_path, channel, 130).source == {"scale": 2}

    def test_without_any_map_test_has_the_default(self, tmp_path: Path) -> None:
        assert find_label_map("test", tmp_path, None, 3).source == {"scale": 1}

    @pytest.mark.parametrize(
        ("names", "said"), [([], "nothing"), (["labels.json", "b.txt"], "label_map/b.txt, label_map/labels.json")]
    )
    def test_a_channel_without_a_known_name(self, annotation: Path, channel: Path, names: list[str], said: str) -> None:
        for name in names:
            (channel / name).write_text("{}")
        with pytest.raises(DataError, match=f"no label map; it contains {said}"):
            find_label_map("train", annotation, channel, 3)

    def test_an_error_names_the_file(self, annotation: Path, channel: Path) -> None:
        (channel / "label_map.json").write_text('{"scale": 0}')
        with pytest.raises(DataError, match=r"^label_map/label_map\.json: 'scale' is 0"):
            find_label_map("train", annotation, channel, 3)

    def test_a_channel_that_cannot_be_read(self, annotation: Path, channel: Path) -> None:
        (channel / "label_map.json").symlink_to("x" * 300)
        with pytest.raises(ChannelError, match=r"^The channel train: .*/label_map\.json cannot be read: File name too"):
            find_label_map("train", annotation, channel, 3)

    def test_an_oversized_file(self, annotation: Path, channel: Path) -> None:
        (channel / "label_map.json").write_bytes(bytes(1_000_001))
        with pytest.raises(DataError, match=r"label_map\.json has 1000001 bytes"):
            find_label_map("train", annotation, channel, 3)


class TestNames:
    """What names may be is the subject of test_class_names.py."""

    @pytest.mark.parametrize("form", ['"scale": 2, ', '"map": {"1": 7}, ', '"colors": {"1": "#2ca02c"}, ', ""])
    def test_names_go_with_every_form_and_leave_its_meaning_alone(self, form: str) -> None:
        named = parse_label_map(f'{{{form}"names": ["a", "b"]}}', 2, "map.json")
        plain = parse_label_map(f"{{{form[:-2]}}}" if form else '{"scale": 1}', 2, "map.json")
        np.testing.assert_array_equal(named.table, plain.table)
        assert (named.source, named.colors, named.spread) == (plain.source, plain.colors, plain.spread)
        assert named.classes.names == ("a", "b")

    def test_a_class_read_by_its_colour_has_the_first_unless_another_is_given(self) -> None:
        colors = {"0": "#000000", "1": ["#2ca02c", "#98df8a"], "255": "#ffffff"}
        assert parse_label_map({"colors": colors}, 3, "map.json").classes == Classes((None,) * 3, (0, 0x2CA02C, None))
        names = {"1": {"name": "tree", "color": [0, 0, 255]}}
        found = parse_label_map({"colors": colors, "names": names}, 3, "map.json").classes
        assert found == Classes((None, "tree", None), (0, 255, None))

    def test_wrong_names_name_file_and_key(self) -> None:
        with pytest.raises(DataError, match=r"^map\.json: 'names': key '3' is not a class"):
            parse_label_map('{"scale": 1, "names": {"3": "a"}}', 3, "map.json")
        with pytest.raises(DataError, match=r"^map\.json: key '0' is given twice"):
            parse_label_map('{"names": {"0": "a", "0": "b"}}', 3, "map.json")
