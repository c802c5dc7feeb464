from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from semseg.codecs.images import decode_image, decode_reduced, exif_swaps_sides, open_image, verify_image
from semseg.codecs.kinds import HEAD_BYTES, JPEG, PNG, kind_of, not_jpeg_or_png, require_usual_coding
from semseg.codecs.masks import decode_mask
from semseg.errors import ImageError
from semseg.types import UInt8

PIXELS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 40, 3)).astype(np.uint8))


def saved(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    PIXELS.save(file, form, **options)
    return file.getvalue()


def numpy_file(**arrays: UInt8) -> bytes:
    file = io.BytesIO()
    if arrays:
        np.savez(file, **arrays)
    else:
        np.save(file, np.zeros((4, 4), np.uint8))
    return file.getvalue()


def packed(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.jpg", saved("JPEG"))
    else:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.jpg"))
    return file.getvalue()


def media(brand: bytes, *compatible: bytes) -> bytes:
    """The first box of an ISO media file (ISO/IEC 14496-12)."""
    return struct.pack(">I", 16 + 4 * len(compatible)) + b"ftyp" + brand + bytes(4) + b"".join(compatible) + bytes(100)


PNG_BYTES, JPEG_BYTES = saved("PNG"), saved("JPEG")
PNG_TEXT, JPEG_TEXT = base64.b64encode(PNG_BYTES), base64.b64encode(JPEG_BYTES)
PART = b'\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + JPEG_BYTES
S3_ERROR = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%s</Code><Message>no</Message></Error>'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>'

IMAGES = [
    (saved("WEBP"), "a WebP file"),
    (saved("GIF"), "a GIF file"),
    (b"GIF89a", "a GIF file"),
    (saved("BMP"), "a BMP file"),
    (saved("TIFF"), "a TIFF file"),
    (saved("TIFF", big_tiff=True), "a TIFF file"),
    (b"MM\0*\0\0\0\x08", "a TIFF file"),
    (b"MM\0+\0\x08\0\0", "a TIFF file"),
    (saved("AVIF"), "an AVIF file"),
    (media(b"mif1", b"mif1", b"avif"), "an AVIF file"),
    (media(b"heic", b"mif1", b"heic"), "a HEIC file"),
    (media(b"mif1", b"mif1", b"heic"), "a HEIC file"),
    (media(b"msf1"), "a HEIC file"),
    (saved("JPEG2000"), "a JPEG 2000 file"),
    (saved("JPEG2000", no_jp2=True), "a JPEG 2000 file"),
    (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "a JPEG XL file"),
    (b"\xff\x0a\xfa\x7f", "a JPEG XL file"),
    (saved("PPM"), "a PNM file"),
    (b"P5 640 480 255\n" + bytes(20), "a PNM file"),
    (saved("ICO"), "an icon (ICO)"),
    (b"8BPS\0\1" + bytes(20), "a Photoshop file"),
    (b"v/1\x01\2\0\0\0", "an OpenEXR file"),
    (bytes(128) + b"DICM\2\0\0\0", "a DICOM file"),
    (SVG, "an SVG drawing"),
    (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- Ger\xc3\xa4t -->\n' + SVG, "an SVG drawing"),
]
OTHERS = [
    (media(b"isom", b"isom", b"mp41"), "an ISO media file, such as a video (MP4)"),
    (saved("PDF"), "a PDF file"),
    (numpy_file(), "a NumPy file (.npy)"),
    (numpy_file(a=np.zeros(3, np.uint8)), "a zip file, as .npz files are too"),
    (packed("zip"), "a zip file, as .npz files are too"),
    (gzip.compress(JPEG_BYTES, mtime=0), "gzip data"),
    (zlib.compress(JPEG_BYTES), "zlib data"),
    (bz2.compress(JPEG_BYTES), "bzip2 data"),
    (lzma.compress(JPEG_BYTES), "xz data"),
    (b"\x28\xb5\x2f\xfd\x24\0\1\0\0", "zstd data"),
    (packed("tar"), "a tar archive"),
    (b"\0\5\x16\7\0\2\0\0Mac OS X        ", "an AppleDouble file, which macOS keeps beside another"),
    (b"\x0a\x23\xd7\xce\4\0\0\0data", "a RecordIO file"),
    (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file"),
    (pickle.dumps(np.zeros(3)), "a Python pickle"),
    (pickle.dumps([1, 2], protocol=2), "a Python pickle"),
    (PNG_BYTES.decode("utf-8", "replace").encode(), "a PNG file that was handled as text"),
    (PNG_BYTES.decode("latin-1").encode(), "a PNG file that was handled as text"),
    (PNG_BYTES.decode("ascii", "replace").encode("ascii", "replace"), "a PNG file that was handled as text"),
    (PNG_BYTES.replace(b"\r\n", b"\n"), "a PNG file that was handled as text"),
    (PNG_BYTES.replace(b"\n", b"\r\n"), "a PNG file that was handled as text"),
    (JPEG_BYTES.decode("utf-8", "replace").encode(), "binary data that was handled as text"),
    (JPEG_BYTES.decode("latin-1").encode(), "binary data that was handled as text"),
    ("\ufffdPNG".encode("utf-16"), "UTF-16 text, as PowerShell's > writes"),
    (LFS, "a Git LFS pointer"),
    (b"../../.git/annex/objects/Xk/9P/SHA256E-s31--ab.jpg", "a git-annex pointer"),
    (b"/annex/objects/SHA256E-s31--ab.jpg\n", "a git-annex pointer"),
    (b"data:image/jpeg;base64," + JPEG_TEXT, "a data URI"),
    (JPEG_TEXT, "the base64 text of an image"),
    (PNG_TEXT, "the base64 text of an image"),
    (b'"' + PNG_TEXT + b'"', "the base64 text of an image"),
    (str(JPEG_TEXT).encode(), "the base64 text of an image"),
    (b"\r\n" + base64.encodebytes(saved("GIF")), "the base64 text of an image"),
    (base64.b64encode(saved("WEBP")), "the base64 text of an image"),
    (JPEG_BYTES.hex().encode(), "the hexadecimal text of an image"),
    (b"0x" + PNG_BYTES.hex().upper().encode(), "the hexadecimal text of an image"),
    (str(JPEG_BYTES).encode(), "bytes as Python prints them"),
    (str(PNG_BYTES).encode(), "bytes as Python prints them"),
    (b"------WebKitFormBoundary7MA4YWxkTrZu0gW" + PART, "a multipart form"),
    (b"--5f2a" + PART, "a multipart form"),
    (b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + JPEG_BYTES, "an HTTP response with its headers"),
    (b"<!DOCTYPE html>\n<html lang=de><title>Anmeldung f\xc3\xbcr", "an HTML page"),
    (b"\n<HTML><body>", "an HTML page"),
    (S3_ERROR % b"AccessDenied", "an XML error of a store such as S3 (AccessDenied)"),
    (b"<Error><Code>NoSuchKey</Code>", "an XML error of a store such as S3 (NoSuchKey)"),
    (b"<annotation><filename>a.jpg", "XML text"),
    (b' {"instances": [{"b64": "/9j/"}]}', "JSON text"),
    (b"\xef\xbb\xbf[[0, 1]]", "JSON text"),
    (b"404: Not Found", "text"),
    (b"BMW, Audi\r\n", "text"),
    ("Größe".encode(), "text"),
    (bytes(9), "a run of zero bytes"),
    (bytes(1 << 20), "a run of zero bytes"),
    (b"\n\n" + JPEG_BYTES, "2 bytes of something else, then an image"),
    (bytes(128) + PNG_BYTES, "128 bytes of something else, then an image"),
]


@pytest.mark.parametrize(("data", "name"), IMAGES + OTHERS, ids=[name for _, name in IMAGES + OTHERS])
def test_what_is_no_jpeg_or_png_is_named_with_the_way_out(data: bytes, name: str) -> None:
    kind = kind_of(data)
    assert kind is not None
    assert (kind.name, kind.image) == (name, (data, name) in IMAGES)
    assert kind.advice.endswith(".")
    for read in (decode_image, verify_image, open_image, decode_mask):
        with pytest.raises(ImageError) as caught:
            read(data)
        assert str(caught.value) == f"This is {name}, neither JPEG nor PNG. {kind.advice}"


def test_jpeg_and_png_are_known_by_their_bytes_alone() -> None:
    assert (kind_of(JPEG_BYTES), kind_of(PNG_BYTES)) == (JPEG, PNG)


@pytest.mark.parametrize("data", [b"", b"\x07\x12\x99", b"\x00\x01\x02" * 500])
def test_what_is_not_known_is_said_to_be_neither(data: bytes) -> None:
    assert kind_of(data) is None
    assert str(not_jpeg_or_png(data)).startswith(
        "The image begins like neither JPEG nor PNG." if data else "The image is e"
    )


@given(
    st.binary(max_size=300) | st.text(max_size=300).map(str.encode),
    st.sampled_from([b"", *(i[0][:40] for i in OTHERS)]),
)
def test_any_bytes_are_looked_at(data: bytes, start: bytes) -> None:
    kind = kind_of(start + data)
    assert kind is None or (kind.name.isprintable() and kind.advice)


@pytest.mark.parametrize(
    "unit", [b"<", b"<?xml", b"<!", b"<Error>", b"<?xml<Error>", b" ", b"--", b"P1 ", b"/annex", b"\xff", b'"']
)
def test_only_the_first_bytes_are_looked_at(unit: bytes) -> None:
    """Whatever follows them, only the first `HEAD_BYTES` bytes decide."""
    head = (unit * HEAD_BYTES)[:HEAD_BYTES]
    assert kind_of(head) == kind_of(head + b"<svg" * 1000)


def frame(code: int, bits: int, before: bytes = b"") -> bytes:
    """The beginning of a JPEG: a frame header of one component, 40 x 32, and the marker of a scan."""
    declared = bytes([0xFF, code]) + struct.pack(">HBHHB", 11, bits, 32, 40, 1) + b"\1\x11\0"
    return b"\xff\xd8" + before + declared + b"\xff\xda\0\x08\1\1\0\0\x3f\0"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (frame(0xC1, 12), "The JPEG has 12 bits per sample, not 8. Save it with 8 bits"),
        (frame(0xC3, 16), "The JPEG has 16 bits per sample, not 8. Save it with 8 bits"),
        (frame(0xC3, 8), "The JPEG is lossless"),
        (frame(0xCB, 8), "The JPEG is lossless"),
        (frame(0xC5, 8), "The JPEG is hierarchical"),
        (frame(0xCF, 8), "The JPEG is hierarchical"),
        (frame(0xF7, 8), "This is a JPEG-LS file"),
        (frame(0xC3, 8, b"\xff\xe1\0\x08\xff\xc0\0\0\0\0"), "The JPEG is lossless"),  # a frame within another segment
        (frame(0xC3, 8, b"\xff\xe0\0\0"), "The JPEG is lossless"),  # a length of 0, which libjpeg takes for 2
        (frame(0xC3, 8, b"\xff\xe0\0\2" + bytes(5000)), "The JPEG is lossless"),  # what libjpeg skips
        (frame(0xC3, 8, b"\xff" * 5000), "The JPEG is lossless"),
    ],
)
def test_jpegs_of_rare_codings_are_named_and_not_called_damaged(data: bytes, says: str) -> None:
    for read in (decode_image, verify_image, open_image, decode_mask):
        with pytest.raises(ImageError) as caught:
            read(data + b"\xff\xd9")
        assert str(caught.value).startswith(says)
        assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("code", [0xC0, 0xC1, 0xC2, 0xC9, 0xCA])
def test_baseline_progressive_and_arithmetic_codings_are_read(code: int) -> None:
    require_usual_coding(frame(code, 8)[2:])


def lossless(pixels: UInt8) -> bytes:
    """A lossless JPEG of pixels (H, W, 3) (ISO/IEC 10918-1, annex H): each difference is coded as 5 bits for its size,
    then its value."""
    height, width, _ = pixels.shape
    values = pixels.astype(int)
    before = np.full_like(
        values, 128
    )  # predicted from the pixel above in the first column, from the one to the left elsewhere
    before[1:, 0], before[:, 1:] = values[:-1, 0], values[:, :-1]
    bits = ""
    for difference in (values - before).ravel().tolist():
        size = abs(difference).bit_length()
        bits += f"{size:05b}" + (f"{difference + (difference < 0) * ((1 << size) - 1):0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    head = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\1\x11\0\2\x11\0\3\x11\0"
    table = b"\xff\xc4\0\x1c\0" + bytes([0, 0, 0, 0, 9, *[0] * 11]) + bytes(range(9))
    return head + table + b"\xff\xda\0\x0c\3\1\0\2\0\3\0\1\0\0" + coded + b"\xff\xd9"


def test_a_whole_lossless_jpeg_never_reaches_a_decoder_that_would_write_beyond_its_buffer() -> None:
    """Asked for a quarter, simplejpeg allocates a quarter, and the decoder writes all: that killed the process."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)
    data = lossless(pixels)
    with Image.open(io.BytesIO(data)) as oracle:
        np.testing.assert_array_equal(np.asarray(oracle), pixels)
    with pytest.raises(ImageError, match="lossless"):
        decode_reduced(open_image(data), (20, 16))
    assert not exif_swaps_sides(data)
