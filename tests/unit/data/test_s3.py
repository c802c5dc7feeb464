from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from semseg.data import s3
from semseg.data.s3 import ObjectStore, parse_uri
from semseg.data.threads import map_in_order
from semseg.errors import DataError

NAME = "line 3 of train/x.manifest: source-ref s3://bucket/a.jpg"


class TestAddresses:
    @pytest.mark.parametrize(
        ("uri", "bucket", "key"),
        [
            ("s3://bucket/key", "bucket", "key"),
            ("s3://my.bucket-1/a/b c+%20ü?#.jpg", "my.bucket-1", "a/b c+%20ü?#.jpg"),
            ("s3://bucket//a/../b", "bucket", "/a/../b"),
            ("s3://bucket/", "bucket", ""),
            ("s3://bucket", "bucket", ""),
        ],
    )
    def test_bucket_and_key(self, uri: str, bucket: str, key: str) -> None:
        assert parse_uri(uri) == (bucket, key)

    @pytest.mark.parametrize(
        "uri",
        [
            "",
            "bucket/key",
            "https://bucket/key",
            "S3://bucket/key",
            "s3:/bucket/key",
            "s3:///key",
            "s3://b/key",
            "s3://bu cket/key",
            "s3://user@bucket/key",
            "s3://bucket:80/key",
            f"s3://bucket/{'ü' * 513}",
        ],
    )
    def test_other_texts_are_refused(self, uri: str) -> None:
        with pytest.raises(DataError, match="is not an address in S3"):
            parse_uri(uri)

    def test_a_bucket_is_no_file(self) -> None:
        with ObjectStore() as store, pytest.raises(DataError, match="names a bucket, not an object"):
            store.file("s3://bucket/", NAME)


@pytest.fixture(scope="module")
def patient() -> Iterator[ObjectStore]:
    """A store for many tests, which connects when it is first used."""
    with ObjectStore() as store:
        yield store


class TestReading:
    @pytest.mark.parametrize("key", ["a/b.jpg", "a b+c%20.png", "图片/ü.png", "a//../b", "?x=1&y#z"])
    def test_an_object_has_its_bytes_whatever_its_key(self, bucket: Any, patient: ObjectStore, key: str) -> None:
        bucket.put_object(Key=key, Body=b"bytes")
        file = patient.file(f"s3://bucket/{key}", NAME)
        assert (file.name, file.read()) == (NAME, b"bytes")

    def test_large_and_empty_objects(self, bucket: Any, patient: ObjectStore) -> None:
        large = bytes(range(256)) * 4000
        bucket.put_object(Key="large", Body=large)
        bucket.put_object(Key="empty", Body=b"")
        assert patient.file("s3://bucket/large", NAME).read() == large
        assert patient.file("s3://bucket/empty", NAME).read() == b""

    def test_many_threads_may_read(self, bucket: Any, patient: ObjectStore) -> None:
        for number in range(20):
            bucket.put_object(Key=str(number), Body=str(number).encode())
        files = [patient.file(f"s3://bucket/{number}", NAME) for number in range(20)]
        with closing(map_in_order(lambda file: file.read(), files, 16, 64)) as contents:
            assert [int(content) for content in contents] == list(range(20))

    @pytest.mark.parametrize(("uri", "code"), [("s3://bucket/a", "NoSuchKey"), ("s3://nobucket/a", "NoSuchBucket")])
    def test_what_is_not_there_is_named(self, bucket: Any, patient: ObjectStore, uri: str, code: str) -> None:
        with pytest.raises(DataError) as raised:
            patient.file(uri, NAME).read()
        assert raised.value.message.startswith(f"{NAME}: S3 answers 404 {code}: The specified ")
        assert raised.value.hint == "Check bucket and key."

    def test_the_limit_on_files_holds(self, bucket: Any, patient: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(s3, "MAX_FILE_BYTES", 5)
        bucket.put_object(Key="five", Body=b"12345")
        bucket.put_object(Key="six", Body=b"123456")
        assert patient.file("s3://bucket/five", NAME).read() == b"12345"
        with pytest.raises(DataError, match="has 6 bytes, more than the 5 allowed"):
            patient.file("s3://bucket/six", NAME).read()

    def test_what_was_read_is_kept_until_the_end(self, bucket: Any, temporary: Path) -> None:
        bucket.put_object(Key="a", Body=b"bytes")
        with ObjectStore() as store:
            file = store.file("s3://bucket/a", NAME)
            contents = [file.read()]
            bucket.objects.delete()
            assert [*contents, file.read()] == [b"bytes"] * 2
            assert list(temporary.iterdir())
        assert not list(temporary.iterdir())


class TestDownload:
    @staticmethod
    def below(directory: Path) -> dict[str, bytes]:
        return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_all_objects_below_a_prefix_and_no_other(
        self, bucket: Any, patient: ObjectStore, tmp_path: Path, slash: str
    ) -> None:
        expected = {f"{number}.jpg": str(number).encode() for number in range(25)} | {"deep er/ü+%20.png": b"deep"}
        for key, body in expected.items():
            bucket.put_object(Key=f"data/train/{key}", Body=body)
        bucket.put_object(Key="data/train/", Body=b"")
        bucket.put_object(Key="data/train/folder/", Body=b"")
        bucket.put_object(Key="data/train_annotation/0.png", Body=b"")
        assert patient.download(f"s3://bucket/data/train{slash}", tmp_path / "train") == 26
        assert self.below(tmp_path / "train") == expected

    def test_one_object(self, bucket: Any, patient: ObjectStore, tmp_path: Path) -> None:
        for key in ("data/x.manifest", "data/x.manifest.bak", "data/x.manifest/y"):
            bucket.put_object(Key=key, Body=key.encode())
        assert patient.download("s3://bucket/data/x.manifest", tmp_path / "train") == 1
        assert self.below(tmp_path / "train") == {"x.manifest": b"data/x.manifest"}

    @pytest.mark.parametrize("slash", ["", "/"])
    def test_a_whole_bucket(self, bucket: Any, patient: ObjectStore, tmp_path: Path, slash: str) -> None:
        for key in ("a", "b/c"):
            bucket.put_object(Key=key, Body=key.encode())
        assert patient.download(f"s3://bucket{slash}", tmp_path / "train") == 2
        assert self.below(tmp_path / "train") == {"a": b"a", "b/c": b"b/c"}

    @pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/data", "s3://bucket/data/"])
    def test_nothing_there_is_an_error(self, bucket: Any, patient: ObjectStore, tmp_path: Path, uri: str) -> None:
        bucket.put_object(Key="dat/", Body=b"")
        with pytest.raises(DataError, match=f"There is no object at {uri}\\."):
            patient.download(uri, tmp_path)

    def test_no_bucket(self, bucket: Any, patient: ObjectStore, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"^s3://nobucket/data: S3 answers 404 NoSuchBucket"):
            patient.download("s3://nobucket/data", tmp_path)

    @pytest.mark.parametrize("key", ["../a", "a/../../b", "/etc/a", "a//b", "./a"])
    def test_keys_that_lead_astray_are_refused_before_anything_is_written(
        self, bucket: Any, patient: ObjectStore, tmp_path: Path, key: str
    ) -> None:
        bucket.put_object(Key=f"data/{key}", Body=b"")
        bucket.put_object(Key="data/0", Body=b"")
        with pytest.raises(DataError, match="does not give a safe file name") as raised:
            patient.download("s3://bucket/data/", tmp_path / "train")
        assert raised.value.message.isprintable()
        assert not (tmp_path / "train").exists()

    def test_a_file_cannot_be_a_directory_too(self, bucket: Any, patient: ObjectStore, tmp_path: Path) -> None:
        for key in ("data/a", "data/a/b"):
            bucket.put_object(Key=key, Body=b"")
        with pytest.raises(DataError, match=r"^s3://bucket/data/a(/b)? cannot be written to "):
            patient.download("s3://bucket/data/", tmp_path)

    def test_some_of_the_files_up_to_a_size(self, bucket: Any, patient: ObjectStore, tmp_path: Path) -> None:
        for key in ("a", "b/c", "d"):
            bucket.put_object(Key=f"data/{key}", Body=key.encode())
        assert patient.download("s3://bucket/data", tmp_path, lambda names: {"b/c": 3}) == 1
        assert self.below(tmp_path) == {"b/c": b"b/c"}
        with pytest.raises(DataError, match=r"^s3://bucket/data/b/c has 3 bytes, more than the 2 allowed"):
            patient.download("s3://bucket/data", tmp_path, lambda names: dict.fromkeys(names, 2))

    def test_too_many_objects_are_refused(
        self, bucket: Any, patient: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3, "MAX_OBJECTS", 5)
        for number in range(11):
            bucket.put_object(Key=str(number), Body=b"")
        with pytest.raises(DataError, match="more than 5 objects at s3://bucket"):
            patient.download("s3://bucket", tmp_path)
