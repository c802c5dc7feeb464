from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import os
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semseg.artifact.archive import unpack
from semseg.errors import ArtifactError

Compress = Callable[[bytes], bytes]

BEST = "model_best.params"
MODEL = {
    BEST: os.urandom(2_500_000),  # several pieces, the last of them not full
    "model_algo-1": b"last",
    "hyperparams.json": b"{}",
    "classes.json": b'{"classes": []}',
}


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, size: int | None = None) -> bytes:
    """A member as tarfile writes it; `size`: the wrong size to put into the header."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    info.size = len(content) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def tar(*members: bytes) -> bytes:
    return b"".join(members) + bytes(1024)


SMALL = tar(member("code/serve.py", b"print()"), member(f"./{BEST}", b"weights"), member("hyperparams.json", b"{}"))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "model.tar.gz"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def fault(archive: Path, directory: Path, max_bytes: int = 1 << 30) -> str:
    with pytest.raises(ArtifactError) as caught:
        unpack(archive, directory, max_bytes)
    assert str(archive) in caught.value.message
    assert len(str(caught.value)) < 1024
    return caught.value.message


@pytest.mark.req("R47")
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_what_tarfile_packs_comes_back(
    archive: Path, directory: Path, form: int, prefix: str, compress: Compress
) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as packed:
        for name, content in {"model.onnx": b"strange", **MODEL, "later.txt": b"x" * 1000}.items():
            info = tarfile.TarInfo(prefix + name)
            info.size, info.mtime = len(content), 1736726232
            if form != tarfile.USTAR_FORMAT:  # these names need extended headers
                info.uname = "ü" * 40
                strange = tarfile.TarInfo("long/" * 40 + "näme")
                strange.size, strange.linkname = 700, "l" * 200
                packed.addfile(strange, io.BytesIO(bytes(700)))
            if form == tarfile.PAX_FORMAT:
                info.mtime = 1736726232.25
            packed.addfile(info, io.BytesIO(content))
    archive.write_bytes(compress(file.getvalue()))
    unpack(archive, directory)
    assert contents(directory) == MODEL


@pytest.mark.req("R47")
def test_what_the_tar_of_the_system_packs_comes_back(tmp_path: Path, archive: Path, directory: Path) -> None:
    (tmp_path / "model/code").mkdir(parents=True)
    for name, content in MODEL.items():
        (tmp_path / "model" / name).write_bytes(content)
        (tmp_path / "model/code" / name).write_bytes(b"of somebody else")
    (tmp_path / "model/link").symlink_to("model_algo-1")
    subprocess.run(["tar", "-C", tmp_path / "model", "-czf", archive, "."], timeout=300, check=True)
    unpack(archive, directory)
    assert contents(directory) == MODEL


def test_several_gzip_streams_in_a_row_are_one_archive(archive: Path, directory: Path) -> None:
    archive.write_bytes(b"".join(gzip.compress(SMALL[at : at + 700]) for at in range(0, len(SMALL), 700)))
    unpack(archive, directory)
    assert contents(directory) == {BEST: b"weights", "hyperparams.json": b"{}"}


def test_other_members_leave_no_trace_anywhere(tmp_path: Path, archive: Path, directory: Path) -> None:
    (tmp_path / "outside").mkdir()
    strangers = [
        *(
            member(name, b"evil")
            for name in ("../evil", "/tmp/evil", f"../{BEST}", f"/{BEST}", f".//{BEST}", f"a/{BEST}")
        ),
        *(member("evil", b"evil", kind) for kind in (tarfile.REGTYPE, tarfile.CONTTYPE, tarfile.AREGTYPE, b"?")),
        *(member("link", kind=kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)),
        *(member("node", kind=kind) for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)),
        member("outside", kind=tarfile.DIRTYPE),
        tarfile.TarInfo(f"{'deep' * 25}/model_algo-1").tobuf(tarfile.USTAR_FORMAT),  # the header's prefix and name
        member("long", b"model_algo-1\0", tarfile.GNUTYPE_LONGNAME),
        member("hyperparams.json", b"13 path=evil\n", tarfile.XHDTYPE),
        member("short", b"evil"),
        member("linked", size=1 << 40, kind=tarfile.LNKTYPE),  # old tars give the size of the link's target
    ]
    archive.write_bytes(gzip.compress(tar(*strangers, member(BEST, b"weights"))))
    before = sorted(tmp_path.rglob("*"))
    unpack(archive, directory)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, directory / BEST])
    assert contents(directory) == {BEST: b"weights"}


KINDS = {
    "symlink": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "FIFO": tarfile.FIFOTYPE,
    "unknown": b"?",
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_known_name_of_something_else_than_a_file_is_an_error(archive: Path, directory: Path, kind: bytes) -> None:
    archive.write_bytes(tar(member("model_algo-1", b"last"), member(f"./{BEST}", kind=kind)))
    assert f"has a {BEST} that is a link or device" in fault(archive, directory)
    assert not (directory / BEST).is_symlink()
    assert not (directory / BEST).exists()


def test_neither_a_file_nor_a_link_that_is_there_is_touched(tmp_path: Path, archive: Path, directory: Path) -> None:
    archive.write_bytes(SMALL)
    (directory / BEST).symlink_to(tmp_path / "outside")
    assert "File exists" in fault(archive, directory)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\x1f\x8b", "is truncated"),
        (b"{}", "is no packed model: it holds JSON text"),
        (b"PK\x03\x04" + bytes(1000), "is no packed model: it holds a zip file"),
        (bz2.compress(os.urandom(1000)), "is no packed model: it holds bzip2 data"),
        (gzip.compress(b"\x12\x01" + bytes(1000), mtime=0), "at byte 0 of the tar there is no header of a member"),
        (gzip.compress(SMALL, mtime=0)[:-8] + bytes(8), "is damaged: CRC check failed"),
        (gzip.compress(SMALL, mtime=0) + b"more", "is damaged: Not a gzipped file"),
        (b"\x1f\x8b" + bytes(100), "is damaged: Unknown compression method"),
        (bytes(10240), "is no packed model: it holds a run of zero bytes"),
        (tar(member("hyperparams.json", b"{}")), "at its top level, but 'hyperparams.json'"),
        (
            tar(member(f"model/{BEST}", b"weights")),
            "at its top level, but 'model/model_best.params': pack the files of the",
        ),
        (tar(member("a", b""), member("b/model.tar.gz", b"")), "but 'b/model.tar.gz', an archive inside it: give that"),
        (tar(*(member(f"\n{n}") for n in range(9))), r"but '\n0', '\n1', '\n2', '\n3', '\n4' and 4 more"),
        (tar(member(BEST), member(f"./{BEST}")), f"has {BEST} twice"),
        (tar(member("s", kind=tarfile.GNUTYPE_SPARSE)), "has the sparse file 's': pack without --sparse"),
        (tar(member(BEST), *[member("e")] * 10_000), "has more than 10,000 members"),
        (tar(member(BEST, size=(2 << 30) + 1)), "of 2,147,483,649 bytes, more than the 2,147,483,648 allowed"),
        (tar(member("classes.json", size=(1 << 20) + 1)), "of 1,048,577 bytes, more than the 1,048,576 allowed"),
        (tar(member("a", size=1 << 62)), "unpacks to more than the 1,073,741,824 bytes allowed"),
    ],
)
def test_a_bad_archive_is_named_with_its_fault(archive: Path, directory: Path, content: bytes, says: str) -> None:
    archive.write_bytes(content)
    assert says in fault(archive, directory)


@pytest.mark.parametrize("size", [b"-0000000001\0", b"\xff" * 12, b"0x000000010\0", b"8888\0"])
def test_a_size_that_is_no_number_is_an_error(archive: Path, directory: Path, size: bytes) -> None:
    header = bytearray(member(BEST))
    header[124:136] = size.ljust(12)
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    archive.write_bytes(tar(bytes(header)))
    assert "at byte 0 of the tar there is no header of a member" in fault(archive, directory)


def test_whatever_is_cut_off_is_missed(archive: Path, directory: Path) -> None:
    packed, end = gzip.compress(SMALL), len(SMALL) - 512
    for content in [packed[:at] for at in range(1, len(packed))] + [SMALL[:at] for at in range(38, end, 37)]:
        for path in directory.iterdir():
            path.unlink()
        archive.write_bytes(content)
        assert "is truncated" in fault(archive, directory)


def test_bytes_after_the_end_are_padding(archive: Path, directory: Path) -> None:
    archive.write_bytes(gzip.compress(SMALL + b"anything" * 1000))
    unpack(archive, directory)
    assert BEST in contents(directory)


ZEROS = bytes(32 << 20)
HIDDEN = {
    "a known member": [member(BEST, size=len(ZEROS)), ZEROS],
    "a stranger": [member("zeros", size=len(ZEROS)), ZEROS],
    "many strangers": [member("zeros", size=1 << 20), ZEROS[: 1 << 20]] * 32,
    "an extended header": [member("zeros", kind=tarfile.XHDTYPE, size=len(ZEROS)), ZEROS],
    "the padding": [tar(member(BEST)), ZEROS],
}


@pytest.mark.parametrize("parts", [pytest.param(parts, id=name) for name, parts in HIDDEN.items()])
def test_a_bomb_fills_neither_disk_nor_memory(archive: Path, directory: Path, parts: list[bytes]) -> None:
    with gzip.open(archive, "wb", compresslevel=1) as file:
        for part in parts:
            file.write(part)
    tracemalloc.start()
    try:
        assert "unpacks to more than the 20,971,520 bytes allowed" in fault(archive, directory, max_bytes=20 << 20)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
    assert sum(map(len, contents(directory).values())) <= 20 << 20


def test_an_extended_header_is_passed_without_being_kept(archive: Path, directory: Path) -> None:
    extended = member("extended", ZEROS, tarfile.XHDTYPE)
    archive.write_bytes(gzip.compress(tar(extended, member(BEST, b"weights")), compresslevel=1))
    tracemalloc.start()
    try:
        unpack(archive, directory)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


def test_an_archive_larger_than_what_it_may_hold_is_not_read(archive: Path, directory: Path) -> None:
    archive.write_bytes(SMALL)
    assert f"has {len(SMALL):,} bytes, more than the 2,000 allowed" in fault(archive, directory, max_bytes=2000)


def test_a_name_cannot_forge_a_line(tmp_path: Path, directory: Path) -> None:
    archive = tmp_path / "a\n#quality_metric.tar"
    archive.write_bytes(b"x")
    with pytest.raises(ArtifactError) as caught:
        unpack(archive, directory)
    assert "\n" not in str(caught.value)
    assert r"a\n#quality_metric.tar" in str(caught.value)


def test_an_archive_that_cannot_be_read_is_an_error(tmp_path: Path, directory: Path) -> None:
    for path, reason in ((tmp_path / "absent.tar", "No such file or directory"), (tmp_path, "Is a directory")):
        assert fault(path, directory) == f"{path} cannot be read: {reason}."


def test_a_full_disk_is_an_error_that_names_the_place(archive: Path, directory: Path) -> None:
    archive.write_bytes(tar(member(BEST, os.urandom(2 << 20))))
    limit = 'ulimit -f 1024; trap "" XFSZ; exec "$@"'  # on the size of files, in units of 512 bytes, like a full disk
    script = "import sys, pathlib, semseg.artifact.archive as a; a.unpack(*map(pathlib.Path, sys.argv[1:]))"
    command = ["sh", "-c", limit, "sh", sys.executable, "-c", script, str(archive), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert f"ArtifactError: {archive} cannot be unpacked into {directory}: File too large." in done.stderr


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=2000))
def test_random_bytes_are_an_artifact_error(archive: Path, directory: Path, content: bytes) -> None:
    for form in (content, gzip.compress(content), b"\x1f\x8b\x08" + content):
        archive.write_bytes(form)
        fault(archive, directory)
    assert not contents(directory)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_does_worse_than_an_artifact_error(tmp_path: Path, archive: Path, data: st.DataObject) -> None:
    """Damaged headers get a valid checksum, so that later checks are reached."""
    content = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        header = 512 * data.draw(st.integers(0, len(content) // 512 - 1), "block")
        at = header + data.draw(st.sampled_from([0, 2, 99, 124, 135, 156, 257, 345]) | st.integers(0, 500), "at")
        patch = data.draw(st.sampled_from([b"\0", b"/", b"7", b"\x80", b"\xff" * 12, b"5", b"x", b"S"]), "patch")
        content[at : at + len(patch)] = patch
        sum_ = sum(content[header : header + 148]) + sum(content[header + 156 : header + 512]) + 8 * 32
        content[header + 148 : header + 156] = b"%06o\0 " % sum_
    with TemporaryDirectory(dir=tmp_path) as scratch:
        directory = Path(scratch)
        archive.write_bytes(content)
        before = set(tmp_path.rglob("*"))
        with contextlib.suppress(ArtifactError):
            unpack(archive, directory, max_bytes=1 << 20)
        assert set(tmp_path.rglob("*")) - before == set(directory.iterdir())
        assert set(contents(directory)) <= set(MODEL)
