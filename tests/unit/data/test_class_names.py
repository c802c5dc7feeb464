from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semseg.data.class_names import parse_names, read_classes
from semseg.errors import DataError
from semseg.types import Classes

GREEN, BLUE = 0x2CA02C, 0x1F77B4


@pytest.mark.parametrize(
    ("given", "names", "colors"),
    [
        (["sky", " road ", "Straße"], ("sky", "road", "Straße"), (None, None, None)),
        ({"1": "road"}, (None, "road", None), (None, None, None)),
        (["sky", {"name": "road", "color": "#2CA02C"}, "car"], ("sky", "road", "car"), (None, GREEN, None)),
        ({"2": {"color": [31, 119, 180]}, "0": "sky"}, ("sky", None, None), (None, None, BLUE)),
    ],
)
def test_names_are_a_list_or_go_by_class_id(given: Any, names: tuple[Any, ...], colors: tuple[Any, ...]) -> None:
    assert parse_names(given, 3, "map.json: 'names'") == Classes(names, colors)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["sky", "road"], "map.json: 'names' has 2 entries, but num_classes is 3. Give one name for each class"),
        ([*"abcd"], "has 4 entries"),
        ("sky", "map.json: 'names' is neither a list nor an object with names. Write a list"),
        ({}, "is neither a list nor an object"),
        (None, "is neither a list nor an object"),
        ({"3": "car"}, r"key '3' is not a class or is repeated. Classes are 0 to 2 \(num_classes is 3\)"),
        ({"255": "void"}, "key '255' is not a class .* 255 is ignored, and has no name"),
        ({"-1": "a"}, "key '-1' is not a class"),
        ({"1": "a", "01": "b"}, "key '01' is not a class or is repeated"),
        (["sky", "road", "sky"], "entry 2: 'sky' is already that of class 0. Give each class another name"),
        ({"0": {"color": "#2ca02c"}, "1": {"color": [44, 160, 44]}}, "key '1': #2ca02c is already that of class 0"),
        (["sky", "a\nb", "c"], r"entry 1: 'a\\nb' is not a name. A name is a text of 1 to 256 characters on one line"),
        (["sky", "  ", "c"], "entry 1: '  ' is not a name"),
        (["sky", 7, "c"], "entry 1: 7 is not a name"),
        (["sky", None, "c"], "entry 1: None is not a name"),
        (["sky", "a" * 257, "c"], "entry 1: 'aaa"),
        (["sky", "\x1b[31mred", "c"], "entry 1: .* is not a name"),
        ({"1": {"name": "a", "colour": "#2ca02c"}}, "key '1': unknown key 'colour'"),
        ({"1": {}}, "key '1': is empty"),
        ({"1": {"name": "a", "color": "green"}}, r"key '1': 'green' is not a colour. Write colours like '#2ca02c' or"),
        ({"1": {"name": "a", "color": [0, 0, 256]}}, "is not a colour"),
        ({"1": {"name": "a", "color": [0, 0, True]}}, "is not a colour"),
        ({"1": {"name": "a", "color": [0, 0, 0.5]}}, "is not a colour"),
        ({"1": {"name": "a", "color": [0, 0]}}, "is not a colour"),
        ({"1": {"name": "a", "color": 7}}, "7 is not a colour"),
    ],
)
def test_wrong_names_are_an_error_that_says_where_and_how_to_mend_it(given: Any, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        parse_names(given, 3, "map.json: 'names'")
    assert str(caught.value).startswith("map.json: 'names'")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "content", "classes"),
    [
        ("classes.txt", "sky\nroad\ncar\n", (("sky", "road", "car"), (None, None, None))),
        ("classes.txt", "\ufeffsky #1f77b4\r\nroad marking\t#2CA02C\r\ncar\r\n\r\n", None),
        ("classes.txt", "C#\nF#,#2ca02c\nA # B\n", (("C#", "F#", "A # B"), (None, GREEN, None))),
        ("classes.json", '["sky", {"name": "road marking", "color": "#2ca02c"}, "car"]', None),
        ("classes.json", '{"names": {"0": "sky"}}', (("sky", None, None), (None, None, None))),
        ("classes.json", '{"0": "sky", "2": "car"}', (("sky", None, "car"), (None, None, None))),
        (
            "classes.json",
            '{"classes": ["sky", "road", "car"], "colors": {"1": "#2ca02c"}}',
            (("sky", "road", "car"), (None, GREEN, None)),
        ),
        ("classes.json", '{"classes": ["sky", "road", "car"]}', (("sky", "road", "car"), (None, None, None))),
    ],
)
def test_files_of_names(tmp_path: Path, name: str, content: str, classes: tuple[Any, Any] | None) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    found = read_classes(path, 3)
    if classes:
        assert found == Classes(*classes)
    else:
        assert (found.names, found.colors[1]) == (("sky", "road marking", "car"), GREEN)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("classes.txt", b"sky\nroad\n", "classes.txt has 2 entries, but num_classes is 3"),
        ("classes.txt", b"sky\n\ncar\n", "classes.txt: line 2: '' is not a name"),
        ("classes.txt", b"sky\nroad #12\ncar\n", "classes.txt: line 2: '#12' is not a colour"),
        ("classes.txt", b"sky\n#2ca02c\ncar\n", "classes.txt: line 2: '' is not a name"),
        ("classes.txt", b"sky\na" + b" " * 500_000 + b"b\ncar\n", "classes.txt: line 2: 'a    .* is not a name"),
        ("classes.txt", b"sky\nroad\nsky\n", "classes.txt: line 3: 'sky' is already that of class 0"),
        ("classes.txt", b"sky\n\xffroad\ncar\n", "classes.txt: byte 5 is not UTF-8. Save it as UTF-8"),
        ("classes.txt", b"sky\n" * 400_000, "more than the 1000000 allowed"),
        ("classes.json", b"sky", "classes.json: not JSON"),
        ("classes.json", b'"sky"', "is neither a list nor an object"),
        ("classes.json", b'{"0": "a", "0": "b"}', "key '0' is given twice"),
        ("classes.json", b'{"names": {"0": "a", "0": "b"}}', "key '0' is given twice"),
        ("classes.json", b'[{"name": "a", "name": "b"}, "c", "d"]', "entry 0: key 'name' is given twice"),
        ("classes.json", b'{"classes": ["a"]}', "'classes' has 1 entries, but num_classes is 3"),
        ("classes.json", b'{"classes": ["a", "b", "c"], "colors": ["#000000"]}', "'colors' is neither a list nor"),
        ("classes.json", b'{"classes": ["a", "b", "c"], "colors": {"9": "#000000"}}', "'colors': key '9' is not a c"),
        ("classes.json", b'{"classes": ["a", "b", "c"], "colors": {"0": "red"}}', "'colors': key '0': 'red' is not"),
        ("classes.json", b"[" * 100_000, "not JSON"),
    ],
)
def test_wrong_files_are_an_error_that_names_them(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / "train_annotation" / name
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        read_classes(path, 3)
    assert f"train_annotation/{name}" in str(caught.value)


def test_a_models_own_file_can_be_given_to_the_next_training(tmp_path: Path) -> None:
    from semseg.artifact.model_dir import write_classes

    classes = Classes(("sky", 'Öl, "schwarz"', "car"), (None, GREEN, 0))
    write_classes(tmp_path, classes)
    assert json.loads((tmp_path / "classes.json").read_text())["colors"] == {"1": "#2ca02c", "2": "#000000"}
    assert read_classes(tmp_path / "classes.json", 3) == classes
