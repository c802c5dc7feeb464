"""The report as people see it: in both themes, on a phone, with a keyboard or a screen reader, and in print."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import axe_core_python
import pytest
from made_report import HOSTILE, made_report
from selenium.webdriver import Chrome

from semseg.reporting.html.render import render

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
SCREENSHOTS = os.environ.get("SEMSEG_SCREENSHOTS")
"""A folder for an image of each report, to look at."""

DESKTOP, PHONE = (1280, 800), (375, 740)
SIZES = [(1, 2), (50, 11), (300, 150)]
"""Epochs and classes."""

LONG = "a_name_without_any_space_" * 8

Show = Callable[..., dict[str, Any]]


def logged(browser: Any, kind: str) -> list[dict[str, Any]]:
    """The entries of a log of the browser since the last call."""
    return list(browser.get_log(kind))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Path]:
    """The files of the reports by their epochs and classes; the smallest is of a training that failed."""
    folder, found = tmp_path_factory.mktemp("reports"), {}
    for epochs, classes in SIZES:
        names = (HOSTILE, LONG)[: classes - 1]
        failure = f"{HOSTILE} {LONG}" if epochs == 1 else ""
        found[epochs, classes] = folder / f"{epochs}-{classes}.html"
        found[epochs, classes].write_text(render(made_report(epochs, classes, names, failure)))
    return found


@pytest.fixture
def show(browser: Chrome, reports: dict[tuple[int, int], Path]) -> Show:
    """Returns a function that shows a report in a window of a size and a theme, and what the page then is."""

    def show(report: tuple[int, int], window: tuple[int, int] = DESKTOP, theme: str = "light") -> dict[str, Any]:
        width, height = window
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": window == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        logged(browser, "performance")
        logged(browser, "browser")
        browser.get(reports[report].as_uri())
        page: dict[str, Any] = browser.execute_script(
            "return {width: document.documentElement.scrollWidth, window: window.innerWidth,"
            "ground: getComputedStyle(document.body).backgroundColor, text: document.body.innerText,"
            "title: document.title, scripts: document.scripts.length,"
            "unloaded: [...document.images].filter(one => !one.complete || !one.naturalWidth).length}"
        )
        return page

    return show


@pytest.mark.parametrize("report", [*SIZES[:2], pytest.param(SIZES[2], marks=pytest.mark.slow)])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("window", [DESKTOP, PHONE])
def test_anyone_can_read_it(
    browser: Chrome, show: Show, report: tuple[int, int], theme: str, window: tuple[int, int]
) -> None:
    """No finding of axe, such as too little contrast, and nothing to scroll for sideways except wide tables."""
    page = show(report, window, theme)
    if SCREENSHOTS:
        data = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        (Path(SCREENSHOTS) / f"{report[0]}-{report[1]}-{window[0]}-{theme}.png").write_bytes(base64.b64decode(data))
    assert page["width"] <= page["window"] == window[0]
    assert page["unloaded"] == 0
    assert (page["ground"] == "rgb(15, 19, 23)") == (theme == "dark")
    found = browser.execute_async_script(
        f"{AXE}; const done = arguments[0]; axe.run({{resultTypes: ['violations']}}).then(done)"
    )
    assert [(one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []
    assert len(found["passes"]) > 15


@pytest.mark.parametrize("report", SIZES)
def test_it_requests_nothing_and_its_policy_blocks_nothing(
    browser: Chrome, show: Show, reports: dict[tuple[int, int], Path], report: tuple[int, int]
) -> None:
    show(report)
    messages = [json.loads(entry["message"])["message"] for entry in logged(browser, "performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    own = reports[report].as_uri()
    assert own in requests
    assert [url[:80] for url in requests if url != own and not url.startswith("data:")] == []
    assert logged(browser, "browser") == []  # where a blocked style or script is reported


def test_names_with_html_in_them_stay_text(show: Show) -> None:
    for report in SIZES:
        page = show(report)
        assert page["text"].count(HOSTILE) >= 2
        assert page["scripts"] == 0
        assert page["title"] == "Training report: FCN on ResNet-50"


def test_a_keyboard_reaches_what_scrolls(browser: Chrome, show: Show) -> None:
    show((300, 150), PHONE)
    regions = browser.execute_script(
        "return [...document.querySelectorAll('.scroll')].map(one => [one.tabIndex, one.getAttribute('aria-label')])"
    )
    assert len(regions) >= 3
    assert all(index == 0 and label for index, label in regions)


def test_every_class_and_every_epoch_is_there_on_a_phone_too(browser: Chrome, show: Show) -> None:
    page = show((300, 150), PHONE, "dark")
    assert page["width"] <= page["window"]
    assert page["unloaded"] == 0
    count = "return document.querySelectorAll(arguments[0]).length"
    assert browser.execute_script(count, ".measures tbody tr") == 150
    assert browser.execute_script(count, "#epochs tbody tr") == 300
    assert browser.execute_script(count, "svg.chart polyline") == 6


def test_it_prints_on_white_with_all_its_colours(browser: Chrome, show: Show) -> None:
    show((50, 11), theme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    style = browser.execute_script(
        "const body = getComputedStyle(document.body); return [body.backgroundColor, body.color,"
        "getComputedStyle(document.querySelector('nav')).display]"
    )
    assert style == ["rgb(255, 255, 255)", "rgb(0, 0, 0)", "none"]
    paper = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert paper.startswith(b"%PDF-")
    assert paper.count(b"/Type /Page\n") in range(3, 16)
