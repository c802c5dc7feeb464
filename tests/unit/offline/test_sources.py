"""The images that the arguments of `semseg predict` name, and the paths that their results mirror."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from semseg.data.s3 import ObjectStore
from semseg.errors import DataError, UserError
from semseg.offline.sources import find_images, require_distinct


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with ObjectStore(caching=False) as store:
        yield store


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with images and other files in `photos`."""
    for name in ["b.jpg", "a.PNG", "town/c.jpeg", "town/far/d.png", "notes.txt", ".hidden.jpg", ".git/e.jpg", "f.gif"]:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(store: ObjectStore, *given: str, out: str = "out") -> list[str]:
    return [str(source.path) for source in find_images(given, store, Path(out))]


def test_a_folder_is_searched_with_its_sub_folders_and_mirrored(here: Path, store: ObjectStore) -> None:
    expected = ["a.PNG", "b.jpg", "town/c.jpeg", "town/far/d.png"]
    assert paths(store, "photos") == paths(store, str(here / "photos")) == paths(store, "photos/town/..") == expected
    found = find_images(["photos"], store, Path("out"))[2]
    assert (found.file.read(), found.file.name) == (b"town/c.jpeg", "photos/town/c.jpeg")


def test_files_mirror_the_folder_that_they_share(here: Path, store: ObjectStore) -> None:
    assert paths(store, "photos/town/c.jpeg") == ["c.jpeg"]
    assert paths(store, "photos/b.jpg", "photos/town/c.jpeg") == ["b.jpg", "town/c.jpeg"]
    assert paths(store, "photos/f.gif") == ["f.gif"]  # its content decides


def test_a_pattern_mirrors_the_folder_before_its_first_wildcard(here: Path, store: ObjectStore) -> None:
    assert paths(store, "photos/*.jpg") == ["b.jpg"]
    assert paths(store, "photos/**/*.p*") == ["town/far/d.png"]
    assert paths(store, "photos/**/?.jp*g") == ["b.jpg", "town/c.jpeg"]
    assert paths(store, "ph*s/tow?") == ["photos/town/c.jpeg", "photos/town/far/d.png"]
    (here / "photos/[1].png").touch()
    assert paths(store, "photos/[1].png") == ["[1].png"]


def test_an_image_that_is_named_twice_is_found_once(here: Path, store: ObjectStore) -> None:
    assert paths(store, "photos", "photos/**/*.png", "photos/b.jpg") == paths(store, "photos")


def test_links_to_folders_are_followed_without_end(here: Path, store: ObjectStore) -> None:
    (here / "elsewhere").mkdir()
    (here / "elsewhere/g.jpg").touch()
    (here / "photos/linked").symlink_to(here / "elsewhere")
    (here / "elsewhere/back").symlink_to(here / "photos")
    assert paths(store, "photos") == ["a.PNG", "b.jpg", "linked/g.jpg", "town/c.jpeg", "town/far/d.png"]


def test_links_that_lead_nowhere_are_images_or_named(
    here: Path, store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("lost.jpg", "night", "town/lost.tif"):
        (here / "photos" / name).symlink_to("nowhere")
    (here / "photos/round.jpg").symlink_to("round.jpg")
    found = {"a.PNG", "b.jpg", "lost.jpg", "round.jpg", "town/c.jpeg", "town/far/d.png", "town/lost.tif"}
    for place in ("photos", "photos/**"):
        caplog.clear()
        assert set(paths(store, place)) == found
        assert caplog.messages[0] == "Left out, as they are links to what does not exist: photos/night"
    assert paths(store, "photos/lost.jpg") == ["lost.jpg"]
    with pytest.raises(DataError, match=rf"^photos/lost\.jpg is a link to {here}/photos/nowhere, which does not exist"):
        find_images(["photos/lost.jpg"], store, Path("out"))[0].file.read()


def test_images_in_formats_that_are_not_read_are_named(
    here: Path, store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    (here / "photos/town/h.HEIC").touch()
    for place in ("photos", "photos/**"):
        caplog.clear()
        assert paths(store, place) == ["a.PNG", "b.jpg", "town/c.jpeg", "town/far/d.png"]
        said = "photos/f.gif, photos/town/h.HEIC. Convert them to PNG or JPEG."
        assert caplog.messages == [f"Left out, as their formats are not read: {said}"]
    caplog.clear()
    assert paths(store, "photos/f.gif", "photos/b.jpg") == ["f.gif", "b.jpg"]
    assert not caplog.messages


def test_the_folder_of_the_results_is_not_searched(here: Path, store: ObjectStore) -> None:
    (here / "photos/out").mkdir()
    (here / "photos/out/b.png").touch()
    expected = ["a.PNG", "b.jpg", "town/c.jpeg", "town/far/d.png"]
    for place in ("photos", "photos/**"):
        assert paths(store, place, out="photos/out") == expected
    assert paths(store, "photos/*.jpg", out=".") == paths(store, "photos/b.jpg", out=".") == ["b.jpg"]
    with pytest.raises(UserError, match=r"^The results would be written into photos, among the images\. Name another"):
        paths(store, "photos", out="photos")


@pytest.mark.parametrize("place", ["photos/none.jpg", "nowhere", "photos/pipe.jpg", ""])
def test_a_place_that_is_not_there_is_an_error(place: str, here: Path, store: ObjectStore) -> None:
    os.mkfifo(here / "photos/pipe.jpg")
    with pytest.raises(UserError, match=f"^There is no file or folder {place}"):
        paths(store, place)
    assert paths(store, "photos") == paths(store, "photos/**")  # without the FIFO, which would never end


@pytest.mark.parametrize("place", ["photos/*.bmp", "empty"])
def test_a_place_without_images_is_an_error(place: str, here: Path, store: ObjectStore) -> None:
    (here / "empty").mkdir()
    with pytest.raises(UserError, match=r"^There is no image at .*\. Images are \.jpg or .* or \.bmp files\.$"):
        paths(store, "photos", place)


def test_results_that_would_replace_each_other_or_an_image_are_refused(here: Path, store: ObjectStore) -> None:
    (here / "photos/b.png").touch()
    sources = find_images(["photos"], store, Path("out"))
    with pytest.raises(
        UserError, match=r"^The results of photos/b\.jpg and of photos/b\.png would both be out/b\.png\."
    ):
        require_distinct((source, Path("out") / source.path.with_suffix(".png")) for source in sources)
    one = find_images(["photos/b.png"], store, Path("photos"))
    with pytest.raises(UserError, match=r"^photos/b\.png is an image that is read; it would be overwritten\."):
        require_distinct((source, Path("photos") / source.path) for source in one)
    require_distinct((source, Path("photos") / source.path.with_suffix(".npy")) for source in one)


@pytest.fixture
def photos(bucket: Any) -> None:
    """Images below two prefixes of a bucket."""
    for key in ["photos/a.jpg", "photos/town/b.png", "photos/list.txt", "photos_annotation/a.png"]:
        bucket.put_object(Key=key, Body=key.encode())


@pytest.mark.usefixtures("photos")
def test_objects_below_a_prefix_mirror_the_rest_of_their_keys(store: ObjectStore) -> None:
    found = find_images(["s3://bucket/photos"], store, Path("out"))
    assert [source.path for source in found] == [PurePosixPath("a.jpg"), PurePosixPath("town/b.png")]
    assert [source.file.name for source in found] == ["s3://bucket/photos/a.jpg", "s3://bucket/photos/town/b.png"]
    assert [source.file.read() for source in found] == [b"photos/a.jpg", b"photos/town/b.png"]
    assert paths(store, "s3://bucket/photos/list.txt") == ["list.txt"]
    with pytest.raises(DataError, match=r"^There is no object at s3://bucket/none\."):
        paths(store, "s3://bucket/none")


def test_files_in_other_formats_count_unless_a_copy_is_beside_them(here: Path, store: ObjectStore) -> None:
    for name in ("b.tif", "g.TIFF", "town/h.webp", "town/d.bmp"):
        (here / "photos" / name).touch()
    expected = ["a.PNG", "b.jpg", "g.TIFF", "town/c.jpeg", "town/d.bmp", "town/h.webp", "town/far/d.png"]
    assert paths(store, "photos") == expected
    assert sorted(paths(store, "photos/**")) == sorted(expected)
    assert paths(store, "photos/*.[tT][iI]*") == ["b.tif", "g.TIFF"]
    assert paths(store, "photos/b.tif") == ["b.tif"]


@pytest.mark.usefixtures("photos")
def test_objects_in_formats_that_are_not_read_are_named(
    bucket: Any, store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("photos/a.gif", "photos/c.heic"):
        bucket.put_object(Key=key, Body=key.encode())
    assert paths(store, "s3://bucket/photos") == ["a.jpg", "town/b.png"]
    assert caplog.messages == ["Left out, as their formats are not read: a.gif, c.heic. Convert them to PNG or JPEG."]
    caplog.clear()
    assert paths(store, "s3://bucket/photos/a.gif") == ["a.gif"]
    assert not caplog.messages


@pytest.mark.usefixtures("photos")
def test_objects_in_other_formats_count_unless_a_copy_is_beside_them(bucket: Any, store: ObjectStore) -> None:
    for key in ("photos/a.tif", "photos/c.TIF"):
        bucket.put_object(Key=key, Body=key.encode())
    assert paths(store, "s3://bucket/photos") == ["a.jpg", "c.TIF", "town/b.png"]
    assert paths(store, "s3://bucket/photos/a.tif") == ["a.tif"]
