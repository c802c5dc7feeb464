from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semseg.errors import ChannelError, UserError
from semseg.sagemaker.channels import REQUIRED, read_channels, read_hosts
from semseg.sagemaker.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A tree with the four channels and no configuration."""
    paths = Paths(tmp_path)
    paths.input_data_config.parent.mkdir(parents=True)
    for name in REQUIRED:
        paths.channel(name).mkdir(parents=True)
    return paths


@pytest.mark.req("R15", "R20", "R24")
def test_finds_the_four_channels_and_the_label_map(paths: Paths) -> None:
    assert read_channels(paths).label_map is None
    paths.channel("label_map").mkdir()
    channels = read_channels(paths)
    assert channels.train == paths.channel("train")
    assert channels.validation_annotation == paths.channel("validation_annotation")
    assert channels.label_map == paths.channel("label_map")


@pytest.mark.req("R24")
def test_names_all_missing_channels(paths: Paths) -> None:
    paths.channel("train_annotation").rmdir()
    paths.channel("validation").rmdir()
    with pytest.raises(ChannelError, match="Missing required channel: train_annotation, validation "):
        read_channels(paths)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"train": {"TrainingInputMode": "Pipe"}}, "train has TrainingInputMode 'Pipe'"),
        ({"training": {}}, "Extraneous channel found: training"),
        ({"model": {"TrainingInputMode": "File"}}, r"model \(incremental training\) is not supported yet"),
        ({"train": "File"}, "train must be a JSON object"),
    ],
)
def test_refuses_what_it_cannot_read(paths: Paths, config: dict[str, Any], words: str) -> None:
    paths.input_data_config.write_text(json.dumps(config))
    with pytest.raises(ChannelError, match=words):
        read_channels(paths)


def test_refuses_a_model_directory_that_no_configuration_names(paths: Paths) -> None:
    paths.channel("model").mkdir()
    with pytest.raises(ChannelError, match="not supported yet"):
        read_channels(paths)


@pytest.mark.parametrize("mode", ["File", "FastFile"])
def test_reads_file_and_fast_file(paths: Paths, mode: str) -> None:
    config = {name: {"ContentType": "image/jpeg", "TrainingInputMode": mode} for name in REQUIRED}
    paths.input_data_config.write_text(json.dumps(config))
    assert read_channels(paths).train == paths.channel("train")


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


@pytest.mark.req("R55")
def test_one_host_only(paths: Paths) -> None:
    assert read_hosts(paths).current == "algo-1"
    paths.resource_config.write_text(json.dumps({"current_host": "algo-1-x", "hosts": ["algo-1-x"], "topology": None}))
    assert read_hosts(paths).current == "algo-1-x"
    paths.resource_config.write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}))
    with pytest.raises(UserError, match="2 hosts"):
        read_hosts(paths)
    paths.resource_config.write_text(json.dumps({"current_host": 1}))
    with pytest.raises(UserError, match="current_host must be a string"):
        read_hosts(paths)


def test_the_base_directory_comes_from_the_environment() -> None:
    assert Paths.from_environment({}).base == Path("/opt/ml")
    assert Paths.from_environment({"SAGEMAKER_BASE_DIR": "/data"}).model == Path("/data/model")
