"""Reads objects in S3, or any server with its protocol, one by one, or downloads them as SageMaker's File mode does.

Credentials, region and endpoint (`AWS_ENDPOINT_URL_S3`) come from the environment, as in boto3.
"""

from __future__ import annotations

import io
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from tqdm import tqdm

from semseg.data.disk_cache import DiskCache
from semseg.data.files import MAX_FILE_BYTES, File
from semseg.data.s3_client import connect
from semseg.data.s3_errors import excerpt, is_transient, raised_by_s3, to_data_error
from semseg.data.threads import map_in_order
from semseg.errors import DataError, Stopped

Result = TypeVar("Result")

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_MAX_KEY_BYTES = 1024
MAX_OBJECTS = 1_000_000
MAX_PAGES = 10_000
_DOWNLOADS = 16
_CHUNK = 1 << 18
_LONGEST_PAUSE = 5.0


def parse_uri(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key`` into bucket and key, which may be empty and is taken literally. Raises DataError."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    fits = len(key.encode(errors="replace")) <= _MAX_KEY_BYTES
    if not uri.startswith("s3://") or not _BUCKET.fullmatch(bucket) or not fits:
        raise DataError(f"{excerpt(uri)} is not an address in S3.", "Write s3://bucket/key.")
    return bucket, key


def _unlimited(names: Collection[str]) -> dict[str, int]:
    return dict.fromkeys(names, sys.maxsize)


class ObjectStore:
    """Reads objects in S3, from any thread. A context manager: on leaving it the cache is removed.

    The client is created on first use. Transient errors (no connection, a stalled or broken transfer, status 429 or
    5xx, credentials that cannot be renewed) are retried until no data came for `patience` seconds. After that all
    further requests fail at once, as otherwise the waits for thousands of files would add up. With the default timeouts
    (in seconds) every error is raised at most 15 s later, even if S3's host name has several addresses, each of which
    is tried for `connect_timeout`.

    patience: may be changed at any time; it applies to later requests.
    stop: whether the job must end; then no further request is made, and transfers end at once.
    caching: whether files are kept on the local disk, as they will be read again.
    """

    def __init__(
        self,
        patience: float = 15,
        connect_timeout: float = 3,
        read_timeout: float = 5,
        stop: Callable[[], bool] = lambda: False,
        caching: bool = True,
    ) -> None:
        self.patience = patience
        self._stop = stop
        self._timeouts = connect_timeout, read_timeout
        self._cache = DiskCache()
        self._caching = caching
        self._lock = threading.Lock()
        self._s3_client: Any = None
        self._final_fault = ""

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._cache.close()
        with self._lock:
            if self._s3_client is not None:
                self._s3_client.close()

    def file(self, uri: str, name: str) -> File:
        """The object at ``s3://bucket/key``; `name` is its name for errors. Raises DataError for an invalid `uri`.

        Its bytes are fetched when they are read, and cached on disk while there is space.
        """
        bucket, key = parse_uri(uri)
        if not key:
            raise DataError(f"{excerpt(uri)} names a bucket, not an object.", "Write s3://bucket/key.")
        return _S3File(self, bucket, key, name)

    def read(self, bucket: str, key: str, name: str) -> bytes:
        """The bytes of an object. Raises DataError, and Stopped if they are not cached and `stop()` is true."""
        content = self._cache.get(f"{bucket}/{key}")
        if content is None:
            memory = io.BytesIO()
            self._fetch(bucket, key, name, memory, MAX_FILE_BYTES)
            content = memory.getvalue()
            if self._caching:
                self._cache.put(f"{bucket}/{key}", content)
        return content

    def download(
        self, uri: str, directory: Path, choose: Callable[[Collection[str]], Mapping[str, int]] = _unlimited
    ) -> int:
        """Write the object at `uri`, or else all objects below it, into `directory`; returns their number.

        A prefix is taken as a folder: ``.../train`` does not include ``.../train_annotation``. The files are named by
        the rest of their keys. choose: given these names, returns those of the files to download, with the most bytes
        of each. Raises DataError, also if there is no object or one has more bytes, what `choose` raises, and Stopped
        as soon as `stop()` is true. What is still being transferred on an error, or if a signal ends the wait, is
        broken off.
        """
        bucket, keys = self._below(uri)
        jobs = [(keys[name], directory / name, max_bytes) for name, max_bytes in choose(keys).items()]
        left = threading.Event()
        saving = map_in_order(partial(self._save, bucket, left), jobs, _DOWNLOADS, 4 * _DOWNLOADS, leave=left.set)
        with (
            tqdm(desc=f"Downloading {excerpt(uri)}", total=len(jobs), disable=None, leave=False) as bar,
            closing(saving) as saved,
        ):
            for _ in saved:
                bar.update()
        return len(jobs)

    def files(self, uri: str) -> dict[str, File]:
        """The object at `uri`, or else all below it, by the names that `download` would give them; none is fetched."""
        bucket, keys = self._below(uri)
        return {name: _S3File(self, bucket, key, excerpt(f"s3://{bucket}/{key}")) for name, key in keys.items()}

    def raise_if_stopped(self, left: threading.Event | None = None) -> None:
        """Raise Stopped if the job must end, or nobody waits for the result any more."""
        if self._stop() or (left and left.is_set()):
            raise Stopped

    def _below(self, uri: str) -> tuple[str, dict[str, str]]:
        """The bucket, and the keys of the objects at an address by the rest of their keys, safe names of files."""
        bucket, prefix = parse_uri(uri)
        keys = self._keys(bucket, prefix, excerpt(uri))
        if not keys:
            raise DataError(f"There is no object at {excerpt(uri)}.", "Check the address.")
        start = prefix.rfind("/") + 1 if keys == [prefix] else len(_folder(prefix))
        return bucket, {_safe(key[start:], f"s3://{bucket}/{key}"): key for key in keys}

    def _keys(self, bucket: str, prefix: str, name: str) -> list[str]:
        """[`prefix`] if it is the key of an object, else the keys below it without those of folders."""
        if prefix and not prefix.endswith("/"):
            first = self._retry(name, partial(_list, bucket, prefix, {"MaxKeys": 1}))
            if [entry["Key"] for entry in first.get("Contents", [])] == [prefix]:
                return [prefix]
        keys: list[str] = []
        following: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            page = self._retry(name, partial(_list, bucket, _folder(prefix), following))
            keys += [entry["Key"] for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
            if not page.get("NextContinuationToken"):
                return keys
            if len(keys) > MAX_OBJECTS:
                break
            following = {"ContinuationToken": page["NextContinuationToken"]}
        raise DataError(f"There are more than {MAX_OBJECTS} objects at {name}.", "Give a longer prefix.")

    def _save(self, bucket: str, left: threading.Event, job: tuple[str, Path, int]) -> None:
        key, path, max_bytes = job
        name = excerpt(f"s3://{bucket}/{key}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                self._fetch(bucket, key, name, file, max_bytes, left)
        except OSError as error:
            raise DataError(f"{name} cannot be written to {excerpt(str(path))}: {error.strerror}.") from error

    def _fetch(
        self, bucket: str, key: str, name: str, sink: IO[bytes], max_bytes: int, left: threading.Event | None = None
    ) -> None:
        """Write the bytes of an object to `sink`. Raises Stopped and DataError, the latter also beyond `max_bytes`."""
        self._client()  # creating the client takes a while, which must not count as waiting
        window = _RetryWindow(self.patience, left)

        def get(client: Any) -> None:
            sink.seek(0)
            sink.truncate()
            response = client.get_object(Bucket=bucket, Key=key)
            with closing(response["Body"]) as body:
                size = response.get("ContentLength") or 0
                while size <= max_bytes and (chunk := body.read(_CHUNK)):
                    self.raise_if_stopped(left)
                    sink.write(chunk)
                    size = max(size, sink.tell())
                    window.renew(sink.tell())
            if size > max_bytes:
                raise DataError(f"{name} has {size} bytes, more than the {max_bytes} allowed.")

        self._retry(name, get, window)

    def _retry(self, name: str, request: Callable[[Any], Result], window: _RetryWindow | None = None) -> Result:
        """Call `request` with the client, with retries, and return its result. Raises DataError and Stopped.

        botocore's own retries are off: they do not cover the body, and two layers would multiply the waiting time.
        """
        window = window or _RetryWindow(self.patience)
        pause = 0.25
        while not self._final_fault:
            self.raise_if_stopped(window.left)
            try:
                return request(self._client())
            except raised_by_s3() as error:
                if is_transient(error):
                    self.raise_if_stopped(window.left)
                if not is_transient(error) or not window.allows(pause):
                    fault = to_data_error(error, name)
                    if is_transient(error):
                        self._final_fault = fault.message.removeprefix(f"{name}: ")
                    raise fault from error
                time.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter, no cryptography
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise DataError(
            f"{name}: not requested, as S3 failed before. {self._final_fault}", "Start again when S3 responds."
        )

    def _client(self) -> Any:
        with self._lock:
            if self._s3_client is None:
                self._s3_client = connect(*self._timeouts)
            return self._s3_client


@dataclass(frozen=True, slots=True)
class _S3File:
    """An object in S3 as a `File`."""

    store: ObjectStore
    bucket: str
    key: str
    name: str

    def read(self) -> bytes:
        return self.store.read(self.bucket, self.key, self.name)


class _RetryWindow:
    """The time during which one transfer is retried: some seconds since it last received new bytes.

    left: set when nobody waits for the transfer any more.
    """

    def __init__(self, seconds: float, left: threading.Event | None = None) -> None:
        self.left = left
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._received = 0

    def renew(self, received: int) -> None:
        """Note how many bytes this attempt has received so far."""
        if received > self._received:
            self._received = received
            self._end = time.monotonic() + self._seconds

    def allows(self, pause: float) -> bool:
        """Whether another attempt may start after a pause of `pause` seconds."""
        return time.monotonic() + pause <= self._end


def _folder(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith("/") else f"{prefix}/"


def _list(bucket: str, prefix: str, options: dict[str, Any], client: Any) -> dict[str, Any]:
    page: dict[str, Any] = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **options)
    return page


def _safe(name: str, uri: str) -> str:
    """The name, which may have slashes, of a file below a directory. Raises DataError if it is unsafe."""
    if any(part in ("", ".", "..") or re.search("[\0-\x1f\x7f]", part) for part in name.split("/")):
        raise DataError(f"{excerpt(uri)} does not give a safe file name.", "Rename the object, or give another prefix.")
    return name
