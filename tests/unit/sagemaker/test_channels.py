from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semseg.errors import ChannelError, UserError
from semseg.sagemaker.channels import ANNOTATIONS, OPTIONAL, SPLITS, Split, read_channels
from semseg.sagemaker.paths import Paths

FOUR = (*SPLITS, *ANNOTATIONS)
PIPE = {"TrainingInputMode": "Pipe", "RecordWrapperType": "RecordIO", "ContentType": "application/x-recordio"}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A tree with the four channels and no configuration."""
    paths = Paths(tmp_path)
    paths.input_data_config.parent.mkdir(parents=True)
    for name in FOUR:
        paths.channel(name).mkdir(parents=True)
    return paths


def configure(paths: Paths, config: dict[str, Any]) -> None:
    paths.input_data_config.write_text(json.dumps(config))


@pytest.mark.req("R15", "R20", "R24")
def test_finds_the_four_channels_and_the_optional_ones(paths: Paths) -> None:
    channels = read_channels(paths)
    assert channels.label_map is channels.model is None
    for name in OPTIONAL:
        paths.channel(name).mkdir()
    channels = read_channels(paths)
    assert channels.train == Split("train", paths.channel("train"), paths.channel("train_annotation"), None, False)
    assert channels.validation.annotation == paths.channel("validation_annotation")
    assert channels.label_map == paths.channel("label_map")
    assert channels.model == paths.channel("model")


def test_test_data_may_be_given_in_two_channels_or_as_a_manifest(paths: Paths) -> None:
    assert read_channels(paths).test is None
    test, annotation = (paths.channel(name) for name in ("test", "test_annotation"))
    test.mkdir()
    with pytest.raises(ChannelError, match="Missing required channel: test_annotation "):
        read_channels(paths)
    (test / "a.manifest").touch()
    assert read_channels(paths).test == Split("test", test, None, test / "a.manifest", False)
    annotation.mkdir()
    assert read_channels(paths).test == Split("test", test, annotation, None, False)


@pytest.mark.req("R24")
def test_names_all_missing_channels(paths: Paths) -> None:
    paths.channel("train_annotation").rmdir()
    paths.channel("validation").rmdir()
    with pytest.raises(ChannelError, match="Missing required channel: train_annotation, validation "):
        read_channels(paths)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"train": {"TrainingInputMode": "Stream"}}, "train has TrainingInputMode 'Stream'"),
        ({"training": {}}, "Extraneous channel found: training"),
        ({"test": PIPE}, "test cannot be read in Pipe mode"),
        ({"model": PIPE}, "model cannot be read in Pipe mode"),
        ({"train_annotation": PIPE}, "train_annotation cannot be read in Pipe mode"),
        ({"train": "File"}, "train must be a JSON object"),
        ({"train": PIPE}, "but train_annotation is given"),
    ],
)
def test_refuses_what_it_cannot_read(paths: Paths, config: dict[str, Any], words: str) -> None:
    configure(paths, config)
    with pytest.raises(ChannelError, match=words):
        read_channels(paths)


def test_a_name_cannot_forge_a_line_of_the_log(paths: Paths) -> None:
    """Neither the name nor the description is that of a channel."""
    names = [f"x{number}\n#quality_metric. {'y' * 500}" for number in range(10)]
    configure(paths, dict.fromkeys(names, "File"))
    with pytest.raises(ChannelError, match="Extraneous channel found: ") as error:
        read_channels(paths)
    assert error.value.message.isprintable()
    assert len(error.value.message) < 1000


@pytest.mark.parametrize("mode", ["File", "FastFile"])
def test_reads_file_and_fast_file(paths: Paths, mode: str) -> None:
    configure(paths, {name: {"ContentType": "image/jpeg", "TrainingInputMode": mode} for name in FOUR})
    assert not read_channels(paths).train.piped


@pytest.mark.req("R18", "R35", "R41")
def test_pipes_bring_their_annotations(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.input_data_config.parent.mkdir(parents=True)
    configure(paths, {"train": PIPE, "validation": PIPE, "model": {"TrainingInputMode": "File"}})
    paths.channel("model").mkdir(parents=True)
    channels = read_channels(paths)
    assert channels.train == Split("train", paths.channel("train"), None, None, True)
    assert channels.validation.piped
    assert channels.model == paths.channel("model")


@pytest.mark.req("R41")
@pytest.mark.parametrize("wrapper", ["None", None])
def test_a_pipe_without_records_is_refused(paths: Paths, wrapper: str | None) -> None:
    configure(paths, {"train": {key: value for key, value in PIPE.items() if key != "RecordWrapperType"}})
    if wrapper:
        configure(paths, {"train": PIPE | {"RecordWrapperType": wrapper}})
    with pytest.raises(ChannelError, match=r"RecordWrapperType 'None'\. Set RecordWrapperType to RecordIO"):
        read_channels(paths)


def test_a_channel_that_cannot_be_read_is_named(paths: Paths) -> None:
    """A link to too long a name, or a missing permission."""
    paths.channel("train_annotation").rmdir()
    (paths.channel("train") / "x.manifest").symlink_to("x" * 300)
    with pytest.raises(ChannelError, match=r"^The channel train: .*/train/x\.manifest cannot be read: File name too"):
        read_channels(paths)
    paths.channel("train_annotation").symlink_to("x" * 300)
    with pytest.raises(ChannelError, match=r"^The channel train_annotation: .* cannot be read: File name too long\."):
        read_channels(paths)


def test_a_manifest_takes_the_place_of_annotations(paths: Paths) -> None:
    for name, suffix in [("train", ".manifest"), ("validation", ".JSONL")]:
        paths.channel(f"{name}_annotation").rmdir()
        (paths.channel(name) / f"data{suffix}").touch()
    channels = read_channels(paths)
    assert channels.train.manifest == paths.channel("train") / "data.manifest"
    assert channels.validation.manifest == paths.channel("validation") / "data.JSONL"
    assert channels.train.annotation is None
    (paths.channel("train") / ".more.jsonl").touch()
    (paths.channel("train") / "old.manifest").mkdir()
    assert read_channels(paths) == channels
    (paths.channel("train") / "more.jsonl").touch()
    with pytest.raises(ChannelError, match=r"train has 2 manifests: 'data.manifest', 'more.jsonl'"):
        read_channels(paths)


def test_beside_annotations_a_manifest_is_a_stray(paths: Paths) -> None:
    (paths.channel("train") / "output.manifest").touch()
    assert read_channels(paths).train.manifest is None


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "not valid JSON"), (b"[]", "JSON object"), (b'"' + b"x" * (1 << 20), "larger than"), (b"\xff", "JSON")],
)
def test_a_broken_file_is_named(paths: Paths, content: bytes, words: str) -> None:
    paths.input_data_config.write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_channels(paths)
    assert "inputdataconfig.json" in str(error.value)


def test_deeply_nested_json_is_refused(paths: Paths) -> None:
    paths.input_data_config.write_text("[" * 100_000)
    with pytest.raises(UserError, match="not valid JSON"):
        read_channels(paths)


def test_the_base_directory_comes_from_the_environment() -> None:
    assert Paths.from_environment({}).base == Path("/opt/ml")
    assert Paths.from_environment({"SAGEMAKER_BASE_DIR": "/data"}).model == Path("/data/model")


def test_a_channel_may_be_divided_among_the_hosts(paths: Paths) -> None:
    config = {
        "train": {"S3DistributionType": "ShardedByS3Key"},
        "validation": {"S3DistributionType": "FullyReplicated"},
    }
    paths.input_data_config.write_text(json.dumps(config))
    channels = read_channels(paths)
    assert (channels.train.sharded, channels.validation.sharded) == (True, False)
