from __future__ import annotations

from pathlib import Path

import pytest

from semseg.data.files import LoadedFile, LocalFile, described, load, naming, printable, read_file
from semseg.errors import DataError, ImageError, UserError, one_line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "train").mkdir()
    path = tmp_path / "train" / "a b.png"
    path.write_bytes(b"12345")
    return path


def test_a_file_has_the_name_of_its_channel_and_its_bytes(path: Path) -> None:
    file = LocalFile(path)
    assert (file.name, file.read()) == ("train/a b.png", b"12345")


def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    with pytest.raises(DataError, match=r"^train/b\.png cannot be read: No such file or directory\.$"):
        LocalFile(path.with_name("b.png")).read()
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        LocalFile(path.parent).read()


def test_a_link_that_leads_nowhere_is_named_with_what_it_should_lead_to(path: Path) -> None:
    (path.parent / "far.png").symlink_to("near.png")
    (path.parent / "near.png").symlink_to("../gone/a.png")
    with pytest.raises(DataError) as refusal:
        LocalFile(path.parent / "far.png").read()
    gone = path.parent.parent / "gone/a.png"
    assert refusal.value.message == f"train/far.png is a link to {gone}, which does not exist."
    (path.parent / "near.png").unlink()
    (path.parent / "near.png").symlink_to("far.png")
    with pytest.raises(DataError, match=r"^train/far\.png cannot be read: Too many levels of symbolic links"):
        LocalFile(path.parent / "far.png").read()


def test_a_file_may_have_the_name_that_the_user_gave(path: Path) -> None:
    assert LocalFile(path, given="./a\n.png").name == r"'./a\n.png'"
    with pytest.raises(DataError, match=r"^here/a\.png cannot be read: Is a directory\.$"):
        LocalFile(path.parent, given="here/a.png").read()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("train/a b.png is bad.", "Mend it."), "train/a b.png is bad. Mend it."),
        (ImageError("It is bad.", "Mend it."), "train/a b.png: It is bad. Mend it."),
    ],
)
def test_an_error_names_its_file_once(error: UserError, said: str, path: Path) -> None:
    assert described(LocalFile(path), error) == said


def test_a_file_beyond_the_limit_is_an_error(path: Path) -> None:
    assert read_file(path, 5) == b"12345"
    with pytest.raises(DataError, match=r"^train/a b\.png has 5 bytes, more than the 4 allowed\.$"):
        read_file(path, 4)


def test_a_loaded_file_needs_the_disk_no_more(path: Path) -> None:
    loaded = load(LocalFile(path))
    path.unlink()
    assert loaded == LoadedFile("train/a b.png", b"12345")
    assert loaded.read() == b"12345"


def test_what_could_not_be_loaded_raises_each_time_it_is_read(path: Path) -> None:
    loaded = load(LocalFile(path.with_name("b.png")))
    for _ in range(2):
        with pytest.raises(DataError, match=r"^train/b\.png cannot be read"):
            loaded.read()


def test_errors_of_the_content_get_the_name(path: Path) -> None:
    with pytest.raises(DataError) as raised, naming(LocalFile(path)):
        raise ImageError("It is bad.", "Mend it.")
    assert (raised.value.message, raised.value.hint) == ("train/a b.png: It is bad.", "Mend it.")


def test_other_errors_note_the_name_and_those_for_the_user_stay(path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as raised, naming(LocalFile(path)):
        raise ZeroDivisionError
    assert raised.value.__notes__ == ["while reading train/a b.png"]
    with pytest.raises(DataError, match=r"^wrong$"), naming(LocalFile(path)):
        raise DataError("wrong")


@pytest.mark.parametrize("name", ["a\nERROR", "a\x1b[31m", "a\udcff", "a\u2028b"])
def test_names_cannot_forge_lines(name: str) -> None:
    text = printable(Path("train") / name)
    assert text.isprintable()
    assert "train/a" in text


@pytest.mark.parametrize("name", ["a b", "straße", "图片", "100%+"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert one_line(name) == name
