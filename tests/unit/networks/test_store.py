from __future__ import annotations

import hashlib
import io
import socket
import struct
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from semseg.errors import WeightsError
from semseg.networks.store import (
    StoredFile,
    fallback_folder,
    fault,
    fetch,
    models_folder,
    writable_folder,
    writing_file,
)

CONTENT = bytes(range(256)) * 400
SHA1 = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
NAME = "resnet50_v1s-12345678.params"
LIMIT = 200_000
ENOUGH = 60


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD = packed((NAME, CONTENT))


@pytest.fixture
def file(store: Any) -> StoredFile:
    return StoredFile(NAME, SHA1, f"{store.url}/{NAME}.zip")


def test_a_file_is_fetched_whole_and_alone(store: Any, file: StoredFile, tmp_path: Path) -> None:
    store.has(GOOD)
    path = fetch(file, tmp_path / "a/models", ENOUGH)
    assert path == tmp_path / "a/models" / NAME
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert fault(path, SHA1) == ""
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode  # in a container image, others read root's file


def cut(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(GOOD)))
    request.end_headers()
    request.wfile.write(GOOD[:-30])


def endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    for _ in range(10 * LIMIT // 1000):
        try:
            request.wfile.write(bytes(1000))
        except ConnectionError:
            return


def lying(size: int) -> bytes:
    """A zip that declares another size of its member's content."""
    return GOOD.replace(struct.pack("<I", len(CONTENT)), struct.pack("<I", size))


def encrypted() -> bytes:
    """A zip whose member is marked as encrypted, in the local header and in the directory."""
    flagged = bytearray(GOOD)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        flagged[GOOD.index(signature) + offset] |= 1
    return bytes(flagged)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda request: request.send_error(403), "answers 403 Forbidden"),
        (cut, "failed: IncompleteRead"),
        (endless, "has more than the 200,000 bytes allowed"),
        (b"", "is a damaged zip"),
        (GOOD[:-30], "is a damaged zip"),
        (GOOD[:100] + bytes(10) + GOOD[110:], "is a damaged zip"),
        (lying(10), "is a damaged zip"),
        (encrypted(), "is a damaged zip"),
        (lying(LIMIT + 1), "unpacks to 200,001 bytes, more than the 200,000 allowed"),
        (packed((NAME, bytes(100 * LIMIT))), "unpacks to 20,000,000 bytes"),
        (packed((NAME, CONTENT + b"1")), f"holds a {NAME} with the SHA-1"),
        (packed(("other.params", CONTENT)), f"is not a zip with the one member {NAME}"),
        (packed((f"../{NAME}", CONTENT)), f"is not a zip with the one member {NAME}"),
        (packed((NAME, CONTENT), method=zipfile.ZIP_LZMA), f"is not a zip with the one member {NAME}"),
    ],
)
def test_what_is_no_such_file_leaves_no_trace_and_is_not_asked_for_again(
    store: Any,
    file: StoredFile,
    tmp_path: Path,
    answer: bytes | Callable[[BaseHTTPRequestHandler], None],
    reason: str,
) -> None:
    if isinstance(answer, bytes):
        store.has(answer)
    else:
        store.answer = answer
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / NAME).write_bytes(b"earlier")
    with pytest.raises(WeightsError) as caught:
        fetch(file, folder, ENOUGH, max_bytes=LIMIT)
    assert f"{file.url} {reason}" in caught.value.message
    assert store.asked == [f"/{NAME}.zip"]
    assert list(folder.iterdir()) == [folder / NAME]
    assert (folder / NAME).read_bytes() == b"earlier"


def test_a_zip_with_the_file_twice_is_refused(store: Any, file: StoredFile, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        store.has(packed((NAME, CONTENT), (NAME, CONTENT)))
    with pytest.raises(WeightsError, match="is not a zip with the one member"):
        fetch(file, tmp_path, ENOUGH)


def test_a_server_that_trickles_is_given_up(store: Any, file: StoredFile, tmp_path: Path) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(GOOD)))
        request.end_headers()
        while not store.closing.wait(0.01):
            request.wfile.write(b"P")

    store.answer = trickle
    with pytest.raises(WeightsError, match=r"took longer than 0\.1 seconds"):
        fetch(file, tmp_path / "models", 0.1)
    assert not list((tmp_path / "models").iterdir())


def test_a_server_that_says_nothing_is_given_up(store: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # connects, but nothing accepts
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/{NAME}.zip"
        with pytest.raises(WeightsError, match=r"took longer than 0\.1 seconds"):
            fetch(StoredFile(NAME, SHA1, url), tmp_path / "models", 0.1)


def test_an_absent_server_is_a_short_error(store: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/{NAME}.zip"
    with pytest.raises(WeightsError, match=f"{url} failed: ConnectionRefusedError") as caught:
        fetch(StoredFile(NAME, SHA1, url), tmp_path, ENOUGH)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("value", "asked"), [("1", 0), ("yes", 0), ("0", 1), ("", 1)])
def test_offline_nothing_is_asked(
    store: Any, file: StoredFile, monkeypatch: pytest.MonkeyPatch, value: str, asked: int
) -> None:
    monkeypatch.setenv("SEMSEG_OFFLINE", value)
    with pytest.raises(WeightsError, match="answers 404" if asked else "SEMSEG_OFFLINE is set"):
        fetch(file, None, ENOUGH)
    assert len(store.asked) == asked
    assert models_folder().exists() == bool(asked)


def test_a_folder_that_cannot_be_made_is_named(store: Any, file: StoredFile, tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    with pytest.raises(WeightsError, match=f"{tmp_path}/models/{NAME} cannot be written: File exists"):
        fetch(file, tmp_path / "models", ENOUGH)


def test_a_full_disk_is_an_error_of_the_weights_with_its_way_out(tmp_path: Path) -> None:
    path = tmp_path / "models" / NAME

    def fill() -> None:
        with writing_file(path, "Elsewhere there is room.") as temporary:
            temporary.symlink_to("/dev/full")  # fails as a full disk does
            temporary.write_text("new")

    with pytest.raises(WeightsError) as caught:
        fill()
    assert caught.value.message == f"{path} cannot be written: No space left on device."
    assert caught.value.hint == "Elsewhere there is room."
    assert not list(path.parent.iterdir())


def test_several_may_place_a_file_at_once(tmp_path: Path) -> None:
    with writing_file(tmp_path / NAME) as first, writing_file(tmp_path / NAME) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / NAME).read_text() == "first"
    assert list(tmp_path.iterdir()) == [tmp_path / NAME]


def test_the_models_folder_is_made_where_it_can_be(store: Any) -> None:
    folder = writable_folder()
    assert folder == models_folder()
    assert folder.is_dir()


@pytest.mark.parametrize("already", [False, True])
def test_elsewhere_a_folder_of_the_users_own_takes_its_place(store: Any, tmp_path: Path, already: bool) -> None:
    (tmp_path / "mxnet").touch()
    if already:
        writable_folder()
    folder = writable_folder()
    assert folder == fallback_folder()
    assert folder.is_relative_to(tmp_path / "temporary")
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trap", ["file", "link", "open to others"])
def test_a_fallback_folder_that_others_may_have_laid_is_not_used(store: Any, tmp_path: Path, trap: str) -> None:
    (tmp_path / "mxnet").touch()
    fallback = fallback_folder()
    if trap == "file":
        fallback.touch()
    elif trap == "link":
        fallback.symlink_to(tmp_path / "temporary", target_is_directory=True)
    else:
        fallback.mkdir()
        fallback.chmod(0o777)
    with pytest.raises(WeightsError, match="is not a folder of this user alone"):
        writable_folder()


def test_without_mxnet_home_the_file_is_sought_in_the_users_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MXNET_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert models_folder() == Path("/home/somebody/.mxnet/models")
