from __future__ import annotations

import pytest

from semseg.data.s3_client import connect
from semseg.errors import DataError


def test_it_waits_as_long_as_it_is_told_and_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller asks again. It has a connection for each of the threads that download and that load."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    client = connect(1.5, 2.5)
    config = client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (1.5, 2.5)
    assert config.retries["total_max_attempts"] == 1
    assert config.max_pool_connections == 32
    assert client.meta.region_name == "eu-west-1"
    client.close()


def test_what_the_environment_has_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nonsense")
    with pytest.raises(DataError, match="S3 cannot be used: Invalid endpoint: nonsense") as raised:
        connect(1, 1)
    assert raised.value.hint == "Check the environment variables AWS_*."
