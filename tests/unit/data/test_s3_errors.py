from __future__ import annotations

import base64
import itertools
import json
import os
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from semseg.data import s3
from semseg.data.s3 import ObjectStore
from semseg.errors import DataError, Stopped

NAME = "line 3 of train/x.manifest: source-ref s3://bucket/a.jpg"
Reply = Callable[[BaseHTTPRequestHandler], None]


class Stub:
    """A server on a real socket that answers with the given replies in turn, and for ever with the last one."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[dict[str, str]] = []
        self.over = threading.Event()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub.requests.append(dict(self.headers))
                stub.replies[min(len(stub.requests), len(stub.replies)) - 1](self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def stall(self, begun: bytes) -> Reply:
        """The beginning of an answer, and no more until the test is over."""

        def reply(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(begun)
            self.over.wait(60)
            handler.close_connection = True

        return reply


def answer(body: bytes, status: int = 200, declared: int | None = None, **headers: str) -> Reply:
    """A whole answer, unless it has more or fewer bytes than it declares."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body) if declared is None else declared))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = declared is not None

    return reply


def refusal(status: int, code: str, message: str = "No") -> Reply:
    return answer(f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode(), status)


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"this is not HTTP\r\n\r\n")
    handler.close_connection = True


def chunked(handler: BaseHTTPRequestHandler) -> None:
    """Six bytes of undeclared length."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"6\r\n123456\r\n0\r\n\r\n")


@pytest.fixture(scope="module")
def server() -> Iterator[Stub]:
    stub = Stub()
    stub.thread.start()
    yield stub
    stub.server.shutdown()
    stub.server.server_close()
    stub.thread.join(60)


@pytest.fixture
def stub(server: Stub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A server that knows of no earlier test; stores find it by the environment."""
    server.replies, server.requests, server.over = [], [], threading.Event()
    host, port = server.server.server_address[:2]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host!s}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    yield server
    server.over.set()


@pytest.fixture(scope="module")
def steady(server: Stub) -> Iterator[ObjectStore]:
    """A store as in production, for many tests."""
    with ObjectStore() as store:
        yield store


@pytest.fixture
def hasty(server: Stub) -> Iterator[ObjectStore]:
    """A store that soon gives up."""
    with ObjectStore(patience=2) as store:
        yield store


@pytest.fixture
def restless(server: Stub) -> Iterator[ObjectStore]:
    """A store that does not wait for an answer for long, but asks again a few times."""
    with ObjectStore(patience=3, read_timeout=0.3) as store:
        yield store


CUT = answer(b"half", declared=8)
CHECKSUM = base64.b64encode(zlib.crc32(b"whole").to_bytes(4, "big")).decode()
STALLED_BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"


class TestFaults:
    keys = itertools.count()

    def read(self, store: ObjectStore) -> bytes:
        """What another object holds: none of them is in the cache."""
        return store.file(f"s3://bucket/{next(self.keys)}", NAME).read()

    @pytest.mark.parametrize(
        "fault",
        [
            refusal(503, "SlowDown"),
            refusal(500, "InternalError"),
            answer(b"<html>busy</html>", 502),
            refusal(429, "TooManyRequests"),
            refusal(400, "RequestTimeout"),
            CUT,
            answer(b"who", x_amz_checksum_crc32=CHECKSUM),
            garbage,
        ],
        ids=["503", "500", "502", "429", "timeout", "cut", "checksum", "garbage"],
    )
    def test_what_passes_is_not_noticed(self, stub: Stub, steady: ObjectStore, fault: Reply) -> None:
        stub.replies = [fault, answer(b"whole", x_amz_checksum_crc32=CHECKSUM)]
        assert self.read(steady) == b"whole"
        assert len(stub.requests) == 2

    @pytest.mark.parametrize("begun", [b"", STALLED_BODY], ids=["header", "body"])
    def test_a_stall_that_passes_is_not_noticed(self, stub: Stub, restless: ObjectStore, begun: bytes) -> None:
        stub.replies = [stub.stall(begun), answer(b"whole")]
        assert self.read(restless) == b"whole"

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (refusal(503, "SlowDown", "Ask less."), "S3 answers 503 SlowDown: Ask less."),
            (CUT, "The transfer was cut short: 4 read, but total bytes expected is 8"),
            (garbage, "Connection was closed before we received a valid response"),
        ],
        ids=["503", "cut", "garbage"],
    )
    def test_what_stays_is_an_error_in_the_end(self, stub: Stub, hasty: ObjectStore, fault: Reply, said: str) -> None:
        stub.replies = [fault]
        with pytest.raises(DataError, match=f"^{NAME}: {said}"):
            self.read(hasty)
        assert len(stub.requests) > 1

    @pytest.mark.parametrize("begun", [b"", STALLED_BODY], ids=["header", "body"])
    def test_a_stall_that_stays_is_an_error(self, stub: Stub, restless: ObjectStore, begun: bytes) -> None:
        stub.replies = [stub.stall(begun)]
        with pytest.raises(DataError, match=f"^{NAME}: S3 has stopped answering"):
            self.read(restless)

    def test_after_a_fault_that_stays_nothing_is_asked_for(self, stub: Stub, hasty: ObjectStore) -> None:
        """Or thousands of files would wait in turn, each for as long."""
        stub.replies = [refusal(503, "SlowDown")]
        with pytest.raises(DataError, match="S3 answers 503"):
            self.read(hasty)
        asked = len(stub.requests)
        for _ in range(3):
            with pytest.raises(
                DataError, match=f"^{NAME}: not requested, as S3 failed before. S3 answers 503 SlowDown"
            ):
                self.read(hasty)
        assert len(stub.requests) == asked

    @pytest.mark.parametrize(
        ("status", "code", "hint"),
        [
            (403, "AccessDenied", "s3:GetObject"),
            (403, "SignatureDoesNotMatch", "Renew the credentials"),
            (400, "ExpiredToken", "Renew the credentials"),
            (404, "NoSuchKey", "Check bucket and key"),
        ],
    )
    def test_refusals_are_final(self, stub: Stub, steady: ObjectStore, status: int, code: str, hint: str) -> None:
        stub.replies = [refusal(status, code, "No way.")]
        with pytest.raises(DataError) as raised:
            self.read(steady)
        assert raised.value.message == f"{NAME}: S3 answers {status} {code}: No way."
        assert hint in raised.value.hint
        assert len(stub.requests) == 1

    def test_an_answer_cannot_forge_lines_or_flood_them(self, stub: Stub, steady: ObjectStore) -> None:
        stub.replies = [refusal(403, "Access", "a\nERROR " + "x" * 10_000)]
        with pytest.raises(DataError) as raised:
            self.read(steady)
        assert raised.value.message.isprintable()
        assert len(raised.value.message) < 1000

    @pytest.mark.parametrize("reply", [answer(b"123456"), chunked, answer(b"", declared=10**12)])
    def test_too_many_bytes_are_not_read(
        self, stub: Stub, steady: ObjectStore, reply: Reply, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3, "MAX_FILE_BYTES", 5)
        stub.replies = [reply]
        with pytest.raises(DataError, match=r"has [0-9]+ bytes, more than the 5 allowed"):
            self.read(steady)
        assert len(stub.requests) == 1

    def test_control_characters_in_keys_are_refused(self, stub: Stub, steady: ObjectStore, tmp_path: Path) -> None:
        key = "<EncodingType>url</EncodingType><Contents><Key>data/a%0Ab</Key></Contents>"
        stub.replies = [answer(f"<ListBucketResult>{key}</ListBucketResult>".encode())]
        with pytest.raises(DataError, match="does not give a safe file name") as raised:
            steady.download("s3://bucket/data/", tmp_path)
        assert raised.value.message.isprintable()

    def test_a_download_ends_with_the_first_error(self, stub: Stub, steady: ObjectStore, tmp_path: Path) -> None:
        listing = "".join(f"<Contents><Key>data/{number}</Key></Contents>" for number in range(9))
        stub.replies = [
            answer(f"<ListBucketResult>{listing}</ListBucketResult>".encode()),
            refusal(403, "AccessDenied"),
        ]
        with pytest.raises(DataError, match=r"^s3://bucket/data/0: S3 answers 403 AccessDenied"):
            steady.download("s3://bucket/data/", tmp_path)

    def test_a_download_that_fails_breaks_off_what_comes(self, stub: Stub, steady: ObjectStore, tmp_path: Path) -> None:
        listing = "".join(f"<Contents><Key>data/{number}</Key></Contents>" for number in range(2))
        begun, left = threading.Event(), threading.Event()

        def endless_or_refused(handler: BaseHTTPRequestHandler) -> None:
            if handler.path.endswith("/0"):
                assert begun.wait(60)
                refusal(403, "AccessDenied")(handler)
                return
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
            handler.close_connection = True
            begun.set()
            try:
                while not stub.over.wait(0.01):
                    handler.wfile.write(bytes(300_000))
            except OSError:
                left.set()

        stub.replies = [answer(f"<ListBucketResult>{listing}</ListBucketResult>".encode()), endless_or_refused]
        ended = threading.Timer(60, stub.over.set)  # an endless transfer would be awaited
        ended.start()
        try:
            with pytest.raises(DataError, match=r"^s3://bucket/data/0: S3 answers 403 AccessDenied"):
                steady.download("s3://bucket/data/", tmp_path)
            assert left.wait(60)
        finally:
            ended.cancel()

    def test_an_endless_list_is_not_read_for_ever(
        self, stub: Stub, steady: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3, "MAX_PAGES", 3)
        page = b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"
        stub.replies = [answer(page + b"</ListBucketResult>")]
        with pytest.raises(DataError, match="more than 1000000 objects"):
            steady.download("s3://bucket/data/", tmp_path)
        assert len(stub.requests) == 3


class TestPatience:
    """Of the check of the data, and, longer, of the training after it."""

    FAULTS = [refusal(503, "SlowDown")] * 3  # the pauses between the answers are 0.8 s at least

    @pytest.fixture
    def impatient(self, server: Stub) -> Iterator[ObjectStore]:
        with ObjectStore(patience=0.3) as store:
            yield store

    def test_it_is_short_at_first(self, stub: Stub, impatient: ObjectStore) -> None:
        stub.replies = [*self.FAULTS, answer(b"whole")]
        with pytest.raises(DataError, match="S3 answers 503 SlowDown"):
            impatient.file("s3://bucket/a.jpg", NAME).read()

    def test_it_may_be_lengthened(self, stub: Stub, impatient: ObjectStore) -> None:
        stub.replies = [*self.FAULTS, answer(b"whole")]
        impatient.patience = 60
        assert impatient.file("s3://bucket/a.jpg", NAME).read() == b"whole"

    def test_pauses_do_not_grow_with_it(
        self, stub: Stub, impatient: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses: list[float] = []
        monkeypatch.setattr("semseg.data.s3.time.sleep", pauses.append)
        stub.replies = [*[refusal(503, "SlowDown")] * 20, answer(b"whole")]
        impatient.patience = 600
        assert impatient.file("s3://bucket/a.jpg", NAME).read() == b"whole"
        assert len(pauses) == 20
        assert max(pauses) <= 5

    def test_a_job_that_is_to_stop_does_not_wait(self, stub: Stub) -> None:
        stop = threading.Event()

        def busy(handler: BaseHTTPRequestHandler) -> None:
            stop.set()
            refusal(503, "SlowDown")(handler)

        stub.replies = [busy]
        with ObjectStore(patience=600, stop=stop.is_set) as store, pytest.raises(Stopped):
            store.file("s3://bucket/a.jpg", NAME).read()
        assert len(stub.requests) == 1

    def test_a_job_that_is_to_stop_asks_for_nothing(self, stub: Stub, tmp_path: Path) -> None:
        stub.replies = [answer(b"whole")]
        with ObjectStore(stop=lambda: True) as store:
            with pytest.raises(Stopped):
                store.file("s3://bucket/a.jpg", NAME).read()
            with pytest.raises(Stopped):
                store.download("s3://bucket/data/", tmp_path)
        assert not stub.requests

    @pytest.mark.parametrize("whole", [False, True], ids=["read", "download"])
    def test_a_job_that_is_to_stop_breaks_off_what_comes(self, stub: Stub, tmp_path: Path, whole: bool) -> None:
        """An object whose bytes keep coming, until the reader goes."""
        stop, left = threading.Event(), threading.Event()

        def endless(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
            handler.close_connection = True
            stop.set()
            try:
                for _ in range(100):
                    handler.wfile.write(bytes(1_000_000))
            except OSError:
                left.set()

        listed = b"<ListBucketResult><Contents><Key>data/a</Key></Contents></ListBucketResult>"
        stub.replies = [*[answer(listed)] * whole, endless]
        with ObjectStore(stop=stop.is_set) as store:
            read = store.file("s3://bucket/a.jpg", NAME).read
            with pytest.raises(Stopped):
                store.download("s3://bucket/data/", tmp_path) if whole else read()
        assert left.wait(30)


class TestCredentials:
    """Those of a role, which the platform's server gives out for a while: the stub, as S3 is."""

    @staticmethod
    def given(key: str, minutes: int) -> Reply:
        expiration = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
        body = {"AccessKeyId": key, "SecretAccessKey": "b", "Token": "c", "Expiration": expiration}
        return answer(json.dumps(body).encode())

    @pytest.fixture(autouse=True)
    def _role(self, stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{os.environ['AWS_ENDPOINT_URL_S3']}/role")
        monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)

    @pytest.fixture(autouse=True)
    def _clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only the store's pauses take time: on a busy machine a single renewal could use up its patience."""
        now = 0.0

        def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds

        monkeypatch.setattr("semseg.data.s3.time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))

    def test_a_renewal_that_fails_for_a_while_is_not_noticed(self, stub: Stub, store: ObjectStore) -> None:
        """botocore asks three times, then it gives up."""
        stub.replies = [self.given("old", 1), *[answer(b"busy", 500)] * 3, self.given("new", 60), answer(b"whole")]
        assert store.file("s3://bucket/a.jpg", NAME).read() == b"whole"
        assert "Credential=new/" in stub.requests[-1]["Authorization"]

    def test_a_renewal_that_never_comes_is_an_error(self, stub: Stub, store: ObjectStore) -> None:
        stub.replies = [self.given("old", 1), answer(b"busy", 500)]
        with pytest.raises(DataError, match=f"^{NAME}: Error when retrieving credentials") as raised:
            store.file("s3://bucket/a.jpg", NAME).read()
        assert "role" in raised.value.hint
        assert len(stub.requests) > 4


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    """A store for one test."""
    with ObjectStore(patience=0.5) as store:
        yield store


class TestSurroundings:
    def test_connection_refused(self, stub: Stub, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        with pytest.raises(DataError, match=f"^{NAME}: Could not connect") as raised:
            store.file("s3://bucket/a.jpg", NAME).read()
        assert "AWS_ENDPOINT_URL_S3" in raised.value.hint

    def test_an_endpoint_that_is_none(self, stub: Stub, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
        with pytest.raises(DataError, match="Invalid endpoint: nonsense"):
            store.file("s3://bucket/a.jpg", NAME).read()

    def test_no_credentials(
        self, stub: Stub, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(DataError, match=f"^{NAME}: Unable to locate credentials") as raised:
            store.file("s3://bucket/a.jpg", NAME).read()
        assert "role" in raised.value.hint
        assert not stub.requests

    @pytest.mark.parametrize(
        ("variables", "region"),
        [
            ({}, "us-east-1"),
            ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
            ({"AWS_DEFAULT_REGION": "eu-south-1"}, "eu-south-1"),
        ],
    )
    def test_the_region(
        self, stub: Stub, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
    ) -> None:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        stub.replies = [answer(b"bytes")]
        store.file("s3://bucket/a.jpg", NAME).read()
        assert f"/{region}/s3/aws4_request" in stub.requests[0]["Authorization"]

    def test_an_unused_store_connects_to_nothing(self, stub: Stub, temporary: Path) -> None:
        with ObjectStore() as store:
            store.file("s3://bucket/a.jpg", NAME)
        assert not stub.requests
        assert not list(temporary.iterdir())
