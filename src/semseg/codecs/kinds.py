"""Recognises what bytes are when they are not the expected JPEG or PNG file, so that errors can name it."""

from __future__ import annotations

import re
from codecs import BOM_UTF8, getincrementaldecoder
from typing import NamedTuple

from semseg.errors import ImageError

HEAD_BYTES = 1024
"""The number of bytes at the beginning that decide."""


class Kind(NamedTuple):
    """A file format, or another kind of content.

    name: completes a sentence that begins with "This is", such as ``a GIF file``. advice: how to get a JPEG or PNG
    file. image: whether it is an image. in_request: what the sender of a request may do instead.
    """

    name: str
    advice: str
    image: bool = False
    in_request: str = ""


JPEG = Kind("a JPEG file", "Name it .jpg.", image=True)
PNG = Kind("a PNG file", "Name it .png.", image=True)

CONVERT = "Convert it to PNG, or to JPEG if it is a photo."
"""The advice for images of other formats."""

_UNPACK = "Unpack it first."
_ITSELF = "Give the JPEG or PNG file itself."
TAR = Kind("a tar archive", _UNPACK)
_BINARY_MODE = "Bytes are missing or altered: copy the file again in binary mode."


def _image(name: str) -> Kind:
    return Kind(name, CONVERT, image=True)


TIFF = _image("a TIFF file")
WEBP = _image("a WebP file")
BMP = _image("a BMP file")

_BINARY: tuple[tuple[bytes, Kind], ...] = (
    (rb"\xff\xd8\xff", JPEG),
    (rb"\x89PNG\r\n\x1a\n", PNG),
    (rb"RIFF....WEBP", WEBP),
    (rb"GIF8", _image("a GIF file")),
    (rb"II[*+]\0|MM\0[*+]", TIFF),
    (rb"....ftyp(?:....){,8}?avi[fs]", _image("an AVIF file")),
    (rb"....ftyp(?:he[iv][cmsx]|mif1|msf1)", _image("a HEIC file")),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xffO\xffQ", _image("a JPEG 2000 file")),
    (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\n", _image("a JPEG XL file")),
    (rb"8BPS", _image("a Photoshop file")),
    (rb"v/1\x01", _image("an OpenEXR file")),
    (rb"#\?(?:RADIANCE|RGBE)", _image("a Radiance HDR file")),
    (rb".{128}DICM", _image("a DICOM file")),
    (rb"P[1-6]\s+[#0-9]|P7\nWIDTH|P[Ff]\n[0-9]", _image("a PNM file")),
    (rb"\0\0[\x01\x02]\0[^\0]\0", _image("an icon (ICO)")),
    (rb"....ftyp", Kind("an ISO media file, such as a video (MP4)", "Save its frames as JPEG or PNG.")),
    (rb"%PDF-", Kind("a PDF file", "Save its page or its image as PNG or JPEG.")),
    (rb"\x93NUMPY", Kind("a NumPy file (.npy)", "Save its array as PNG, for instance with Pillow.")),
    (rb"PK(?:\x03\x04|\x05\x06)", Kind("a zip file, as .npz files are too", _UNPACK)),
    (rb"\x1f\x8b", Kind("gzip data", _UNPACK, in_request="Or send it with Content-Encoding: gzip.")),
    (rb"\x28\xb5\x2f\xfd", Kind("zstd data", _UNPACK)),
    (rb"BZh[1-9]1AY", Kind("bzip2 data", _UNPACK)),
    (rb"\xfd7zXZ\0", Kind("xz data", _UNPACK)),
    (rb"7z\xbc\xaf\x27\x1c", Kind("a 7-Zip file", _UNPACK)),
    (rb"Rar!\x1a\x07", Kind("a RAR file", _UNPACK)),
    (rb".{257}ustar", TAR),
    (rb"x[\x01\x5e\x9c\xda][^ -~]", Kind("zlib data", _UNPACK)),
    (
        rb"\x00\x05\x16[\x00\x07]",
        Kind("an AppleDouble file, which macOS keeps beside another", "Delete it; the image is named without ._."),
    ),
    (rb"\n\x23\xd7\xce", Kind("a RecordIO file", "Save its records as files, or train in Pipe mode.")),
    (rb"\x89HDF\r\n\x1a\n", Kind("an HDF5 file", "Save its arrays as PNG.")),
    (rb"\x80[\x02-\x05][\x95c}\](K]", Kind("a Python pickle", "Save its arrays as PNG.")),
    (rb"(?:\x89|\xc2\x89|\xef\xbf\xbd|\t|\?|)PNG[\r\n]", Kind("a PNG file that was handled as text", _BINARY_MODE)),
    (
        rb"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|\xc3\xbf\xc3\x98\xc3\xbf",
        Kind("binary data that was handled as text", _BINARY_MODE),
    ),
    (rb"\xff\xfe|\xfe\xff", Kind("UTF-16 text, as PowerShell's > writes", _BINARY_MODE)),
    (
        rb"\s*--[^\r\n]{1,70}\r?\n(?i:content-)",
        Kind("a multipart form", _ITSELF, in_request="Or send it with its own Content-Type, as curl --form does."),
    ),
    (rb"\s*HTTP/[0-9.]+ [0-9]{3}", Kind("an HTTP response with its headers", "Save only its body.")),
    (rb"BM.{4}\0|BM[^ -~]", BMP),
)  # fmt: skip
"""Patterns of the first bytes of binary formats."""

_TEXT: tuple[tuple[bytes, Kind], ...] = (
    (rb"version https://git-lfs\.github\.com/", Kind("a Git LFS pointer", "Fetch the file itself: git lfs pull.")),
    (rb"\S*/annex/objects/", Kind("a git-annex pointer", "Fetch the file itself: git annex get.")),
    (rb"[\"']?data:[\w.+-]*/", Kind("a data URI", f"Decode the base64 text after its comma. {_ITSELF}")),
    (
        rb"(?:b?[\"'])?(?:/9j/[\w+/]|iVBORw0KGgo|UklGR[\w+/]|R0lGOD[\w+/]|SUkqA[\w+/])",
        Kind("the base64 text of an image", f"Decode it. {_ITSELF}"),
    ),
    (rb"(?i:(?:0x)?(?:ffd8ff[\da-f]{2}|89504e47))", Kind("the hexadecimal text of an image", f"Decode it. {_ITSELF}")),
    (rb"b[\"']\\x(?:ff\\xd8|89PNG)", Kind("bytes as Python prints them", f"Write them in binary mode. {_ITSELF}")),
    (rb"(?is)(?:<\?xml.{,900}?|<!.{,900}?)?<svg\b", Kind("an SVG drawing", "Render it to PNG.", image=True)),
    (rb"(?i)<!doctype html|<html", Kind("an HTML page", "Read it: it was saved in place of the file.")),
    (
        rb"(?s)(?:<\?xml.{,100}?)?<Error>.{,200}?<Code>(?P<code>\w{1,50})",
        Kind("an XML error of a store such as S3", "It was saved in place of an object: copy that again."),
    ),
    (rb"<\?xml|<[A-Za-z!]", Kind("XML text", _ITSELF)),
    (rb"[{\[\"]", Kind("JSON text", _ITSELF)),
    (rb"", Kind("text", _ITSELF)),
)  # fmt: skip
"""Patterns of the beginning of text, after a byte order mark and white space."""

_CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f]")
_START = re.compile(rb"\xff\xd8\xff[\xdb\xe0-\xef]|\x89PNG\r\n\x1a\n")
_ZEROS = Kind("a run of zero bytes", "Copy it again: the last copy was cut short, or left holes.")

_JPEG_LS = 0xF7
_HIERARCHICAL = frozenset((*range(0xC5, 0xC8), *range(0xCD, 0xD0)))
_LOSSLESS = (0xC3, 0xCB)


def kind_of(data: bytes) -> Kind | None:
    """Return what bytes are, JPEG and PNG included, None if unknown. Only the first `HEAD_BYTES` matter."""
    head = data[:HEAD_BYTES]
    if kind := _match(_BINARY, head):
        return kind
    text = head.removeprefix(BOM_UTF8).lstrip()
    if text and _is_text(text[:64]):
        return _match(_TEXT, text)
    if head and not any(head):
        return _ZEROS
    if begin := _START.search(head):
        return Kind(f"{begin.start()} bytes of something else, then an image", "Remove what comes before it.")
    return None


def not_jpeg_or_png(data: bytes) -> ImageError:
    """Return the error for bytes that are neither a JPEG nor a PNG file; it says what they are, if that is known."""
    if not data:
        return ImageError("The image is empty.", "Give a JPEG or PNG file.")
    kind = kind_of(data)
    if kind is None:
        return ImageError("The image begins like neither JPEG nor PNG.", "Give a JPEG or PNG file.")
    return ImageError(f"This is {kind.name}, neither JPEG nor PNG.", kind.advice)


def require_usual_coding(frame: bytes) -> None:
    """Raise ImageError for a JPEG that is lossless, hierarchical, or has more than 8 bits per sample.

    frame: the frame header, with its marker. A lossless file must not reach the decoder, which would write its full
    size into a buffer allocated for a reduced image.
    """
    code, bits = frame[1], frame[4]
    if code == _JPEG_LS:
        raise ImageError("This is a JPEG-LS file, neither JPEG nor PNG.", CONVERT)
    if bits in range(9, 17):
        raise ImageError(f"The JPEG has {bits} bits per sample, not 8.", "Save it with 8 bits, as PNG or JPEG.")
    if code in _LOSSLESS or code in _HIERARCHICAL:
        coding = "lossless" if code in _LOSSLESS else "hierarchical"
        raise ImageError(f"The JPEG is {coding}, which is not supported.", "Save it as PNG or as an ordinary JPEG.")


def _match(kinds: tuple[tuple[bytes, Kind], ...], head: bytes) -> Kind | None:
    for pattern, kind in kinds:
        if found := re.match(pattern, head, re.DOTALL):
            detail = found.groupdict().get("code")
            return kind._replace(name=f"{kind.name} ({detail.decode()})") if detail else kind
    return None


def _is_text(sample: bytes) -> bool:
    """Whether bytes, which may end in the middle of a character, are UTF-8 without control characters."""
    try:
        return not _CONTROL.search(getincrementaldecoder("utf-8")().decode(sample))
    except UnicodeDecodeError:
        return False
