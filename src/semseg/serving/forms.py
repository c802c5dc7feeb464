"""Reads the one file of a form (multipart/form-data, RFC 7578), as curl -F and HTML forms send it.

werkzeug parses it piece by piece. Nothing but the file's own bytes leaves this module, and no temporary file is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData, Preamble, State

from semseg.codecs.media_types import FORM
from semseg.errors import RequestError

_LONGEST_BOUNDARY = 70
"""Characters that RFC 2046 section 5.1.1 allows."""

_PIECE = 1 << 13
_MOST_BUFFERED = 3 * _PIECE
"""Bytes that the parser may keep: of the headers of a part, and of what comes before the first or after the last."""

_AROUND = 4
"""Bytes that belong to a boundary on either side, at most: a line break before it, two hyphens and another after it."""

_AS_IT_IS = ("", "binary", "8bit", "7bit")
_SEND_ONE = "Send one file and nothing else, as curl -F image=@FILE does, or the bytes of the image as the body."


def boundary_of(content_type: str | None) -> bytes | None:
    """Return the boundary of the parts of a form, None if a request's Content-Type is not that of a form.

    Raises RequestError for a form without a boundary that RFC 2046 allows.
    """
    media_type, _, rest = (content_type or "").partition(";")
    if media_type.strip().lower() != FORM:
        return None
    boundary = parse_options_header(f"{FORM};{rest}"[:1024])[1].get("boundary", "")
    if not 1 <= len(boundary) <= _LONGEST_BOUNDARY or not boundary.isascii() or not boundary.isprintable():
        raise RequestError(
            f"Content-Type {FORM} has no boundary of 1 to {_LONGEST_BOUNDARY} characters.",
            "Leave the Content-Type to the client that makes the form.",
        )
    return boundary.encode()


def file_of(pieces: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """Yield the bytes of a form's only file, as the pieces of the form arrive; no pieces give nothing.

    Raises RequestError for a form that is damaged or incomplete, has other fields or files, none, or an empty one.
    """
    files, size, begun = 0, 0, False
    try:
        for event in _events(boundary, pieces):
            begun = True
            match event:
                case Field():
                    raise RequestError(f"{_named(event.name)} of the form is not a file.", _SEND_ONE)
                case File():
                    files += 1
                    _check_file(event, files)
                case Data():
                    size += len(event.data)
                    yield event.data
                case Preamble() | Epilogue() if event.data.strip():
                    raise RequestError("The form has data outside of its parts.", _SEND_ONE)
    except RequestEntityTooLarge as error:
        raise RequestError("The form has too long headers, or data outside of its parts.", _SEND_ONE) from error
    except ValueError as error:
        raise RequestError(f"The form is damaged or incomplete: {error!s:.100}.", _SEND_ONE) from error
    if begun and not size:
        raise RequestError("The file of the form is empty." if files else "The form has no file.", _SEND_ONE)


def _events(boundary: bytes, pieces: Iterable[bytes]) -> Iterator[Event]:
    """What the parser finds in the pieces; nothing if they have no bytes."""
    decoder = MultipartDecoder(boundary, _MOST_BUFFERED)
    for piece in _between_boundaries(boundary, pieces):
        decoder.receive_data(piece)
        while not isinstance(event := decoder.next_event(), NeedData):
            yield event
    if decoder.buffer or decoder.state != State.PREAMBLE:
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue):
            yield event
        yield event


def _between_boundaries(boundary: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in small pieces, none of which ends within a boundary and the line breaks around it.

    There, the parser (werkzeug 3.1.9) would add the line break before the boundary to the file.
    """
    delimiter, held = b"--" + boundary, b""
    for piece in pieces:
        for start in range(0, len(piece), _PIECE):
            small = held + piece[start : start + _PIECE]
            cut = max(0, len(small) - _AROUND - len(delimiter))
            found = small.rfind(delimiter, max(0, cut - _AROUND - len(delimiter)), cut + _AROUND + len(delimiter))
            if found >= 0:
                cut = min(cut, max(0, found - _AROUND))
            held = small[cut:]
            yield small[:cut]
    yield held


def _check_file(file: File, number: int) -> None:
    coding = file.headers.get("Content-Transfer-Encoding", "").strip().lower()
    if number > 1:
        raise RequestError(f"{_named(file.name)} of the form is a second file.", _SEND_ONE)
    if coding not in _AS_IT_IS:
        raise RequestError(
            f"{_named(file.name)} of the form is encoded as {coding!r:.50}.", "Send its bytes as they are."
        )


def _named(name: str | None) -> str:
    return f"The field {name!r:.100}" if name else "A field without a name"
