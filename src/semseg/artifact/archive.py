"""Unpacks the model.tar.gz of an earlier training, without trusting it.

Only the known files of a model are written, under their own names. `tarfile` parses the headers, 512 bytes each, and
nothing else: its reader keeps extended headers of any declared size in memory, and Python 3.11.7 searches one of 64 KiB
for 4 seconds. They are skipped here, as the names of these files are short enough for the plain header.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from semseg.artifact.misplaced import ARCHIVES
from semseg.artifact.model_dir import BEST, CLASSES, HYPERPARAMS, INT8, LABEL_MAPS, LAST, ONNX
from semseg.codecs.kinds import HEAD_BYTES, TAR, kind_of
from semseg.errors import ArtifactError, FormatError, first_few, one_line

MAX_BYTES = 4 << 30
"""Limit for an archive, packed or unpacked: the two parameter files of the largest network have half a gigabyte."""

_MAX_HEADERS = 10_000
_WANTED = {HYPERPARAMS: 1 << 20, CLASSES: 1 << 20, BEST: 2 << 30, LAST: 2 << 30}
"""The files that are unpacked, and the limit in bytes for each."""

FILES = _WANTED | {ONNX: 1 << 30, INT8: 1 << 30, LABEL_MAPS: 1 << 20}
"""The files of a model, with those that are unpacked too if it will not be trained further."""

_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
"""The types of headers that only extend the next one: by longer names, times and so on."""


def unpack(archive: Path, directory: Path, max_bytes: int = MAX_BYTES, to_serve: bool = False) -> None:
    """Write the known files at the top level of a .tar or .tar.gz into a directory that has none of them.

    These are model_best.params, model_algo-1, hyperparams.json and classes.json, also as `./model_best.params`, and
    with `to_serve` model.onnx, model_int8.onnx and label_maps.json. Other members are skipped. The archive is read
    once, one megabyte at a time, and its gzip checksum verified.

    Raises ArtifactError, naming the archive and the fault: it is something else, damaged or truncated, has more than
    10,000 members or `max_bytes`, a known name twice or for something other than a regular file, or no parameters. Some
    files may have been written by then.
    """
    if archive.name in FILES:
        raise ArtifactError(
            f"{one_line(str(archive))} is one file of a model.", f"Give its folder, {one_line(str(archive.parent))}."
        )
    try:
        with archive.open("rb") as file:
            if (size := os.fstat(file.fileno()).st_size) > max_bytes:
                raise FormatError(f"has {size:,} bytes, more than the {max_bytes:,} allowed")
            with _decompressed(file) as content:
                _require_tar(content)
                _unpack(_Source(content, max_bytes), directory, FILES if to_serve else _WANTED)
    except FormatError as fault:
        raise ArtifactError(
            f"{one_line(str(archive))} {fault}.",
            "Give the folder of a model or of a job, or a model.tar.gz, copied whole.",
        ) from None
    except OSError as error:
        done = "read" if error.filename == str(archive) else f"unpacked into {directory}"
        reason = error.strerror or str(error)
        raise ArtifactError(f"{one_line(str(archive))} cannot be {done}: {reason}.") from error


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


def _require_tar(content: IO[bytes] | gzip.GzipFile) -> None:
    """Raises FormatError if the content is known to be something else than a tar."""
    head = content.read(HEAD_BYTES)
    content.seek(0)
    kind = kind_of(head)
    if kind and kind is not TAR and not _is_header(head[: tarfile.BLOCKSIZE]):
        raise FormatError(f"is no packed model: it holds {kind.name}")


def _is_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except tarfile.HeaderError:
        return False
    return True


class _Source:
    """Reads the bytes of the tar in order, at most `max_bytes`."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._offset = 0

    def header(self) -> tarfile.TarInfo | None:
        """The header in the next 512 bytes, without a leading `./` in its name; None at the end of the tar."""
        position, block = self._offset, b"".join(self.pieces(tarfile.BLOCKSIZE))
        if not any(block):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except tarfile.HeaderError:
            header = None
        if header is None or header.size < 0:
            raise FormatError(
                f"is damaged: at byte {position:,} of the tar there is no header of a member: this is not a tar, or "
                "bytes were lost"
            )
        if header.issym() or header.islnk() or header.isdir() or header.isdev():
            header.size = 0  # no content follows, whatever the header says: some give the size of a link's target
        header.name = header.name.removeprefix("./")
        return header

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


def _unpack(source: _Source, directory: Path, wanted: Mapping[str, int]) -> None:
    names: list[str] = []
    for member in _members(source):
        if member.name not in wanted:
            source.skip(member.size)
        elif member.name in names:
            raise FormatError(f"has {member.name} twice")
        else:
            _write(member, source, directory, wanted[member.name])
        source.skip(-member.size % tarfile.BLOCKSIZE)
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


def _write(member: tarfile.TarInfo, source: _Source, directory: Path, limit: int) -> None:
    name = member.name
    if not member.isfile():
        raise FormatError(f"has a {name} that is a link or device: pack the file itself")
    if member.size > limit:
        raise FormatError(f"has a {name} of {member.size:,} bytes, more than the {limit:,} allowed")
    with (directory / name).open("xb") as target:  # x: neither overwrites a file nor follows a link
        for piece in source.pieces(member.size):
            target.write(piece)


def _members(source: _Source) -> Iterator[tarfile.TarInfo]:
    """The members, without extended headers. The caller must read or skip a member's content before the next."""
    for _ in range(_MAX_HEADERS):
        member = source.header()
        if member is None:
            return
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise FormatError(f"has the sparse file {member.name!r:.100}: pack without --sparse")
        if member.type in _EXTENSIONS:
            source.skip(member.size + -member.size % tarfile.BLOCKSIZE)
        else:
            yield member
    raise FormatError(f"has more than {_MAX_HEADERS:,} members")
