from __future__ import annotations

from pathlib import Path

import pytest

from semseg.errors import UserError
from semseg.serving.settings import VARIABLES, Settings


def test_without_variables_the_platform_s_values_hold() -> None:
    expected = Settings(Path("/opt/ml/model"), 8080, 100 * 2**20, 0, 50_000_000, 0, "auto", "auto", None)
    assert Settings.from_environment({}) == expected


def test_every_variable_is_read() -> None:
    environ = {
        "SAGEMAKER_BASE_DIR": "/tmp/ml",
        "SAGEMAKER_BIND_TO_PORT": "8501",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SEMSEG_MAX_RESPONSE_MB": "5",
        "SEMSEG_MAX_PIXELS": "1000",
        "SEMSEG_MAX_TILE_PIXELS": "65536",
        "SEMSEG_BACKEND": "mxnet",
        "SEMSEG_PRECISION": "f32",
        "SEMSEG_CACHE_DIR": "/tmp/cache",
    }
    cache = Path("/tmp/cache")
    expected = Settings(Path("/tmp/ml/model"), 8501, 6_291_456, 5_242_880, 1000, 65536, "mxnet", "f32", cache)
    assert Settings.from_environment(environ) == expected


def test_empty_variables_count_as_not_set() -> None:
    assert Settings.from_environment({variable.name: "" for variable in VARIABLES}) == Settings.from_environment({})


def test_no_limit_of_batch_transform_leaves_the_server_s_own() -> None:
    assert Settings.from_environment({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}).max_payload == 100 * 2**20


@pytest.mark.parametrize(
    ("payload", "response", "megabytes"),
    [("", "", 0), ("0", "", 0), ("6", "", 6), ("6", "0", 6), ("6", "200", 200), ("", "4", 4), ("100", "", 100)],
)
def test_answers_are_limited_by_what_is_set_for_them_or_for_requests(
    payload: str, response: str, megabytes: int
) -> None:
    environ = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": payload, "SEMSEG_MAX_RESPONSE_MB": response}
    assert Settings.from_environment(environ).max_response == megabytes << 20


def test_the_size_of_tiles_can_be_left_to_the_memory_by_name() -> None:
    assert Settings.from_environment({"SEMSEG_MAX_TILE_PIXELS": "0"}).max_tile_pixels == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "http"),
        ("SAGEMAKER_BIND_TO_PORT", "0"),
        ("SAGEMAKER_BIND_TO_PORT", "65536"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "-1"),
        ("SAGEMAKER_MAX_PAYLOAD_IN_MB", "1.5"),
        ("SEMSEG_MAX_RESPONSE_MB", "much"),
        ("SEMSEG_MAX_PIXELS", "0"),
        ("SEMSEG_MAX_TILE_PIXELS", "65535"),
        ("SEMSEG_MAX_PIXELS", "9" * 5000),
        ("SEMSEG_BACKEND", "OpenVINO"),
        ("SEMSEG_PRECISION", "float16"),
        ("SEMSEG_CACHE_DIR", "cache"),
        ("SEMSEG_PRECISION", "f" * 5000),
    ],
)
def test_a_bad_value_is_an_error_that_names_variable_value_and_range(name: str, value: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings.from_environment({name: value})
    assert name in caught.value.message
    assert repr(value[:50]) in caught.value.message
    assert len(str(caught.value)) < 400
