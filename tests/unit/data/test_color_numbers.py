from __future__ import annotations

from collections.abc import Mapping

import pytest

from semseg.codecs.palettes import palette
from semseg.data.color_numbers import assign_class_ids
from semseg.types import IGNORED

BLACK, WHITE, BORDER = 0x000000, 0xFFFFFF, 0xE0E0C0
BROWN, PINK, LIME = 0x8B4513, 0xFF69B4, 0x32CD32


def of_data_set(name: str, *class_ids: int) -> list[int]:
    return [int.from_bytes(palette(name)[class_id].tobytes(), "big") for class_id in class_ids]


def classes_of(pixels: Mapping[int, int], num_classes: int, known: Mapping[int, int] | None = None) -> dict[int, int]:
    return assign_class_ids(pixels, known or {}, num_classes)[0]


def notes_of(pixels: Mapping[int, int], num_classes: int) -> str:
    return " ".join(assign_class_ids(pixels, {}, num_classes)[1])


@pytest.mark.parametrize("pixels", [{PINK: 9, BLACK: 5, LIME: 1}, {LIME: 900, PINK: 5, BLACK: 90}])
def test_the_order_is_that_of_the_colours_however_frequent_they_are(pixels: dict[int, int]) -> None:
    assert assign_class_ids(pixels, {}, 3) == ({BLACK: 0, LIME: 1, PINK: 2}, ())


class TestDataSets:
    @pytest.mark.parametrize(
        ("name", "ids", "num_classes", "said"),
        [
            ("voc", (0, 5, 20), 21, "PASCAL VOC"),
            ("ade20k", (3, 149), 150, "ADE20K"),
            ("cityscapes", (0, 18), 19, "City"),
        ],
    )
    def test_their_colours_have_their_numbers(
        self, name: str, ids: tuple[int, ...], num_classes: int, said: str
    ) -> None:
        colors = of_data_set(name, *ids)
        assert classes_of(dict.fromkeys(colors, 1), num_classes) == dict(zip(colors, ids, strict=True))
        assert f"The class ids are those of {said}" in notes_of(dict.fromkeys(colors, 1), num_classes)

    @pytest.mark.parametrize("name", ["voc", "ade20k", "cityscapes"])
    def test_a_border_is_ignored(self, name: str) -> None:
        pixels = dict.fromkeys(of_data_set(name, 1, 2, IGNORED), 1)
        assert classes_of(pixels, 3)[BORDER] == IGNORED
        assert "#e0e0c0 is proposed as 255 (ignored): it is no class there." in notes_of(pixels, 3)

    def test_black_is_ignored_where_it_is_none_of_theirs(self) -> None:
        pixels = dict.fromkeys([BLACK, *of_data_set("cityscapes", *range(17))], 1)
        assert classes_of(pixels, 19)[BLACK] == IGNORED
        assert "#000000 is proposed as 255 (ignored)" in notes_of(pixels, 19)

    def test_numbers_beyond_the_classes_are_none(self) -> None:
        first, other = of_data_set("voc", 0, 12)
        assert classes_of({first: 1, other: 1}, 3) == {first: 0, other: 1}

    def test_shades_of_grey_are_their_own_numbers(self) -> None:
        assert classes_of({0: 1, 7 * 0x010101: 1, WHITE: 1}, 8) == {0: 0, 7 * 0x010101: 7, WHITE: IGNORED}

    def test_black_and_white_are_two_classes(self) -> None:
        assert classes_of({BLACK: 1, WHITE: 1}, 2) == {BLACK: 0, WHITE: 1}


class TestIgnored:
    def test_the_border_of_voc_is_though_there_is_a_class_for_it(self) -> None:
        pixels = {BLACK: 9, PINK: 5, BORDER: 3}
        assert classes_of(pixels, 3) == {BLACK: 0, PINK: 1, BORDER: IGNORED}
        assert "#e0e0c0 is proposed as 255 (ignored): it is the border in PASCAL VOC." in notes_of(pixels, 3)

    @pytest.mark.parametrize(
        ("pixels", "ignored"),
        [
            ({BLACK: 500, BROWN: 100, PINK: 100}, BLACK),
            ({BLACK: 5, BROWN: 100, PINK: 100}, BLACK),
            ({BLACK: 500, BROWN: 100, WHITE: 20}, WHITE),
            ({PINK: 500, BROWN: 100, WHITE: 20}, WHITE),
            ({BLACK: 5, BROWN: 500, WHITE: 20}, BLACK),
            ({BLACK: 500, BROWN: 100, WHITE: 100}, BLACK),
            ({LIME: 500, BROWN: 100, PINK: 20}, PINK),
        ],
    )
    def test_one_colour_more_than_classes_is_a_guess(self, pixels: dict[int, int], ignored: int) -> None:
        rest = sorted(pixels.keys() - {ignored})
        assert classes_of(pixels, 2) == {rest[0]: 0, rest[1]: 1, ignored: IGNORED}
        assert f"#{ignored:06x} is proposed as 255 (ignored): a guess, as there is one more colour" in notes_of(
            pixels, 2
        )

    def test_none_is_where_none_is_rare(self) -> None:
        pixels = {LIME: 500, BROWN: 100, PINK: 100}
        assert classes_of(pixels, 2) == {LIME: 0, BROWN: 1, PINK: 2}
        assert "num_classes is 2, but there are colours for 3 classes: raise it to 3" in notes_of(pixels, 2)

    @pytest.mark.parametrize("num_classes", [3, 5])
    def test_none_is_where_the_number_says_nothing(self, num_classes: int) -> None:
        pixels = {BLACK: 500, LIME: 100, BROWN: 100, PINK: 20, WHITE: 1}
        assert classes_of(pixels, num_classes) == {BLACK: 0, LIME: 1, BROWN: 2, PINK: 3, WHITE: 4}


def test_fewer_colours_than_classes_are_said() -> None:
    assert "num_classes is 7, but there are colours for only 2 classes" in notes_of({BLACK: 1, PINK: 1}, 7)


class TestKnownColours:
    def test_keep_their_classes_and_others_take_what_is_left(self) -> None:
        known = {PINK: 0, BROWN: 2, LIME: 2, BLACK: IGNORED}
        assert classes_of({PINK: 1, BROWN: 1, WHITE: 1}, 3, known) == {**known, WHITE: 1}

    def test_one_more_than_is_left_is_a_guess(self) -> None:
        assert classes_of({PINK: 500, BROWN: 100, LIME: 1}, 2, {PINK: 1}) == {PINK: 1, BROWN: 0, LIME: IGNORED}

    def test_all_of_them_are_numbered_by_nothing_else(self) -> None:
        voc = of_data_set("voc", 1, 2)
        assert classes_of(dict.fromkeys(voc, 1), 3, {voc[0]: 2, voc[1]: 1}) == {voc[0]: 2, voc[1]: 1}
