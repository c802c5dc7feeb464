from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semseg.data.json_text import byte, parse_object, require_unique

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_objects_are_read_from_text_and_bytes(obj: dict[str, object]) -> None:
    text = json.dumps(obj)
    assert parse_object(text) == parse_object(text.encode()) == parse_object(b"\xef\xbb\xbf" + text.encode()) == obj


@given(st.binary(max_size=100))
def test_any_bytes_are_an_object_or_a_value_error(data: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(parse_object(data), dict)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON: Expecting value at column 1"),
        ("{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("{} {}", "not JSON: Extra data at column 4"),
        ('{"a": 1, }', "not JSON: a comma before '}' at column 10"),
        ('{"a": [1,]}', "not JSON: a comma before ']' at column 10"),
        ('{"a":\n1,}', "not JSON: a comma before '}' at line 2 column 3"),
        ("{'a': 1}", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        (b'{"a": "\xff"}', "not JSON: byte 8 is not UTF-8"),
        ("[" * 100_000, "not JSON: maximum recursion depth exceeded"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a": 1, "b": 2, "a": 3}', "key 'a' is given twice"),
    ],
)
def test_what_is_wrong_is_said(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=r"not|twice") as raised:
        parse_object(text)
    assert str(raised.value).startswith(said)


def test_keys_within_are_looked_at_where_they_matter() -> None:
    obj = parse_object('{"deep": [{"a": 1, "b": 2, "a": 3}], "sound": {"a": 1}, "number": 1}')
    assert obj["deep"] == [{"a": 3, "b": 2}]
    for value in (obj["sound"], obj["number"]):
        require_unique(value)
    with pytest.raises(ValueError, match=r"^key 'a' is given twice$"):
        require_unique(obj["deep"][0])


@pytest.mark.parametrize(("value", "number"), [(0, 0), (255, 255), ("0", 0), ("007", 7), ("255", 255)])
def test_bytes_are_integers_or_texts_of_them(value: object, number: int) -> None:
    assert byte(value) == number


@pytest.mark.parametrize(
    "value", [256, -1, 1.0, True, None, "", "1.0", "-1", "256", "0001", "\u0661", " 1", "1\n", [1]]
)
def test_nothing_else_is_a_byte(value: object) -> None:
    assert byte(value) is None
