"""The readers of what comes from outside, in this process: a result or a SemsegError, in little memory."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import struct
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hunt import Hunt
from image_files import good_images, hostile_image, images_in_other_formats
from messages import hostile_form
from mutations import damaged, odd_json
from onnx import helper
from small_model import known, stack_arrays
from small_networks import model_of

from semseg.artifact.archive import unpack
from semseg.artifact.earlier import load_earlier
from semseg.artifact.gate import read_gate
from semseg.artifact.model_dir import BEST, HYPERPARAMS, LAST, describe
from semseg.artifact.model_dir import CLASSES as CLASS_NAMES
from semseg.artifact.onnx_file import DIGEST, verify
from semseg.client.answers import Wanted, decode, wanted
from semseg.codecs.colors import decode_colors, decode_indices, main_colors
from semseg.codecs.conversion import decode_any, image_to_png, mask_to_png
from semseg.codecs.images import decode_image, decode_reduced, exif_swaps_sides, open_image, verify_image
from semseg.codecs.masks import decode_mask, encode_mask
from semseg.codecs.media_types import check_content_type
from semseg.codecs.npy import encode_npy
from semseg.codecs.params import read_params, write_params
from semseg.codecs.recordio import MAGIC, Buffer, frame, read_records
from semseg.codecs.summary import encode_summary
from semseg.codecs.tensors import encode_classes, encode_probabilities
from semseg.data.class_names import read_classes
from semseg.data.label_map import parse_label_map
from semseg.data.pipe import Pipe
from semseg.errors import ImageError, SemsegError
from semseg.serving.answers import OFFERS, answer_to
from semseg.serving.forms import boundary_of, file_of
from semseg.types import IGNORED

pytestmark = pytest.mark.usefixtures("_little_memory")

CLASSES = 4
STATED = {"algorithm": "stack", "backbone": "pixels", "num_classes": "4", "crop_size": "240", "epochs": 30}
LABEL_MAPS = (
    {"scale": "3"},
    {"map": {"0": 5, "1": 0, "2": "7", "255": 9}},
    {"colors": {"0": "#000000", "1": ["#2ca02c", "#98df8a"], "255": "#ffffff"}},
    {"scale": 3, "names": ["sky", {"name": "road", "color": "#2ca02c"}, "tree", "car"]},
)
GIVEN_NAMES: tuple[Any, ...] = (
    ["sky", {"name": "road", "color": "#2ca02c"}, {"color": [1, 2, 3]}, "Straße"],
    {"names": {"1": "road", "3": {"name": "tree", "color": "#000000"}}},
    {"classes": ["sky", "road", "tree", "car"], "colors": {"1": "#2ca02c"}},
)
NAMED = {"classes": ["sky", "road", "tree", "Straße"], "colors": {"1": "#2ca02c"}}
MAPPED = {"train": {"scale": "3"}, "validation": {"map": {"0": 5, "1": 0}}}
ACCEPT = b"text/html, image/*;q=0.5, application/x-recordio-protobuf;q=0.5;v=1, */*;q=0.1, image/png"
DIGEST_OF_PARAMS = "ab" * 32
MOST_BYTES = 1 << 20
MOST_CHARACTERS = 1024
"""Of the failure file: the platform shows its first 1024 characters as the job's FailureReason."""

KNOWN = {BEST, LAST, HYPERPARAMS, CLASS_NAMES}
_NAMES = (
    b"/etc/passwd",
    b"../x",
    b"./model_best.params",
    b"model_algo-1",
    b"\xff\xfe",
    b"a" * 100,
    b"",
    b"./",
    b"a\nb",
)
ODD_FIELDS = {
    0: _NAMES,
    124: (b"77777777777", b"00001000000", b"-1", b"8", b"", b" 12 ", b"\x80" + b"\xff" * 11, b"\x80", b"\xff" * 12),
    156: tuple(bytes([kind]) for kind in b"01234567xgLKSDVMN\0\xff"),
    257: (b"ustar  \0", b"ustar\00000", b"", b"ustar"),
    345: _NAMES,
}

Make = Callable[[Random], bytes]
Read = Callable[[bytes], object]


def refused_or_read(read: Read) -> Callable[[bytes], None]:
    """Calls the reader, which may only raise a SemsegError, in one line that the platform's failure file can hold."""

    def check(case: bytes) -> None:
        try:
            read(case)
        except SemsegError as error:
            said = str(error)
        else:
            return
        assert said.isprintable(), ascii(said)
        assert len(said) <= MOST_CHARACTERS, said[:MOST_CHARACTERS]

    return check


def from_file(path: Path, read: Callable[[], object]) -> Callable[[bytes], None]:
    """As `refused_or_read`, of a file."""

    def write_and_read(case: bytes) -> None:
        path.write_bytes(case)
        read()

    return refused_or_read(write_and_read)


def spoilt(*good: bytes) -> Make:
    return lambda random: damaged(random, random.choice(good), good)


def test_records(hunt: Hunt, tmp_path: Path) -> None:
    pair = [good_images()[0], good_images()[-1]]
    stream = b"".join(b"".join(frame([content])) for content in pair * 2)
    parts = b"".join(struct.pack("<II", MAGIC, flag << 29 | 4) + b"part" for flag in (1, 2, 2, 3))

    def read(case: bytes) -> None:
        for record in read_records(io.BytesIO(case).read, "a stream", MOST_BYTES):
            assert len(record) <= MOST_BYTES

    def read_pairs() -> None:
        for pair in Pipe(tmp_path / "train", lambda: False, timeout=5).pairs(0, lambda: False):
            pair.image.read()

    hunt.run("records", 3000, spoilt(stream, parts), refused_or_read(read))
    hunt.run("records of a pipe", 100, spoilt(stream, parts), from_file(tmp_path / "train_0", read_pairs))


def test_label_maps(hunt: Hunt) -> None:
    def read(case: bytes) -> None:
        table = parse_label_map(case, CLASSES, "label_map.json").table
        assert all(value < CLASSES or value == IGNORED for value in table.tolist())

    hunt.run("label maps", 2000, lambda random: odd_json(random, random.choice(LABEL_MAPS)), refused_or_read(read))


def test_names_of_classes(hunt: Hunt, tmp_path: Path) -> None:
    def read_json() -> None:
        read_classes(tmp_path / "classes.json", CLASSES)

    def read_text() -> None:
        assert len(read_classes(tmp_path / "classes.txt", CLASSES)) == CLASSES

    odd = from_file(tmp_path / "classes.json", read_json)
    hunt.run("classes.json", 2000, lambda random: odd_json(random, random.choice(GIVEN_NAMES)), odd)
    lines = spoilt(
        "sky #2ca02c\nroad\ntree\nStraße\n".encode(), b"a\n" * 100_000, b"a" + b" " * 100_000 + b"b\nc\nd\ne"
    )
    hunt.run("classes.txt", 500, lines, from_file(tmp_path / "classes.txt", read_text))


def test_accept_and_content_type(hunt: Hunt) -> None:
    def read_accept(case: bytes) -> None:
        assert answer_to(case.decode("latin-1")).media_type in OFFERS

    def read_type(case: bytes) -> None:
        check_content_type(case.decode("latin-1"))

    accepts = spoilt(ACCEPT, b"a/b," * 2000, b"image/png;q=" + b"9" * 5000)
    hunt.run("Accept", 50, accepts, refused_or_read(read_accept))
    hunt.run("Content-Type", 3000, spoilt(b"image/jpeg; a=b", b"application/x-image"), refused_or_read(read_type))


def test_forms(hunt: Hunt) -> None:
    """The file of a form is the same however it arrives, or there is an error."""
    image = good_images()[0]

    def read(case: bytes) -> None:
        boundary_of(case[:200].decode("latin-1"))
        pieces = [case[start : start + 1000] for start in range(0, len(case), 1000)]
        assert b"".join(file_of(pieces, b"b")) in case

    types = spoilt(b"multipart/form-data; charset=utf-8; boundary=b", b"multipart/form-data; boundary=" + b"b" * 70)
    hunt.run(
        "forms",
        500,
        lambda random: hostile_form(random, random.choice((image, b"", b"\r\n" * 9))),
        refused_or_read(read),
    )
    hunt.run("types of forms", 500, types, refused_or_read(lambda case: boundary_of(case.decode("latin-1"))))


def test_responses(hunt: Hunt) -> None:
    """What a server may send to a client."""
    labels = np.random.default_rng(0).integers(0, CLASSES, (9, 11), np.uint8)
    shares = np.full((CLASSES, 9, 11), 1 / CLASSES, np.float32)
    responses: dict[str, Sequence[Buffer]] = {
        "application/x-recordio-protobuf": encode_probabilities(shares),
        "application/x-recordio-protobuf; values=confidence": encode_classes(labels, shares[0]),
        "application/x-npy": encode_npy(shares),
        "application/x-npy; values=confidence; dtype=uint8": encode_npy(np.stack([labels, labels])),
        "application/json; rle=true": encode_summary(labels, shares[0], ["a"] * CLASSES, True),
        "image/png": [encode_mask(labels)],
    }
    for accept, body in responses.items():
        asked = wanted(accept)

        def read(case: bytes, asked: Wanted = asked) -> None:
            assert decode(case, asked.media_type, asked, (9, 11)).size == (9, 11)

        hunt.run(f"responses of {accept.partition(';')[0]}", 200, spoilt(b"".join(body)), refused_or_read(read))
    summary = json.loads(b"".join(responses["application/json; rle=true"]))
    asked = wanted("application/json")
    hunt.run(
        "summaries",
        500,
        lambda random: odd_json(random, summary),
        refused_or_read(lambda case: decode(case, "application/json", asked, (9, 11))),
    )


def test_images_and_masks(hunt: Hunt) -> None:
    """All that reads images, in training too; they agree on what can be read, and on its size."""
    most, colors = 4096, {0x000000: 0, 0xFF0000: 1}
    readers: tuple[Read, ...] = (
        lambda case: decode_mask(case, most),
        lambda case: decode_colors(case, colors, 254, most),
        lambda case: decode_indices(case, colors, most),
        main_colors,
        lambda case: decode_reduced(open_image(case, most), (2, 2)),
        exif_swaps_sides,
    )

    def read(case: bytes) -> None:
        for reader in readers:
            refused_or_read(reader)(case)
        try:
            size = verify_image(case, most)
        except ImageError:
            with pytest.raises(ImageError):
                decode_image(case, most)
            raise
        assert decode_image(case, most).shape == (*size, 3)

    hunt.run("images and masks", 300, hostile_image, refused_or_read(read))


def test_images_in_other_formats(hunt: Hunt) -> None:
    """All that reads a user's own files; what is converted has the pixels of what is read at once."""
    most = 4096

    def read(case: bytes) -> None:
        refused_or_read(lambda case: decode_mask(mask_to_png(case, most), most))(case)
        try:
            pixels = decode_any(case, most)
        except ImageError:
            with pytest.raises(ImageError):
                decode_image(image_to_png(case, most), most)
            raise
        assert (pixels == decode_image(image_to_png(case, most), most)).all()

    hunt.run("images in other formats", 300, spoilt(*images_in_other_formats()), refused_or_read(read))


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The parameter file of a small network, with an array in half precision."""
    arrays = stack_arrays(CLASSES)
    arrays["last.weight"] = arrays["last.weight"].astype(np.float16)
    path = tmp_path_factory.mktemp("network") / BEST
    write_params(path, arrays)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with known():
        yield


@pytest.fixture
def model(params: bytes, tmp_path: Path) -> Path:
    """A model directory without anything wrong."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / BEST).write_bytes(params)
    (folder / HYPERPARAMS).write_text(json.dumps(STATED))
    (folder / CLASS_NAMES).write_text(json.dumps(NAMED))
    assert describe(folder).num_classes == CLASSES
    return folder


@pytest.mark.parametrize(
    ("name", "content"), [("hyperparams.json", STATED), ("classes.json", NAMED), ("label_maps.json", MAPPED)]
)
def test_what_a_model_says_of_itself(hunt: Hunt, model: Path, name: str, content: dict[str, Any]) -> None:
    check = from_file(model / name, lambda: describe(model))
    hunt.run(name, 100, lambda random: odd_json(random, content), check)


def test_parameters(hunt: Hunt, params: bytes, model: Path) -> None:
    def read() -> None:
        for array in read_params(model / BEST).values():
            array.tobytes()
        describe(model)

    hunt.run("parameters", 200, spoilt(params), from_file(model / BEST, read))


def pooled(layers: Any, stages: Sequence[Any], num_classes: int) -> Any:
    return layers.adaptive_average(layers.convolution(stages[-1], "c", num_classes), 2)


def test_networks_in_onnx(hunt: Hunt, tmp_path: Path) -> None:
    arrays = {"c.weight": np.ones((4, 3, 1, 1), np.float32), "c.bias": np.ones(4, np.float32)}
    whole = model_of(pooled, 4, arrays)
    helper.set_model_props(
        whole, {DIGEST: DIGEST_OF_PARAMS, "mIOU_f32": "0.5", "mIOU_int8": "0.5", "gate_pictures": "3"}
    )
    path = tmp_path / "model.onnx"

    def read() -> None:
        read_gate(verify(path, DIGEST_OF_PARAMS))

    hunt.run("networks in ONNX", 200, spoilt(whole.SerializeToString()), from_file(path, read))


def test_archives(hunt: Hunt, model: Path, tmp_path: Path) -> None:
    """Of what tar and gzip pack, and of bombs: nothing is written but the known files, and no more than allowed."""
    folder = tmp_path / "unpacked"

    def read() -> None:
        try:
            unpack(path, folder, MOST_BYTES)
        finally:
            written = {file.name: file.lstat().st_size for file in folder.iterdir()}
            shutil.rmtree(folder)
            folder.mkdir()
            assert written.keys() <= KNOWN
            assert sum(written.values()) <= MOST_BYTES

    folder.mkdir()
    path, good = tmp_path / "model.tar.gz", archives_of(model)
    hunt.run("archives", 60, lambda random: spoilt_archive(random, good), from_file(path, read))


def test_earlier_models(hunt: Hunt, model: Path, tmp_path: Path) -> None:
    channel, scratch = tmp_path / "channel", tmp_path / "scratch"
    channel.mkdir()
    scratch.mkdir()
    wanted = {name: str(STATED[name]) for name in ("algorithm", "backbone", "num_classes", "crop_size")}

    def read() -> None:
        try:
            load_earlier(channel, wanted, scratch)
        finally:
            shutil.rmtree(scratch)
            scratch.mkdir()

    path, good = channel / "model.tar.gz", archives_of(model)
    hunt.run("earlier models", 40, lambda random: spoilt_archive(random, good), from_file(path, read))


def archives_of(model: Path) -> list[bytes]:
    """The model directory as tar packs it, in the three formats that tar has."""
    packed = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as archive:
            archive.add(model, ".")
        packed.append(file.getvalue())
    return packed


def spoilt_archive(random: Random, archives: list[bytes]) -> bytes:
    """Faults in the tar, whose headers are then right again in half of the cases, or in what gzip made of it."""
    tar = random.choice(archives)
    match random.randrange(5):
        case 0:
            return damaged(random, gzip.compress(tar, 1), archives)
        case 1:
            return gzip.compress(tar, 1) + random.choice((gzip.compress(bytes(4 << 20)), b"\x1f\x8b", b"\0" * 600))
        case 2:
            tar = damaged(random, tar, archives)
        case _:
            tar = odd_header(random, tar)
    return random.choice((tar, gzip.compress(tar, 1)))


def odd_header(random: Random, tar: bytes) -> bytes:
    """Another name, size, type or prefix in the header of a member, and its right checksum."""
    headers = [place for place in range(0, len(tar), 512) if tar[place + 257 : place + 262] == b"ustar"]
    place = random.choice(headers)
    header = bytearray(tar[place : place + 512])
    start, length = random.choice(((0, 100), (124, 12), (124, 12), (156, 1), (257, 8), (345, 155)))
    field = random.choice(ODD_FIELDS.get(start, (b"",)))[:length] if random.random() < 0.8 else random.randbytes(length)
    header[start : start + length] = field.ljust(length, b"\0")
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * ord(" "))
    return tar[:place] + bytes(header) + tar[place + 512 :]
