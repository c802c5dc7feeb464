"""Every reader refuses a file with missing or damaged data, and reads one that has all its pixels."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from image_files import good_images
from PIL import Image
from png_chunks import chunk

from semseg.codecs.colors import decode_colors, decode_indices, main_colors
from semseg.codecs.images import decode_image, decode_reduced, open_image, verify_image
from semseg.codecs.masks import decode_mask, encode_mask
from semseg.errors import ImageError
from semseg.types import UInt8

PNGS = tuple(file for file in good_images() if file.startswith(b"\x89PNG"))
JPEGS = tuple(file for file in good_images() if file.startswith(b"\xff\xd8"))
MAGIC, END = PNGS[0][:8], b"\xff\xd9"
NOISE = np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)
LABELS = (np.indices((17, 23)).sum(0) % 5).astype(np.uint8)

Read = Callable[[bytes], object]


def chunks(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place < len(file):
        size = int.from_bytes(file[place : place + 4], "big")
        yield file[place + 4 : place + 8], file[place + 8 : place + 8 + size]
        place += size + 12


def repacked(file: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The file with changed rows, in one valid chunk."""
    parts = list(chunks(file))
    rows = change(zlib.decompress(b"".join(body for name, body in parts if name == b"IDAT")))
    others = [chunk(name, body) for name, body in parts if name not in (b"IDAT", b"IEND")]
    return MAGIC + b"".join(others) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def split(file: bytes, size: int = 20) -> bytes:
    """The file with its data split into many chunks."""
    parts = list(chunks(file))
    data = b"".join(body for name, body in parts if name == b"IDAT")
    head = b"".join(chunk(name, body) for name, body in parts if name not in (b"IDAT", b"IEND"))
    pieces = (chunk(b"IDAT", data[place : place + size]) for place in range(0, len(data), size))
    return MAGIC + head + b"".join(pieces) + chunk(b"IEND", b"")


def jpeg(image: Image.Image | UInt8, **options: object) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, "JPEG", **options)
    return file.getvalue()


def reduce(data: bytes) -> UInt8:
    return decode_reduced(open_image(data), (1, 1))[0]


def pixels_or_none(read: Read, data: bytes) -> object:
    try:
        return np.asarray(read(data)).tobytes()
    except ImageError:
        return None


class TestPng:
    @pytest.mark.parametrize("file", PNGS)
    @pytest.mark.parametrize("read", [decode_image, verify_image])
    def test_of_every_kind_fewer_rows_than_declared(self, read: Read, file: bytes) -> None:
        for change in (lambda rows: rows[:-1], lambda rows: rows[: len(rows) // 2], lambda _: b""):
            with pytest.raises(ImageError, match="cannot be decoded"):
                read(repacked(file, change))
        assert pixels_or_none(read, repacked(file, lambda rows: rows + rows)) == pixels_or_none(read, file)

    @pytest.mark.parametrize("interlaced", [False, True])
    @pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (1, 2), (9, 1), (1, 9), (5, 3)])
    @pytest.mark.parametrize(("depth", "colour", "size"), [(1, 0, 1), (8, 0, 8), (16, 0, 16), (8, 2, 24), (16, 6, 64)])
    def test_of_every_size_with_the_same_value_in_all_samples(
        self, depth: int, colour: int, size: int, width: int, height: int, interlaced: bool
    ) -> None:
        """The pixels' value is the one that marks pixels not yet decoded."""
        passes = [(0, 0, 1, 1)]
        if interlaced:
            passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        rows = [
            b"\0" + b"\xa5" * -(-len(range(x, width, right)) * size // 8)
            for x, y, right, down in passes
            for _ in range(y, height, down)
            if x < width
        ]
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
        for sent in range(len(rows) + 1):
            data = chunk(b"IDAT", zlib.compress(b"".join(rows[:sent])))
            file = MAGIC + header + data + chunk(b"IEND", b"")
            if sent == len(rows):
                assert decode_image(file).shape == (height, width, 3)
            else:
                with pytest.raises(ImageError, match="cannot be decoded"):
                    decode_image(file)

    @pytest.mark.parametrize("read", [decode_mask, decode_image, main_colors])
    @pytest.mark.parametrize("spread", [split, bytes])
    def test_no_flipped_bit_gives_other_values(self, read: Read, spread: Callable[[bytes], bytes]) -> None:
        colours = np.arange(768, dtype=np.uint8).reshape(256, 3)
        file = spread(encode_mask(LABELS, colours))
        right = pixels_or_none(read, file)
        for place in range(8, len(file)):
            changed = bytearray(file)
            changed[place] ^= 1 << place % 8
            assert pixels_or_none(read, bytes(changed)) in (None, right), place

    @pytest.mark.parametrize("read", [decode_mask, decode_image, lambda data: decode_indices(data, {0: 0})[0]])
    @pytest.mark.parametrize("spread", [split, bytes])
    @pytest.mark.parametrize("tail", [lambda count: b"", bytes, lambda count: b"\xff" * count])
    def test_a_file_of_which_the_end_is_missing(
        self, read: Read, spread: Callable[[bytes], bytes], tail: Callable[[int], bytes]
    ) -> None:
        """Whether it is missing or overwritten with zeros. Only the end marker, IEND, may be missing."""
        file = spread(encode_mask(LABELS))
        right = pixels_or_none(read, file)
        for kept in range(8, len(file) - 12):
            assert pixels_or_none(read, file[:kept] + tail(len(file) - kept)) is None, kept
        for kept in range(len(file) - 12, len(file)):
            assert pixels_or_none(read, file[:kept]) == right, kept
        assert pixels_or_none(read, file[:-12] + bytes(5000)) == right
        assert pixels_or_none(read, file + bytes(5000)) == right

    @pytest.mark.parametrize("read", [decode_mask, decode_image])
    def test_damage_beside_the_pixels_is_no_obstacle(self, read: Read) -> None:
        file = encode_mask(LABELS)
        wrong = (chunk(b"tRNS", b"")[:-1] + b"?", chunk(b"eXIf", b"abc")[:-1] + b"?", chunk(b"acTL", b""))
        for place in (33, len(file) - 12):
            for other in wrong:
                assert pixels_or_none(read, file[:place] + other + file[place:]) == pixels_or_none(read, file)

    @pytest.mark.parametrize("other", [chunk(b"IHDR", bytes(13)), chunk(b"PLUE", bytes(3)), chunk(b"IDAT", b"x")[:-6]])
    def test_chunks_that_cannot_be_left_out(self, other: bytes) -> None:
        file = encode_mask(LABELS)
        with pytest.raises(ImageError, match="cannot be decoded"):
            decode_mask(file[:33] + other + file[33:])

    def test_a_palette_that_is_missing(self) -> None:
        colours = np.zeros((256, 3), np.uint8)
        with pytest.raises(ImageError, match="palette"):
            decode_image(encode_mask(LABELS, colours).replace(b"PLTE", b"pLTE"))

    def test_colours_of_a_damaged_mask_are_not_looked_up(self) -> None:
        file = bytearray(encode_mask(LABELS))
        file[-20] ^= 1
        with pytest.raises(ImageError, match="checksum"):
            decode_colors(bytes(file), {0: 0}, 254)


READERS: list[Read] = [decode_image, verify_image, reduce]


@pytest.fixture(params=["simplejpeg", "Pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "Pillow":
        monkeypatch.setattr("semseg.codecs.strict.simplejpeg", None)
    return str(request.param)


@pytest.mark.usefixtures("decoder")
class TestJpeg:
    @pytest.mark.parametrize("file", JPEGS)
    @pytest.mark.parametrize("read", READERS)
    def test_of_every_kind_with_all_but_its_end_marker(self, read: Read, file: bytes) -> None:
        right = pixels_or_none(read, file)
        assert right is not None
        for same in (file[:-2], file[:-1], file[:-2] + 9 * b"\xff" + END, file + b"junk" + END, file + JPEGS[0]):
            assert pixels_or_none(read, same) == right

    @pytest.mark.parametrize("file", JPEGS)
    def test_of_every_kind_cut_anywhere(self, file: bytes) -> None:
        """With and without an end marker after the cut; all readers agree."""
        right = [pixels_or_none(read, file) for read in READERS]
        for kept in range(3, len(file) - 2, 1 + len(file) // 60):
            for cut in (file[:kept], file[:kept] + END):
                found = [pixels_or_none(read, cut) for read in READERS]
                if found[0] is None:
                    assert found == [None] * 3, kept
                else:
                    assert found == right or _begins_a_segment(file, kept), kept

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    @pytest.mark.parametrize("read", READERS)
    def test_the_last_bytes_count(self, decoder: str, read: Read, mode: str, options: dict[str, object]) -> None:
        file = jpeg(Image.fromarray(NOISE).convert(mode), **options)
        exact = (3, 4) if decoder == "simplejpeg" else ()  # Pillow does not notice that the last few bits are missing
        for missing in (*exact, 7, 20, 100):
            for tail in (b"", END, JPEGS[0], b"\xff\xd8" + END):
                with pytest.raises(ImageError, match="cannot be decoded"):
                    read(file[:-missing] + tail)

    @pytest.mark.parametrize("read", READERS)
    def test_an_end_marker_in_a_thumbnail_is_not_the_images(self, read: Read) -> None:
        file = jpeg(NOISE)
        thumbnail = b"Exif\0\0" + JPEGS[0]
        file = file[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + file[2:]
        assert pixels_or_none(read, file) is not None
        assert pixels_or_none(read, file[:-2]) is not None
        with pytest.raises(ImageError, match="cannot be decoded"):
            read(file[:-300])

    @pytest.mark.parametrize("times", [2, 40])
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("read", READERS)
    def test_a_size_far_beyond_the_data(self, read: Read, progressive: bool, times: int) -> None:
        file = bytearray(jpeg(NOISE, progressive=progressive))
        place = file.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
        file[place : place + 2] = struct.pack(">H", 40 * times)
        with pytest.raises(ImageError, match="cannot be decoded"):
            read(bytes(file))

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
    @pytest.mark.parametrize("read", READERS)
    def test_stray_bytes_are_no_obstacle_and_hide_no_missing_data(self, read: Read, options: dict[str, object]) -> None:
        """The decoder's first warning is about them, and simplejpeg reports no other."""
        file = jpeg(NOISE, **options)
        right, tables = pixels_or_none(read, file), file.index(b"\xff\xdb")
        for stray in (b"\0\0\0", 1000 * b"\xff", 100 * b"\xff\0", bytes(1000)):
            strayed = file[:tables] + stray + file[tables:]
            assert pixels_or_none(read, strayed) == right
            assert pixels_or_none(read, strayed[:-2]) == right
            assert pixels_or_none(read, strayed[:-300] + END) is None
            assert pixels_or_none(read, strayed[:-300]) is None

    @pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}])
    def test_stray_bytes_behind_the_pixels_are_no_obstacle(self, options: dict[str, object]) -> None:
        file = jpeg(NOISE, **options)
        right = np.asarray(Image.open(io.BytesIO(file)))
        for stray in (b"\0", bytes(5000), bytes(range(200))):
            np.testing.assert_array_equal(decode_image(file[:-2] + stray + END), right)

    def test_a_warning_in_the_data_hides_no_missing_data(self) -> None:
        """A stray byte before a restart marker, and half of the rest missing."""
        file = jpeg(NOISE, restart_marker_blocks=3)
        place = file.index(b"\xff\xd1")
        strayed = file[:place] + b"\0\0" + file[place:]
        assert decode_image(strayed).shape == NOISE.shape
        for cut in (strayed[:-300] + END, strayed[:-300]):
            with pytest.raises(ImageError, match="cannot be decoded"):
                decode_image(cut)


def test_zeros_for_the_rest_of_a_jpeg_are_no_pixels() -> None:
    """An interrupted download into a preallocated file. Zeros decode to flat areas, which take few bits."""
    for options in ({"optimize": True}, {"progressive": True}, {}):
        file = jpeg(np.repeat(NOISE[:8, :8], 12, axis=0).repeat(12, axis=1), **options)
        for kept in range(file.index(b"\xff\xda") + 14, len(file) - 2, 40):
            assert pixels_or_none(decode_image, file[:kept] + bytes(20 * len(file))) is None


def test_a_progressive_jpeg_without_its_last_scans_and_end_marker_is_not_whole() -> None:
    """The decoder has a value for each pixel, but the last bits of many are missing."""
    file = jpeg(NOISE, progressive=True)
    cuts = [place for place in range(file.index(b"\xff\xda") + 9, len(file) - 2) if _begins_a_segment(file, place)]
    assert len(cuts) > 8
    for kept in cuts:
        with pytest.raises(ImageError, match="cut short"):
            decode_image(file[:kept])


def _begins_a_segment(file: bytes, place: int) -> bool:
    """Also between the two bytes of its marker."""
    pairs = file[place : place + 2], file[place - 1 : place + 1]
    return any(first == 0xFF and second not in (0, 0xFF, *range(0xD0, 0xD8)) for first, second in pairs)
