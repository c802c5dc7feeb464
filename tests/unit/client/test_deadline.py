from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from semseg.client.http import HttpTransport
from semseg.client.sources import load
from semseg.errors import ServerError
from semseg.types import UInt8

MANY = 10**7


@contextmanager
def trickling(start: bytes, piece: bytes, secure: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str]]]:
    """The address of a server that sends this start and then pieces, one at a time; and how its responses ended.

    They end when the client leaves, or after three thousand pieces. secure: how it speaks HTTPS; None for HTTP.
    """
    ended: list[str] = []
    never = threading.Event()

    def serve() -> None:
        with suppress(OSError):  # it listens no longer
            while True:
                connection, _ = listening.accept()
                with connection:
                    ended.append(answer(connection))

    def answer(connection: socket.socket) -> str:
        try:
            with secure.wrap_socket(connection, server_side=True) if secure else connection as channel:
                channel.recv(1 << 16)
                channel.sendall(start)
                for _ in range(3000):
                    never.wait(0.01)
                    channel.sendall(piece)
        except OSError:
            return "the client has left"
        return "all pieces were sent"

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"{'https' if secure else 'http'}://127.0.0.1:{listening.getsockname()[1]}", ended
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(60)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 2", b"0"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n", b"x"),
    ],
    ids=["status", "header", "body", "chunks", "error"],
)
def test_a_response_that_trickles_is_an_error_in_time(
    image: UInt8, start: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece comes long before the time is over; the timeout is of the whole response."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with trickling(start, piece) as (url, ended):
        transport = HttpTransport(url)
        with pytest.raises(ServerError, match=r"did not answer within 0\.3 s"):
            transport.send(load(image), "image/png", 0.3, MANY)
        transport.close()
    assert ended == ["the client has left"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1, signed by itself, with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    (tmp_path / "certificate.pem").write_bytes(key.private_bytes(*plain) + built.public_bytes(Encoding.PEM))
    return tmp_path / "certificate.pem"


def test_so_it_is_over_https(image: UInt8, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(certificate)
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with trickling(start, b"x", secure) as (url, ended):
        transport = HttpTransport(url)
        with pytest.raises(ServerError, match=r"did not answer within 1 s"):
            transport.send(load(image), "image/png", 1, MANY)
        transport.close()
    assert ended == ["the client has left"]
