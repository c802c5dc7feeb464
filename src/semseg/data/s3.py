"""Objects in S3, or in whatever speaks its protocol: read one by one, or downloaded as File mode would.

Credentials, region and endpoint (`AWS_ENDPOINT_URL_S3`) come from the environment, as boto3 finds them.
"""

from __future__ import annotations

import io
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from tqdm import tqdm

from semseg.data.disk_cache import DiskCache
from semseg.data.files import MAX_FILE_BYTES, File
from semseg.data.s3_errors import may_pass, raised_by_s3, shown, told
from semseg.data.threads import map_in_order
from semseg.errors import DataError, Stopped

Result = TypeVar("Result")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_MAX_KEY_BYTES = 1024
_MAX_OBJECTS = 1_000_000
_MAX_PAGES = 10_000
_DOWNLOADS = 16
_CONNECTIONS = 32
_CHUNK = 1 << 18
_LONGEST_PAUSE = 5.0


def parse_uri(uri: str) -> tuple[str, str]:
    """Bucket and key, which may be empty, of ``s3://bucket/key``; the key is taken literally. Raises DataError."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    fits = len(key.encode(errors="replace")) <= _MAX_KEY_BYTES
    if not uri.startswith("s3://") or not _BUCKET.fullmatch(bucket) or not fits:
        raise DataError(f"{shown(uri)} is not an address in S3.", "Write s3://bucket/key.")
    return bucket, key


class ObjectStore:
    """S3, for all threads of the process. A context manager: on leaving it the cache is removed.

    The connection is made on first use. What may pass (no connection, a stalled or broken transfer, status 429 or
    5xx, credentials that cannot be renewed) is tried again until nothing came for `patience` seconds; then nothing is
    asked for any more, or the faults of thousands of files would add up. With these timeouts, in seconds, every fault
    ends within 15 s after that, also where S3's name has several addresses, each tried for `connect_timeout`.

    patience: may be changed at any time, and holds for what is asked for from then on.
    stop: whether the job was told to end; then nothing is asked for any more, and what is under way ends at once.
    """

    def __init__(
        self,
        patience: float = 15,
        connect_timeout: float = 3,
        read_timeout: float = 5,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.patience = patience
        self._stop = stop
        self._timeouts = connect_timeout, read_timeout
        self._cache = DiskCache()
        self._lock = threading.Lock()
        self._made: Any = None
        self._given_up = ""

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cache.close()
        with self._lock:
            if self._made is not None:
                self._made.close()

    def file(self, uri: str, name: str) -> File:
        """The object at ``s3://bucket/key``, which errors call `name`. Raises DataError if `uri` is none.

        Its bytes are fetched when read, and kept on the disk while there is room.
        """
        bucket, key = parse_uri(uri)
        if not key:
            raise DataError(f"{shown(uri)} names no object, but a bucket.", "Write s3://bucket/key.")
        return _S3File(self, bucket, key, name)

    def read(self, bucket: str, key: str, name: str) -> bytes:
        """The bytes of an object. Raises DataError, and Stopped where S3 had to be asked once `stop()` is true."""
        content = self._cache.get(f"{bucket}/{key}")
        if content is None:
            memory = io.BytesIO()
            self._fetch(bucket, key, name, memory, MAX_FILE_BYTES)
            content = memory.getvalue()
            self._cache.put(f"{bucket}/{key}", content)
        return content

    def download(self, uri: str, directory: Path) -> int:
        """Write the object at `uri`, or else all objects below it, into `directory`; gives their number.

        A slash is understood after a prefix: ``.../train`` does not bring ``.../train_annotation``. Without the
        prefix the keys are the names of the files. Raises DataError, also if there is no object, and Stopped as soon as
        `stop()` is true.
        """
        bucket, prefix = parse_uri(uri)
        keys = self._keys(bucket, prefix, shown(uri))
        if not keys:
            raise DataError(f"There is no object at {shown(uri)}.", "Check the address.")
        start = prefix.rfind("/") + 1 if keys == [prefix] else len(_folder(prefix))
        jobs = [(key, _inside(directory, key[start:], f"s3://{bucket}/{key}")) for key in keys]
        with (
            tqdm(desc=f"Downloading {shown(uri)}", total=len(jobs), disable=None, leave=False) as bar,
            closing(map_in_order(partial(self._save, bucket), jobs, _DOWNLOADS, 4 * _DOWNLOADS)) as saved,
        ):
            for _ in saved:
                bar.update()
        return len(jobs)

    def raise_if_stopped(self) -> None:
        """Raise Stopped if the job was told to end."""
        if self._stop():
            raise Stopped

    def _keys(self, bucket: str, prefix: str, name: str) -> list[str]:
        """`prefix` alone if it is the key of an object, else the keys below it but for those of mere folders."""
        if prefix and not prefix.endswith("/"):
            first = self._retry(name, partial(_list, bucket, prefix, {"MaxKeys": 1}))
            if [entry["Key"] for entry in first.get("Contents", [])] == [prefix]:
                return [prefix]
        keys: list[str] = []
        following: dict[str, Any] = {}
        for _ in range(_MAX_PAGES):
            page = self._retry(name, partial(_list, bucket, _folder(prefix), following))
            keys += [entry["Key"] for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
            if not page.get("NextContinuationToken"):
                return keys
            if len(keys) > _MAX_OBJECTS:
                break
            following = {"ContinuationToken": page["NextContinuationToken"]}
        raise DataError(f"There are more than {_MAX_OBJECTS} objects at {name}.", "Give a narrower prefix.")

    def _save(self, bucket: str, job: tuple[str, Path]) -> None:
        key, path = job
        name = shown(f"s3://{bucket}/{key}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                self._fetch(bucket, key, name, file, sys.maxsize)
        except OSError as error:
            raise DataError(f"{name} cannot be written to {shown(str(path))}: {error.strerror}.") from error

    def _fetch(self, bucket: str, key: str, name: str, sink: IO[bytes], max_bytes: int) -> None:
        """Write the bytes of an object to `sink`. Raises Stopped, and DataError, also for more than `max_bytes`."""
        self._client()  # making it takes a while, which is no fault
        patience = _Patience(self.patience)

        def get(client: Any) -> None:
            sink.seek(0)
            sink.truncate()
            response = client.get_object(Bucket=bucket, Key=key)
            with closing(response["Body"]) as body:
                size = response.get("ContentLength") or 0
                while size <= max_bytes and (chunk := body.read(_CHUNK)):
                    self.raise_if_stopped()
                    sink.write(chunk)
                    size = max(size, sink.tell())
                    patience.renew(sink.tell())
            if size > max_bytes:
                raise DataError(f"{name} has {size} bytes, more than the {max_bytes} allowed.")

        self._retry(name, get, patience)

    def _retry(self, name: str, request: Callable[[Any], Result], patience: _Patience | None = None) -> Result:
        """What `request` gives when called with the client. Raises DataError and Stopped.

        botocore's own retries are off: they know nothing of the body, and two layers would multiply the waiting.
        """
        patience = patience or _Patience(self.patience)
        pause = 0.25
        while not self._given_up:
            self.raise_if_stopped()
            try:
                return request(self._client())
            except raised_by_s3() as error:
                if may_pass(error):
                    self.raise_if_stopped()
                if not may_pass(error) or not patience.lasts(pause):
                    fault = told(error, name)
                    if may_pass(error):
                        self._given_up = fault.message.removeprefix(f"{name}: ")
                    raise fault from error
                time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - it keeps threads from asking in step
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise DataError(f"{name}: not asked for any more. {self._given_up}", "Start again when S3 answers.")

    def _client(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = _connect(*self._timeouts)
            return self._made


@dataclass(frozen=True, slots=True)
class _S3File:
    """An object as a file of a data set."""

    store: ObjectStore
    bucket: str
    key: str
    name: str

    def read(self) -> bytes:
        return self.store.read(self.bucket, self.key, self.name)


class _Patience:
    """How long the faults of one transfer are borne: for some seconds since bytes came that had never come before."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._received = 0

    def renew(self, received: int) -> None:
        """Note how many bytes this attempt has received so far."""
        if received > self._received:
            self._received = received
            self._end = time.monotonic() + self._seconds

    def lasts(self, pause: float) -> bool:
        """Whether another attempt may begin after a pause."""
        return time.monotonic() + pause <= self._end


def _connect(connect_timeout: float, read_timeout: float) -> Any:
    """A client of boto3. Raises DataError."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        max_pool_connections=_CONNECTIONS,
        retries={"total_max_attempts": 1},
    )
    try:
        session = boto3.session.Session()
        region = os.environ.get("AWS_REGION") or session.region_name or "us-east-1"
        return session.client("s3", region_name=region, config=config)
    except (BotoCoreError, ValueError) as error:
        raise DataError(f"S3 cannot be asked: {shown(str(error))}.", "Check the variables AWS_*.") from error


def _folder(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith("/") else f"{prefix}/"


def _list(bucket: str, prefix: str, options: dict[str, Any], client: Any) -> dict[str, Any]:
    page: dict[str, Any] = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **options)
    return page


def _inside(directory: Path, name: str, uri: str) -> Path:
    """The path of a file called `name`, which may hold slashes, below a directory. Raises DataError if it leads out."""
    if any(part in ("", ".", "..") or re.search("[\0-\x1f\x7f]", part) for part in name.split("/")):
        raise DataError(f"{shown(uri)} would be no sound file name.", "Rename the object, or give another prefix.")
    return directory / name
