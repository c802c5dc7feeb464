from __future__ import annotations

from pathlib import Path

import pytest
from readme import README

from semseg.errors import UserError
from semseg.serving.settings import VARIABLES, Settings, table


def test_without_variables_the_platform_s_values_hold() -> None:
    expected = Settings(
        model_dir=Path("/opt/ml/model"),
        port=8080,
        workers=1,
        threads=0,
        timeout=60,
        queue=32,
        max_connections=256,
        max_payload=100 * 2**20,
        max_response=0,
        max_pixels=50_000_000,
        max_tile_pixels=0,
        backend="auto",
        precision="auto",
        cache_dir=None,
        scale="model",
        request_log="auto",
        cors_origins=(),
        page="auto",
    )
    assert Settings.from_environment({}) == expected


def test_every_variable_is_read() -> None:
    environ = {
        "SAGEMAKER_BASE_DIR": "/tmp/ml",
        "SAGEMAKER_BIND_TO_PORT": "8501",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "2",
        "OMP_NUM_THREADS": "3",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT": "4",
        "SEMSEG_QUEUE": "5",
        "SEMSEG_MAX_CONNECTIONS": "60",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "6",
        "SEMSEG_MAX_RESPONSE_MB": "5",
        "SEMSEG_MAX_PIXELS": "1000",
        "SEMSEG_MAX_TILE_PIXELS": "65536",
        "SEMSEG_BACKEND": "mxnet",
        "SEMSEG_PRECISION": "f32",
        "SEMSEG_CACHE_DIR": "/tmp/cache",
        "SEMSEG_SCALE": "0.5",
        "SEMSEG_REQUEST_LOG": "json",
        "SEMSEG_CORS_ORIGINS": "https://example.com, http://LocalHost:3000,",
        "SEMSEG_PAGE": "on",
    }
    assert {variable.name for variable in VARIABLES} | {"SAGEMAKER_BASE_DIR"} == set(environ)
    expected = Settings(
        model_dir=Path("/tmp/ml/model"),
        port=8501,
        workers=2,
        threads=3,
        timeout=4,
        queue=5,
        max_connections=60,
        max_payload=6_291_456,
        max_response=5_242_880,
        max_pixels=1000,
        max_tile_pixels=65536,
        backend="mxnet",
        precision="f32",
        cache_dir=Path("/tmp/cache"),
        scale="0.5",
        request_log="json",
        cors_origins=("https://example.com", "http://localhost:3000"),
        page="on",
    )
    assert Settings.from_environment(environ) == expected


@pytest.mark.parametrize("batch", ["true", "True"])
def test_batches_have_the_longest_time_unless_set(batch: str) -> None:
    environ = {"SAGEMAKER_BATCH": batch, "SAGEMAKER_MODEL_SERVER_TIMEOUT": ""}
    assert Settings.from_environment(environ).timeout == 3600
    assert Settings.from_environment(environ | {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "90"}).timeout == 90
    assert Settings.from_environment({"SAGEMAKER_BATCH": "false"}).timeout == 60


def test_the_readme_s_table_is_the_code_s() -> None:
    assert table() + "\n| `SAGEMAKER_BASE_DIR` |" in README


def test_empty_variables_count_as_not_set() -> None:
    assert Settings.from_environment({variable.name: "" for variable in VARIABLES}) == Settings.from_environment({})


def test_no_limit_of_batch_transform_leaves_the_server_s_own() -> None:
    assert Settings.from_environment({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}).max_payload == 100 * 2**20


@pytest.mark.parametrize(
    ("payload", "response", "megabytes"), [("", "", 0), ("6", "", 0), ("6", "0", 0), ("6", "200", 200), ("", "4", 4)]
)
def test_answers_are_limited_by_what_is_set_for_them_alone(payload: str, response: str, megabytes: int) -> None:
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
        ("SEMSEG_PAGE", "true"),
        ("SEMSEG_CORS_ORIGINS", "example.com"),
        ("SEMSEG_CORS_ORIGINS", "https://example.com/"),
        ("SEMSEG_CORS_ORIGINS", "https://example.com/page"),
        ("SEMSEG_CORS_ORIGINS", "https://*.example.com"),
        ("SEMSEG_CORS_ORIGINS", "https://user@example.com"),
        ("SEMSEG_CORS_ORIGINS", "https://example.com\nx"),
        ("SEMSEG_CORS_ORIGINS", "null"),
        ("SEMSEG_CORS_ORIGINS", "*, https://example.com"),
        ("SEMSEG_CORS_ORIGINS", "https://a b"),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "0"),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "65"),
        ("OMP_NUM_THREADS", "4,2"),
        ("SEMSEG_MAX_CONNECTIONS", "7"),
        ("SEMSEG_REQUEST_LOG", "all"),
        ("SEMSEG_PRECISION", "f" * 5000),
        ("SEMSEG_SCALE", "half"),
        ("SEMSEG_SCALE", "0.04"),
        ("SEMSEG_SCALE", "4.01"),
        ("SEMSEG_SCALE", "1" * 5000),
    ],
)
def test_a_bad_value_is_an_error_that_names_variable_value_and_range(name: str, value: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings.from_environment({name: value})
    assert name in caught.value.message
    assert repr(value[:50]) in caught.value.message
    assert len(str(caught.value)) < 400
