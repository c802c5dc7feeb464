from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from hatchling.builders.wheel import WheelBuilder

from semseg.inference.load import LoadedModel
from semseg.serving import page
from semseg.serving.app import create_app
from semseg.serving.memory_budget import MemoryBudget
from semseg.serving.prediction_queue import PredictionQueue
from semseg.serving.settings import Settings

FOLDER = Path(page.__file__).parent
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page/prediction.js": ("prediction.js", "text/javascript; charset=utf-8"),
    "/page/stored.js": ("stored.js", "text/javascript; charset=utf-8"),
    "/page/view.js": ("view.js", "text/javascript; charset=utf-8"),
}
PATHS = [*FILES, "/docs"]


def client_of(model: LoadedModel, shown: str) -> FlaskClient:
    queue = PredictionQueue(lambda: model, max_waiting=9)
    return create_app(queue, Settings(Path("/nowhere"), page=shown), MemoryBudget()).test_client()


@pytest.fixture
def client(model: LoadedModel) -> FlaskClient:
    return client_of(model, shown="on")


def test_every_file_is_served_as_what_it_is(client: FlaskClient) -> None:
    assert {name for name, _ in FILES.values()} == {
        file.name for file in FOLDER.iterdir() if file.suffix not in (".py", "") and file.is_file()
    }
    for path, (name, content_type) in FILES.items():
        response = client.get(path)
        assert (response.status_code, response.content_type) == (200, content_type)
        assert response.data == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("shown", ["auto", "off"])
@pytest.mark.parametrize("path", PATHS)
def test_unless_it_is_on_there_is_no_page(model: LoadedModel, path: str, shown: str) -> None:
    assert client_of(model, shown).get(path).status_code == 404


@pytest.mark.parametrize("path", PATHS)
def test_browsers_keep_the_files_and_ask_whether_they_have_changed(client: FlaskClient, path: str) -> None:
    first = client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert client.get(path, headers={"If-None-Match": '"another"'}).data == first.data


@pytest.mark.parametrize("path", PATHS)
def test_only_get_and_head_are_allowed(client: FlaskClient, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
        response = client.open(path, method=method)
        assert response.status_code == 405
        assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert client.head(path).data == b""


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/page/..",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%2fapp.py",
        "/page/..%5capp.py",
        "/page//etc/passwd",
        "/page/%2fetc%2fpasswd",
        "/page/__init__.py",
        "/page/docs.py",
        "/page/index.html",
        "/page/page.js/",
        "/page/page.js%00",
        "/page/PAGE.JS",
        "/page/page.js/../../app.py",
        "/docs/",
        "/docs/..",
        "//page/page.js",
    ],
)
def test_no_path_leads_to_another_file(client: FlaskClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.content_type == "application/json"


@pytest.mark.parametrize("path", PATHS)
def test_nothing_but_the_server_s_own_files_may_run_or_be_loaded(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    for kind in ("script-src", "style-src", "img-src", "connect-src"):
        assert policy[kind] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_have_nothing_inline_and_name_only_files_that_exist(client: FlaskClient, path: str) -> None:
    text = client.get(path).text
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|https?://", text)
    assert all(match == "" for match in re.findall(r"<script[^>]*>([^<]*)</script>", text))
    for address in re.findall(r'(?:href|src)="([^"]+)"', text):
        assert client.get(address).status_code == 200
    for file in FOLDER.glob("*.js"):
        for address in re.findall(r'from "([^"]+)"', file.read_text()):
            assert client.get(address).status_code == 200
        assert "http" not in file.read_text().replace("location.origin", "")


def test_the_files_are_in_the_wheel(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(Path(__file__).parents[4])).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as packed:
        for name, _ in FILES.values():
            assert packed.read(f"semseg/serving/page/{name}") == (FOLDER / name).read_bytes()
