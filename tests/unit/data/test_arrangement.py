from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image
from tiff_files import page, tiff

from semseg.codecs.masks import decode_mask
from semseg.data.arrangement import AS_CHANNELS, Arrangement, arrange
from semseg.data.pairs import Listing, list_pairs
from semseg.data.user_paths import with_user_paths
from semseg.errors import ChannelError, DataError, Stopped, UserError
from semseg.sagemaker.log_lines import LOGGER
from semseg.sagemaker.paths import Paths

RANDOM = np.random.default_rng(0)


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 256, (6, 8, 3), np.uint8)).save(path)


def write_mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.integers(0, 4, (6, 8), np.uint8)).save(path)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "job")


def arranged(paths: Paths, folder: Path, arrangement: Arrangement = AS_CHANNELS) -> dict[str, Listing]:
    """The listings of the splits that were made of `images` and `masks` in a folder."""
    sources = {"train": str(folder / "images"), "train_annotation": str(folder / "masks")}
    made = arrange(sources, paths.channel, arrangement)
    splits = [name for name in ("train", "validation") if name in made]
    return {name: list_pairs(name, paths.channel(name), paths.channel(f"{name}_annotation")) for name in splits}


def names(listing: Listing) -> list[tuple[str, str]]:
    assert not listing.problems
    return [(pair.image.name, pair.mask.name) for pair in listing.pairs]


def test_folders_that_are_channels_stay_what_they_are(paths: Paths, tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.jpg")
    write_mask(tmp_path / "masks/a.png")
    assert arranged(paths, tmp_path) == {}
    assert not paths.base.exists()


def test_nested_folders_are_flattened_and_the_label_map_stays(paths: Paths, tmp_path: Path) -> None:
    for stem in ("day/1", "day/old/2", "night/1"):
        write_image(tmp_path / f"images/{stem}.jpg")
        write_mask(tmp_path / f"masks/{stem}.png")
    (tmp_path / "masks/label_map.json").write_text("{}")
    write_image(tmp_path / "images/.thumbnails/1.jpg")
    listed = names(arranged(paths, tmp_path)["train"])
    assert [image for image, _ in listed] == [f"train/{stem}.jpg" for stem in ("day__1", "day__old__2", "night__1")]
    assert (paths.channel("train_annotation") / "label_map.json").read_text() == "{}"
    assert (paths.channel("train") / "night__1.jpg").readlink() == tmp_path / "images/night/1.jpg"


@pytest.mark.parametrize("kind", ["jpg", "bmp"])
def test_flat_names_that_are_too_long_are_shortened(kind: str, paths: Paths, tmp_path: Path) -> None:
    """Those of images and masks alike, whatever their normal form."""
    folder = "/".join(["grün" * 15] * 4)
    for number in range(2):
        write_image(tmp_path / "images" / f"{folder}/{number}.{kind}")
        write_mask(tmp_path / "masks" / normalize("NFD", f"{folder}/{number}.png"))
    found = arranged(paths, tmp_path)["train"]
    assert len(names(found)) == 2
    with with_user_paths(paths, {"train": str(tmp_path / "images")}) as renamed:
        shown = {renamed(image) for image, _ in names(found)}
    assert shown == {f"{tmp_path}/images/{folder}/{number}.{kind}" for number in range(2)}


def test_two_files_of_one_flat_name_are_refused(paths: Paths, tmp_path: Path) -> None:
    write_image(tmp_path / "images/day/a__1.jpg")
    write_image(tmp_path / "images/day__a/1.jpg")
    write_mask(tmp_path / "masks/1.png")
    with pytest.raises(ChannelError, match=r"would have the same name, day__a__1.jpg, in one folder"):
        arranged(paths, tmp_path)


def test_a_suffix_of_masks_is_left_out(paths: Paths, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for stem in ("a", "b"):
        write_image(tmp_path / f"images/{stem}.png")
        write_mask(tmp_path / f"masks/{stem}_L.png")
    write_mask(tmp_path / "masks/a_colours.png")
    listed = arranged(paths, tmp_path, Arrangement(suffix="_L"))["train"]
    assert names(listed) == [("train/a.png", "train_annotation/a.png"), ("train/b.png", "train_annotation/b.png")]
    assert "Masks whose names do not end with '_L' are left out: a_colours.png" in caplog.text
    with pytest.raises(ChannelError, match=r"No mask in .* has a name that ends with '_mask': a_L.png, a_colours.png"):
        arranged(Paths(tmp_path / "other"), tmp_path, Arrangement(suffix="_mask.png"))


def test_a_share_of_the_pairs_is_for_validation_and_stays_there_when_others_are_added(
    paths: Paths, tmp_path: Path
) -> None:
    for number in range(20):
        write_image(tmp_path / f"images/{number}.jpg")
        write_mask(tmp_path / f"masks/{number}.png")
    first = arranged(paths, tmp_path, Arrangement(split=0.2))
    train, validation = ({image for image, _ in names(first[name])} for name in ("train", "validation"))
    assert len(validation) == 4
    assert {Path(name).name for name in train | validation} == {f"{number}.jpg" for number in range(20)}
    for number in range(20, 25):
        write_image(tmp_path / f"images/{number}.jpg")
        write_mask(tmp_path / f"masks/{number}.png")
    second = arranged(Paths(tmp_path / "second"), tmp_path, Arrangement(split=0.2))
    assert len({image for image, _ in names(second["validation"])} & validation) >= 3


def test_what_lies_beside_the_pairs_is_reported_once_and_label_maps_are_for_both_sides(
    paths: Paths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2):
        write_image(tmp_path / f"images/{number}.jpg")
        write_mask(tmp_path / f"masks/{number}.png")
    for name in ("images/notes.txt", "masks/notes.txt", "masks/label_map.json"):
        (tmp_path / name).write_text("{}")
    arranged(paths, tmp_path, Arrangement(split=0.5))
    strays = [paths.channel(name) / "notes.txt" for name in ("train", "train_annotation")]
    assert caplog.messages == [f"{stray} is not a readable image file" for stray in strays]
    for split in ("train", "validation"):
        assert (paths.channel(f"{split}_annotation") / "label_map.json").read_text() == "{}"


def test_names_of_two_normal_forms_are_pairs_for_a_split(paths: Paths, tmp_path: Path) -> None:
    """As of images from Linux and masks from macOS."""
    for number in range(3):
        write_image(tmp_path / "images" / normalize("NFC", f"grün{number}.jpg"))
        write_mask(tmp_path / "masks" / normalize("NFD", f"grün{number}.png"))
    found = arranged(paths, tmp_path, Arrangement(split=0.3))
    assert [len(names(found[name])) for name in ("train", "validation")] == [2, 1]


def test_too_few_pairs_for_a_split_are_named_with_what_helps(paths: Paths, tmp_path: Path) -> None:
    def refusal() -> str:
        with pytest.raises(UserError) as caught:
            arranged(paths, tmp_path, Arrangement(split=0.2))
        return str(caught.value)

    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder in (images, masks):
        folder.mkdir()
    assert refusal() == (
        f"{images} has no .jpg or .jpeg or .png or .tif or .tiff or .webp or .bmp file: it is empty. "
        f"Check the folder or S3 URI that was given: {images}."
    )
    write_image(images / "a.jpg")
    (masks / "a.gif").write_bytes(b"GIF89a")
    assert refusal() == (
        f"{masks} has no .png or .tif or .tiff or .bmp file: none among 1 entries. "
        "masks/a.gif is a GIF file. Save annotations as PNG masks of one 8-bit channel."
    )
    for stem in ("a", "b"):
        write_mask(masks / f"{stem}.png")
    assert refusal() == (
        "--split needs at least 2 images with a mask of the same name, one for each side, not 1. "
        f"{images} has 1 image: a.jpg. {masks} has 2 masks: a.png, b.png. "
        "Give image and mask the same name except for the suffix, add pairs, or give folders for validation with "
        "--validation and --validation-annotation."
    )


def test_a_lone_image_is_reported_and_neither_split_is_empty(paths: Paths, tmp_path: Path) -> None:
    for number in range(2):
        write_image(tmp_path / f"images/{number}.jpg")
        write_mask(tmp_path / f"masks/{number}.png")
    write_image(tmp_path / "images/lone.jpg")
    found = arranged(paths, tmp_path, Arrangement(split=0.01))
    assert [len(found[name].pairs) for name in ("train", "validation")] == [1, 1]
    assert next(str(problem) for problem in found["train"].problems).startswith("train/lone.jpg has no annotation")


def test_images_and_masks_may_be_in_one_folder(paths: Paths, tmp_path: Path) -> None:
    for number in range(2):
        write_image(tmp_path / f"{number}.png")
        write_mask(tmp_path / f"{number}_L.png")
    sources = {"train": str(tmp_path), "train_annotation": str(tmp_path)}
    arrange(sources, paths.channel, Arrangement("_L"))
    found = list_pairs("train", paths.channel("train"), paths.channel("train_annotation"))
    assert names(found) == [(f"train/{number}.png", f"train_annotation/{number}.png") for number in range(2)]


def test_a_split_without_pairs_names_the_suffix_that_gives_them(paths: Paths, tmp_path: Path) -> None:
    for stem in ("day/1", "night/2"):
        write_image(tmp_path / f"images/{stem}.jpg")
        write_mask(tmp_path / f"masks/{stem}_L.png")
    with pytest.raises(
        ChannelError, match=r"^--split needs .*1\.jpg seems to belong to .*1_L\.png: .*, or --suffix _L\.$"
    ):
        arranged(paths, tmp_path, Arrangement(split=0.5))


@pytest.mark.parametrize(
    ("sources", "arrangement", "said"),
    [
        ({"train": "s3://a", "train_annotation": "s3://b"}, Arrangement(split=0.5), "--split needs --train and"),
        ({"train": "s3://a", "train_annotation": "s3://b"}, Arrangement("_L"), "--suffix needs --train and"),
        ({"train": ".", "train_annotation": ".", "validation": "."}, Arrangement(split=0.5), "and --validation too"),
        ({"train": ".", "train_annotation": "."}, Arrangement(split=0.5), r"^\. has no \.jpg .* file: it is empty\."),
    ],
)
def test_what_does_not_fit_is_refused(
    sources: dict[str, str],
    arrangement: Arrangement,
    said: str,
    paths: Paths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match=said):
        arrange(sources, paths.channel, arrangement)


def test_other_formats_are_converted_unless_a_usable_file_has_the_name(
    paths: Paths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "semseg")
    for stem, kind in (("a", "bmp"), ("b", "tif"), ("c", "TIFF"), ("d", "webp"), ("e", "jpg"), ("e", "bmp")):
        write_image(tmp_path / f"images/{stem}.{kind}")
        write_mask(tmp_path / f"masks/{stem}.{'tiff' if stem in 'ab' else 'png'}")
    found = arranged(paths, tmp_path)["train"]
    assert [image for image, _ in names(found)] == [
        f"train/{name}" for name in ("a.png", "b.png", "c.png", "d.png", "e.jpg")
    ]
    assert "4 files of train are converted from BMP and TIFF and WebP to PNG." in caplog.messages
    for stem, source in (("a", "images/a.bmp"), ("c", "images/c.TIFF")):
        with Image.open(tmp_path / source) as one, Image.open(paths.channel("train") / f"{stem}.png") as other:
            assert one.tobytes() == other.tobytes()
    with Image.open(tmp_path / "masks/b.tiff") as mask:
        converted = (paths.channel("train_annotation") / "b.png").read_bytes()
        assert decode_mask(converted).tobytes() == mask.tobytes()


def test_files_that_cannot_be_converted_are_named_with_the_reason(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.tif").write_bytes(b"II*\0 no image")
    write_image(tmp_path / "images/b.bmp")
    write_mask(tmp_path / "masks/a.png")
    Image.new("RGBA", (8, 6)).save(tmp_path / "masks/b.tif")
    with pytest.raises(DataError) as refusal:
        arranged(paths, tmp_path)
    assert refusal.value.message.splitlines()[0] == "2 problems in the data:"
    for named in (f"\n{tmp_path}/images/a.tif: The image cannot", f"\n{tmp_path}/masks/b.tif: The mask has mode RGBA"):
        assert named in refusal.value.message


def test_a_link_that_leads_nowhere_stays_a_file_that_cannot_be_read(paths: Paths, tmp_path: Path) -> None:
    for stem in ("day/1", "day/2"):
        write_image(tmp_path / f"images/{stem}.jpg")
        write_mask(tmp_path / f"masks/{stem}.png")
    lost, nowhere = tmp_path / "images/day/2.jpg", tmp_path / "nowhere.jpg"
    lost.unlink()
    lost.symlink_to(nowhere)
    found = arranged(paths, tmp_path)["train"]
    with (
        pytest.raises(DataError, match=rf"^{lost} is a link to {nowhere}, which does not exist\."),
        with_user_paths(paths, {"train": str(tmp_path / "images"), "train_annotation": str(tmp_path / "masks")}),
    ):
        found.pairs[1].image.read()
    lost.rename(lost.with_suffix(".tif"))
    with pytest.raises(DataError, match=rf"/images/day/2\.tif is a link to {nowhere}, which does not exist\."):
        arranged(Paths(tmp_path / "other"), tmp_path)


def test_colours_that_are_cut_to_8_bits_are_named(
    paths: Paths, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "images").mkdir()
    pixels = RANDOM.integers(0, 65536, (6, 8, 3), np.uint16)
    (tmp_path / "images/a.tif").write_bytes(tiff(page(pixels)))
    (tmp_path / "images/b.tif").write_bytes(tiff(page(pixels[..., 0])))
    for stem in ("a", "b"):
        write_mask(tmp_path / f"masks/{stem}.png")
    assert len(arranged(paths, tmp_path)["train"].pairs) == 2
    said = "of 16 bits, only the upper 8 are used. If their values end far below 65535"
    assert [message.partition(",")[0] for message in caplog.messages] == [f"{tmp_path}/images/a.tif: of 16 bits"]
    assert said in caplog.text


def test_a_stop_ends_the_conversion(paths: Paths, tmp_path: Path) -> None:
    write_image(tmp_path / "images/a.bmp")
    write_mask(tmp_path / "masks/a.png")

    def stopped() -> None:
        raise Stopped

    sources = {"train": str(tmp_path / "images"), "train_annotation": str(tmp_path / "masks")}
    with pytest.raises(Stopped):
        arrange(sources, paths.channel, AS_CHANNELS, stopped)


def test_messages_name_the_users_files(paths: Paths, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "images/day/1.jpg")
    write_mask(tmp_path / "masks/day/1.png")
    write_image(tmp_path / "images/night/2.tif")
    write_mask(tmp_path / "masks/night/2.png")
    arranged(paths, tmp_path)
    with with_user_paths(paths, {"train": str(tmp_path / "images"), "train_annotation": str(tmp_path / "masks")}):
        LOGGER.warning("train/day__1.jpg: it is damaged, %s/day__1.png.", paths.channel("train_annotation"))
        LOGGER.warning("train/night__2.png and train/night__2.tif.")
    assert caplog.messages == [
        f"{tmp_path}/images/day/1.jpg: it is damaged, {tmp_path}/masks/day/1.png.",
        f"{tmp_path}/images/night/2.tif and train/night__2.tif.",
    ]
