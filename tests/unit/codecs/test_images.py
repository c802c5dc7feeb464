from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile
from png_chunks import chunk, png

from semseg.codecs.images import (
    decode_image,
    decode_reduced,
    encode_image,
    exif_rotates_differently,
    exif_swaps_sides,
    open_image,
    to_rgb,
    verify_image,
)
from semseg.errors import ImageError, TooLargeError
from semseg.types import UInt8

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = PIXELS[..., 0]


def encode(image: Image.Image | UInt8, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def smooth(height: int = 48, width: int = 64) -> UInt8:
    y, x = np.mgrid[:height, :width]
    pixels: UInt8 = np.stack([x * 3, y * 4, x + y], axis=-1).astype(np.uint8)
    return pixels


def test_colour_png_is_read_exactly() -> None:
    pixels = decode_image(encode(PIXELS))
    np.testing.assert_array_equal(pixels, PIXELS)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous


@pytest.mark.req("R23", "R50")
def test_jpeg_equals_what_pillow_reads() -> None:
    data = encode(smooth(), "JPEG")
    np.testing.assert_array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data))))


def test_jpeg_of_rare_subsampling_equals_what_pillow_reads() -> None:
    """4:4:1, a subsampling that simplejpeg does not know: units of 8 x 32 pixels instead of 16 x 16 in 4:2:0."""
    data = encode(smooth(16, 16), "JPEG", subsampling="4:2:0")
    data = data.replace(b"\x00\x10\x00\x10\x03\x01\x22", b"\x00\x20\x00\x08\x03\x01\x14")  # in the header of the frame
    pixels = decode_image(data)
    assert pixels.shape == (32, 8, 3)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_png_of_every_mode_gives_its_colours(mode: str) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    np.testing.assert_array_equal(decode_image(encode(image)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_of_every_mode_gives_its_colours(mode: str) -> None:
    data = encode(Image.fromarray(smooth()).convert(mode), "JPEG", quality=98)
    expected = np.asarray(Image.fromarray(smooth()).convert(mode).convert("RGB")).astype(int)
    assert np.abs(decode_image(data) - expected).mean() < 3


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped_and_the_stored_colour_stays(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    image.putalpha(0)
    np.testing.assert_array_equal(
        decode_image(encode(image)), np.asarray(Image.fromarray(PIXELS).convert(mode).convert("RGB"))
    )


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255])])
def test_palette_with_transparency_gives_the_palette_colours(transparency: int | bytes) -> None:
    image = Image.fromarray(PIXELS).convert("P")
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encode(image, transparency=transparency)), expected)


@pytest.mark.parametrize("image", [GREY, PIXELS], ids=["L", "RGB"])
def test_a_transparent_colour_changes_nothing(image: UInt8) -> None:
    transparent = int(image[0, 0]) if image.ndim == 2 else tuple(map(int, image[0, 0]))
    np.testing.assert_array_equal(decode_image(encode(image, transparency=transparent)), decode_image(encode(image)))


def test_sixteen_bit_grey_keeps_its_upper_eight_bits() -> None:
    samples = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    np.testing.assert_array_equal(decode_image(encode(Image.fromarray(samples)))[..., 1], samples >> 8)


@pytest.mark.parametrize(("depth", "top"), [(1, 1), (2, 3), (4, 15)])
def test_grey_of_few_bits_spans_black_to_white(depth: int, top: int) -> None:
    pixels = decode_image(png(2, 1, depth, 0, bytes([0, top << (8 - 2 * depth)])))
    assert pixels[0, :, 0].tolist() == [0, 255]


def test_interlaced_png_is_read() -> None:
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    pixels = smooth(16, 24)
    rows = b"".join(b"\0" + row[x::dx].tobytes() for x, y, dx, dy in passes for row in pixels[y::dy])
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 16, 8, 2, 0, 0, 1))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_image(data), pixels)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encode(frames[0], save_all=True, append_images=frames[1:])
    assert np.unique(decode_image(data).reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_ignored_but_known(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned, plain = encode(smooth(), kind, exif=exif), encode(smooth(), kind)
    np.testing.assert_array_equal(decode_image(turned), decode_image(plain))
    assert exif_swaps_sides(turned) == (orientation >= 5)
    assert not exif_swaps_sides(plain)


@pytest.mark.parametrize(
    ("size", "one", "other", "apart"),
    [
        ((6, 4), 1, 1, False),
        ((6, 4), 3, 1, True),
        ((6, 4), 1, 3, True),
        ((6, 4), 3, 3, False),
        ((6, 4), 2, 4, True),
        ((6, 4), 6, 1, False),  # as shown, their sizes differ: the mask was drawn on the stored pixels
        ((6, 4), 6, 8, True),
        ((6, 6), 6, 1, True),
        ((6, 6), 5, 5, False),
    ],
)
def test_exif_turns_two_files_apart(size: tuple[int, int], one: int, other: int, apart: bool) -> None:
    files = []
    for kind, orientation in (("JPEG", one), ("PNG", other)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files.append(encode(smooth(*size[::-1]), kind, exif=exif))
    image, mask = files
    assert exif_rotates_differently(image, mask, size) == apart


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", bytes(99)])
def test_malformed_exif_turns_nothing(exif: bytes) -> None:
    plain = encode(smooth(), "PNG")
    for kind in ("JPEG", "PNG"):
        assert not exif_rotates_differently(encode(smooth(), kind, exif=b"Exif\0\0" + exif), plain, (8, 8))


def test_corrupt_exif_is_no_obstacle() -> None:
    data = encode(smooth(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 4)
    assert decode_image(data).shape == (48, 64, 3)
    assert not exif_swaps_sides(data)


def test_broken_animation_control_is_no_obstacle() -> None:
    data = png(1, 1, 8, 0, b"\0\x07", chunk(b"acTL", bytes(8)))
    assert decode_image(data).tolist() == [[[7, 7, 7]]]


def test_opening_decodes_nothing_and_a_later_decoding_is_the_same() -> None:
    data = encode(smooth(), "JPEG")
    image = open_image(data)
    assert image.size == (64, 48)
    assert image.tile  # what there is to decode
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), decode_image(data))


class TestReduction:
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    @pytest.mark.parametrize(
        ("least", "scale"), [((64, 48), 1), ((33, 24), 1), ((32, 24), 2), ((9, 7), 4), ((1, 1), 8)]
    )
    def test_a_jpeg_is_made_smaller_but_not_below_the_least(
        self, mode: str, progressive: bool, least: tuple[int, int], scale: int
    ) -> None:
        data = encode(Image.fromarray(smooth()).convert(mode), "JPEG", quality=95, progressive=progressive)
        image, size = decode_reduced(open_image(data), least)
        assert size == (64 / scale, 48 / scale)
        assert image.shape == (48 / scale, 64 / scale, 3)
        expected = np.asarray(to_rgb(open_image(data)).reduce(scale)).astype(int)
        assert np.abs(image - expected).mean() < 2

    def test_the_last_pixels_may_be_there_in_part(self) -> None:
        image, size = decode_reduced(open_image(encode(smooth(51, 66), "JPEG")), (10, 10))
        assert size == (16.5, 12.75)
        assert image.shape == (13, 17, 3)

    def test_a_least_size_above_that_of_the_image(self) -> None:
        data = encode(smooth(), "JPEG")
        image, size = decode_reduced(open_image(data), (1000, 1))
        assert size == (64, 48)
        np.testing.assert_array_equal(np.asarray(image), decode_image(data))

    @pytest.mark.parametrize("factor", [1, 2, 4, 8])
    @pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
    def test_pixels_are_those_of_pillow(self, subsampling: str, factor: int) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
        data = encode(noise, "JPEG", subsampling=subsampling)
        image, size = decode_reduced(open_image(data), (64 // factor, 48 // factor))
        pillow = open_image(data)
        pillow.draft(None, (64 // factor, 48 // factor))
        np.testing.assert_array_equal(image, np.asarray(pillow))
        assert size == pillow.size

    def test_pillow_alone_will_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("semseg.codecs.strict.simplejpeg", None)
        data = encode(smooth(), "JPEG")
        image, size = decode_reduced(open_image(data), (1, 1))
        assert size == (64, 48)
        np.testing.assert_array_equal(image, decode_image(data))

    def test_what_pillow_forgives_is_forgiven(self) -> None:
        """Stray bytes between two segments: the decoder warns of them, which the fast path treats as an error."""
        data = encode(smooth(), "JPEG")
        strayed = data[:20] + b"\0\0\0" + data[20:]
        image, _ = decode_reduced(open_image(strayed), (64, 48))
        np.testing.assert_array_equal(image, decode_image(data))

    @pytest.mark.parametrize(
        ("kind", "mode"), [("PNG", mode) for mode in ("1", "L", "P", "LA", "RGB", "RGBA")] + [("JPEG", "CMYK")]
    )
    def test_others_stay_as_they_are(self, kind: str, mode: str) -> None:
        data = encode(Image.fromarray(smooth()).convert(mode), kind)
        image, size = decode_reduced(open_image(data), (1, 1))
        assert size == (64, 48)
        np.testing.assert_array_equal(np.asarray(image), decode_image(data))


def reduce_image(data: bytes, max_pixels: int = 50_000_000) -> object:
    return decode_reduced(open_image(data, max_pixels), (1, 1))


@pytest.mark.parametrize("read", [decode_image, verify_image, reduce_image])
class TestRefusals:
    @pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP"])
    def test_other_formats_whatever_their_name(self, read: Callable[..., object], kind: str) -> None:
        with pytest.raises(ImageError, match="neither JPEG nor PNG"):
            read(encode(PIXELS, kind))

    def test_no_bytes(self, read: Callable[..., object]) -> None:
        with pytest.raises(ImageError, match="empty"):
            read(b"")

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9])
    def test_truncated_files(self, read: Callable[..., object], kind: str, progressive: bool, kept: float) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        data = encode(noise, kind, progressive=progressive)
        with pytest.raises(ImageError, match="cannot be decoded"):
            read(data[: int(len(data) * kept)])

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    def test_truncated_files_though_gluoncv_makes_pillow_accept_them(
        self, monkeypatch: pytest.MonkeyPatch, read: Callable[..., object], kind: str
    ) -> None:
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        with pytest.raises(ImageError, match="cannot be decoded"):
            read(encode(smooth(), kind)[:-60])

    def test_png_with_a_bad_checksum(self, read: Callable[..., object]) -> None:
        data = bytearray(png(1, 1, 8, 0, b"\0\x07"))
        data[30] ^= 1  # in the checksum of IHDR
        with pytest.raises(ImageError, match="checksum"):
            read(bytes(data))

    def test_a_bomb_is_refused_before_it_is_decoded(self, read: Callable[..., object]) -> None:
        bomb = png(13_000, 13_000, 8, 0, b"not even compressed rows")
        with pytest.raises(TooLargeError, match="13000 x 13000"):
            read(bomb)

    def test_a_limit_of_the_caller(self, read: Callable[..., object]) -> None:
        assert read(encode(PIXELS), 54) is not None
        with pytest.raises(TooLargeError):
            read(encode(PIXELS), 53)

    def test_a_limit_above_pillows_own(self, read: Callable[..., object]) -> None:
        with pytest.raises(ImageError, match="cannot be decoded") as raised:
            read(png(14_000, 14_000, 1, 0, b"")[:60], 200_000_000)
        assert not isinstance(raised.value, TooLargeError)


def test_pixels_come_back_from_an_encoded_image() -> None:
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(encode_image(PIXELS)))), PIXELS)


def test_a_jpeg_of_endless_scans_is_refused_unread() -> None:
    """Each scan visits all pixels: 500 of them, 20 kB, would keep a core busy for half a minute at 30 megapixels."""
    data = encode(smooth(), "JPEG", progressive=True)
    first, end = data.index(b"\xff\xda"), data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    scans = data.count(b"\xff\xda")
    most = data[:first] + data[first:end] * (51 - scans) + data[end:]
    assert decode_image(most).shape == decode_image(data).shape
    with pytest.raises(ImageError, match="more than the 50 scans"):
        decode_image(data[:first] + data[first:end] * (52 - scans) + data[end:])


def test_only_the_scans_of_the_image_count() -> None:
    """Not what phones append, such as a video, nor other segments, such as a thumbnail."""
    data, scans = encode(smooth(), "JPEG"), 100 * b"\xff\xda\0\x02"
    segment = b"\xff\xe5" + struct.pack(">H", 2 + len(scans)) + scans
    restarts = encode(smooth(), "JPEG", restart_marker_blocks=1)
    assert restarts.count(b"\xff\xd0") > 1
    for file in (data + scans, data[:2] + segment + data[2:], restarts + scans):
        np.testing.assert_array_equal(decode_image(file), decode_image(data))


def test_a_jpeg_of_endless_segments_is_refused_unread() -> None:
    """Pillow would take minutes for the 25 million that a body of 100 MB can have."""
    data = encode(smooth(), "JPEG")
    assert open_image(data[:2] + 9_000 * b"\xff\xe5\0\x02" + data[2:]).size == (64, 48)
    for segment in (b"\xff\xe5\0\x02", b"\xff\xe5\0\0", b"\xff\x01"):
        with pytest.raises(ImageError, match="more than the 10,000 segments"):
            open_image(data[:2] + 10_000 * segment + data[2:])


def test_the_metadata_of_a_png_take_no_memory() -> None:
    """A text of 73 kB unpacks to 64 million letters, and stayed in memory as long as the image."""
    text = b"Comment\0\0" + zlib.compress(b"\xf0\x9f\x99\x82" + 100_000 * b"a")
    others = [chunk(b"iTXt", b"Comment\0\1\0\0\0" + text[9:]), chunk(b"zTXt", text), chunk(b"tEXt", b"a\0b")]
    rows = b"\0" + bytes(range(9))
    whole = png(9, 1, 8, 0, rows, *others, *(chunk(b"prIv", b"") for _ in range(1000)))
    whole = whole[:-12] + chunk(b"tEXt", b"c\0d") + whole[-12:]
    image = open_image(whole)
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.arange(9, dtype=np.uint8)[None, :, None].repeat(3, 2))
    assert isinstance(image, PngImageFile)
    assert image.text == {}
    assert image.info == {}
    assert image.private_chunks == []


def test_a_png_of_endless_chunks_is_refused_unread() -> None:
    with pytest.raises(ImageError, match="more than the 50,000 chunks"):
        open_image(png(9, 1, 8, 0, bytes(10), 50_000 * chunk(b"tEXt", b"")))


def test_trailing_garbage_is_no_obstacle() -> None:
    for data in (encode(PIXELS), encode(PIXELS, "JPEG")):
        np.testing.assert_array_equal(decode_image(data + b"garbage"), decode_image(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_verify_gives_height_and_width(kind: str) -> None:
    assert verify_image(encode(smooth(), kind)) == (48, 64)
    assert verify_image(encode(smooth(2, 3), kind)) == (2, 3)


@given(
    st.binary(max_size=80), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", png(1, 1, 8, 0, b"\0\0")[:33]])
)
def test_arbitrary_bytes_raise_nothing_but_image_error(tail: bytes, head: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(head + tail)


@given(st.integers(0), st.integers(0, 255), st.sampled_from(["JPEG", "PNG"]))
def test_a_damaged_byte_gives_pixels_or_image_error(position: int, value: int, kind: str) -> None:
    data = bytearray(encode(smooth(16, 16), kind))
    data[position % len(data)] = value
    with contextlib.suppress(ImageError):
        assert decode_image(bytes(data), 100_000).dtype == np.uint8


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode_image, [encode(smooth(), "JPEG")] * 200))
    assert list(warnings.filters) == before
