"""Unpacks the model.tar.gz of an earlier training, without trusting it.

Only the known files of a model are written, under their own names. This is not `tarfile`, because Python 3.11's keeps
extended headers of any declared size in memory, and searches them in quadratic time (64 KiB take 4 seconds). The names
of these files are short enough for the plain header.

The format (POSIX.1-1988, ustar): for each member a header of 512 bytes, then its content, padded to a multiple of 512;
at the end two blocks of zeros. In the header, with lengths in brackets: name at byte 0 (100), size at 124 (12, octal),
checksum at 148 (8, octal: the sum of the header's bytes, with the checksum itself counted as spaces), type at 156,
"ustar" at 257, and the prefix of the name at 345 (155).
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from semseg.artifact.misplaced import ARCHIVES
from semseg.artifact.model_dir import BEST, CLASSES, HYPERPARAMS, LAST
from semseg.errors import ArtifactError, FormatError, first_few, one_line

MAX_BYTES = 4 << 30
"""Limit for an archive, packed or unpacked: the two parameter files of the largest network have half a gigabyte."""

_MAX_HEADERS = 10_000
_WANTED = {HYPERPARAMS: 1 << 20, CLASSES: 1 << 20, BEST: 2 << 30, LAST: 2 << 30}
"""The files that are unpacked, and the limit in bytes for each."""

_BLOCK = 512
_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, directories, FIFOs; their size is ignored
_EXTENSIONS = (b"x", b"g", b"L", b"K")  # extended headers of POSIX.1-2001 and GNU: longer names, times and so on
_SPARSE = b"S"


def unpack(archive: Path, directory: Path, max_bytes: int = MAX_BYTES) -> None:
    """Write the known files at the top level of a .tar or .tar.gz into a directory that has none of them.

    These are model_best.params, model_algo-1, hyperparams.json and classes.json, also as `./model_best.params`. Other
    members are skipped. The archive is read once, one megabyte at a time, and its gzip checksum verified.

    Raises ArtifactError, naming the archive and the fault: it is damaged or truncated, has more than 10,000 members or
    `max_bytes`, a known name twice or for something other than a regular file, or no parameters. Some files may have
    been written by then.
    """
    try:
        with archive.open("rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > max_bytes:
                raise FormatError(f"has {size:,} bytes, more than the {max_bytes:,} allowed")
            with _decompressed(file) as content:
                _unpack(_Source(content, max_bytes), directory)
    except FormatError as fault:
        raise ArtifactError(
            f"{one_line(str(archive))} {fault}.", "Give the model.tar.gz of a training job, copied whole."
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtifactError(f"{one_line(str(archive))} cannot be unpacked into {directory}: {reason}.") from error


@contextmanager
def _decompressed(file: IO[bytes]) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The bytes of the tar; the first bytes, not the file's name, decide whether it is compressed."""
    start = file.read(2)
    if not start:
        raise FormatError("is empty")
    file.seek(0)
    if start != _GZIP:
        yield file
        return
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as content:
            yield content
    except EOFError:
        raise FormatError("is truncated: its gzip stream has no end") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise FormatError(f"is damaged: {error}") from None


class _Source:
    """Reads the bytes of the tar in order, at most `max_bytes`."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._offset = 0

    def block(self) -> bytes:
        """The next 512 bytes."""
        return b"".join(self.pieces(_BLOCK))

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, at most a megabyte at a time."""
        if self._offset + size > self._max_bytes:
            raise FormatError(f"unpacks to more than the {self._max_bytes:,} bytes allowed")
        while size:
            piece = self._file.read(min(size, _PIECE))
            if not piece:
                raise FormatError(f"is truncated: after byte {self._offset:,} of the tar it should have {size:,} more")
            self._offset += len(piece)
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> None:
        """Skip the next `size` bytes."""
        for _ in self.pieces(size):
            pass

    def finish(self) -> None:
        """Read the rest, which is padding, so that gzip verifies its checksum."""
        while piece := self._file.read(_PIECE):
            self._offset += len(piece)
            if self._offset > self._max_bytes:
                raise FormatError(f"unpacks to more than the {self._max_bytes:,} bytes allowed")

    def fail(self, fault: str) -> NoReturn:
        """Raise the error for the block just read."""
        raise FormatError(f"is damaged: at byte {self._offset - _BLOCK:,} of the tar there is {fault}")


def _unpack(source: _Source, directory: Path) -> None:
    names: list[str] = []
    for member in _members(source):
        if member.name not in _WANTED:
            source.skip(member.size)
        elif member.name in names:
            raise FormatError(f"has {member.name} twice")
        else:
            _write(member, source, directory)
        source.skip(-member.size % _BLOCK)
        names.append(member.name)
    source.finish()
    if BEST not in names and LAST not in names:
        raise FormatError(f"has neither {BEST} nor {LAST} at its top level, but {_described(names)}")


def _described(names: list[str]) -> str:
    """What an archive without parameters at its top level holds, and where its model seems to be."""
    for name in names:
        if name.endswith((f"/{BEST}", f"/{LAST}")):
            return f"{name!r:.100}: pack the files of the model without a folder around them"
        if name.endswith(ARCHIVES):
            return f"{name!r:.100}, an archive inside it: give that one"
    return first_few([f"{name!r:.100}" for name in names])


@dataclass(frozen=True)
class _Member:
    """A member. name: without a leading `./`; kind: its type, one byte; size: of the content after the header."""

    name: str
    kind: bytes
    size: int


def _write(member: _Member, source: _Source, directory: Path) -> None:
    name, limit = member.name, _WANTED[member.name]
    if member.kind not in _REGULAR:
        raise FormatError(f"has a {name} that is a link or device: pack the file itself")
    if member.size > limit:
        raise FormatError(f"has a {name} of {member.size:,} bytes, more than the {limit:,} allowed")
    with (directory / name).open("xb") as target:  # x: neither overwrites a file nor follows a link
        for piece in source.pieces(member.size):
            target.write(piece)


def _members(source: _Source) -> Iterator[_Member]:
    """The members, without extended headers. The caller must read or skip a member's content before the next."""
    for _ in range(_MAX_HEADERS):
        block = source.block()
        if not any(block):
            return
        member = _parse(block, source)
        if member.kind in _EXTENSIONS:
            source.skip(member.size + -member.size % _BLOCK)
        else:
            yield member
    raise FormatError(f"has more than {_MAX_HEADERS:,} members")


def _parse(block: bytes, source: _Source) -> _Member:
    if _octal(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        source.fail("no header of a member: this is not a tar, or bytes were lost")
    kind = block[156:157]
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's format, "ustar  ", has other fields there
        name = f"{_text(block[345:500])}/{name}"
    if kind == _SPARSE:
        raise FormatError(f"has the sparse file {name!r:.100}: pack without --sparse")
    size = 0 if kind in _WITHOUT_CONTENT else _size(block[124:136])
    if size is None:
        source.fail("a member whose size is not a number")
    return _Member(name.removeprefix("./"), kind, size)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _size(field: bytes) -> int | None:
    """Parse a size: octal, or, from 8 GiB on, binary with the first bit set."""
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field)


def _octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    return int(digits, 8) if re.fullmatch(b"[0-7]+", digits) else None
