from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from semseg.inference.load import LoadedModel
from semseg.serving.app import create_app
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.prediction_queue import PredictionQueue
from semseg.serving.settings import Settings

PAGE, OTHER = "https://example.com", "https://example.org"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}


def client(model: LoadedModel, origins: Sequence[str]) -> FlaskClient:
    queue = PredictionQueue(lambda: model, max_waiting=9)
    assert queue.loaded is model  # waits for it
    settings = Settings(Path("/nowhere"), cors_origins=tuple(origins))
    return create_app(queue, settings, MemoryBudget()).test_client()


@pytest.mark.parametrize("origins", [(), (OTHER,)])
def test_other_pages_may_not_read_responses(model: LoadedModel, origins: Sequence[str]) -> None:
    for method, headers in (("GET", {"Origin": PAGE}), ("OPTIONS", {"Origin": PAGE, **ASKS}), ("GET", {})):
        response = client(model, origins).open("/info", method=method, headers=headers)
        assert response.status_code == 200
        assert not [name for name, _ in response.headers if name.startswith("Access-Control")]
        assert ("Vary" in response.headers) == bool(origins)


@pytest.mark.parametrize(("origins", "allowed"), [((PAGE, OTHER), PAGE), (("*",), "*")])
def test_pages_of_the_origins_may_read_all_responses(model: LoadedModel, origins: Sequence[str], allowed: str) -> None:
    for method, path, status in (
        ("GET", "/info", 200),
        ("POST", "/invocations", 204),
        ("GET", "/nowhere", 404),
        ("DELETE", "/invocations", 405),
    ):
        response = client(model, origins).open(path, method=method, headers={"Origin": PAGE})
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == allowed
        assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers.get("Vary") == (None if allowed == "*" else "Origin")
        assert "Access-Control-Allow-Credentials" not in response.headers


@pytest.mark.parametrize(("origins", "allowed"), [((PAGE,), PAGE), (("*",), "*")])
def test_their_preflight_requests_are_answered(model: LoadedModel, origins: Sequence[str], allowed: str) -> None:
    response = client(model, origins).options("/invocations", headers={"Origin": PAGE, **ASKS})
    assert (response.status_code, response.data) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == allowed
    assert response.headers["Access-Control-Allow-Methods"] == "GET, POST"
    assert "Content-Type" in response.headers["Access-Control-Allow-Headers"]
    assert response.headers["Access-Control-Max-Age"] == "600"


@pytest.mark.parametrize(
    "origin", ["null", "HTTPS://EXAMPLE.COM", "https://example.com:8443", "http://example.com", ""]
)
def test_origins_are_compared_as_browsers_send_them(model: LoadedModel, origin: str) -> None:
    response = client(model, (PAGE,)).get("/info", headers={"Origin": origin})
    assert "Access-Control-Allow-Origin" not in response.headers


def test_a_refusal_while_busy_says_when_to_retry(model: LoadedModel) -> None:
    queue = PredictionQueue(lambda: model, max_waiting=9)
    assert queue.loaded is model  # waits for it
    app = create_app(queue, Settings(Path("/nowhere"), cors_origins=("*",)), MemoryBudget(1))
    response = app.test_client().post("/invocations", data=bytes(1000), headers={"Origin": PAGE})
    assert response.status_code in (413, 503)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
