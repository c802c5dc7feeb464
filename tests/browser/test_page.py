"""The page to try a model, at a real server: as people use it, in both themes, on a phone, with a keyboard."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import axe_core_python
import faulty_server
import numpy as np
import pytest
import small_server
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from serve_process import EXACT, Server, serving, wait_until
from small_model import write_small_model

from semseg.types import UInt8

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
SCREENSHOTS = os.environ.get("SEMSEG_SCREENSHOTS")
"""A folder for images of the page, to look at."""

DESKTOP, PHONE = (1280, 800), (375, 740)
NAMES = ["background", "road & <b>rail</b>", "building", "vegetation and other plants", "sky"]
COLOURS = ["#000000", "#804080", "#464646", "#6b8e23", "#4682b4"]
SECONDS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of a small network whose classes are bands of brightness, class 0 the darkest."""
    base = tmp_path_factory.mktemp("served")
    model = write_small_model(base / "model", len(NAMES), banded=True)
    (model / "hyperparams.json").write_text(json.dumps({"algorithm": "fcn", "num_classes": str(len(NAMES))}))
    (model / "classes.json").write_text(json.dumps({"classes": NAMES, "colors": dict(enumerate(COLOURS))}))
    with serving(base, base, small_server.__file__, SEMSEG_PAGE="on", SEMSEG_MAX_PIXELS="13000000", **EXACT) as server:
        yield server


def logged(browser: Any, kind: str) -> list[dict[str, Any]]:
    """The entries of a log of the browser since the last call."""
    return list(browser.get_log(kind))


GREYS = (30, 86, 115, 143, 220)
"""A brightness that each class is predicted for."""


def bands(height: int = 60, width: int = 100) -> UInt8:
    """Five vertical bands, from dark to bright: a class each."""
    grey = np.repeat(np.array(GREYS, np.uint8), width // len(GREYS))
    return np.ascontiguousarray(np.broadcast_to(grey[None, :, None], (height, width, 3)))


class Page:
    """The page in the browser."""

    def __init__(self, browser: Chrome, server: Server) -> None:
        self.browser = browser
        self._address = f"http://127.0.0.1:{server.port}"

    def open(self, path: str = "/", window: tuple[int, int] = DESKTOP, theme: str = "light") -> None:
        width, height = window
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": window == PHONE}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        self.browser.get(self._address + path)
        if path == "/":
            self.wait(lambda: self["engine"].text != "…")

    def __getitem__(self, name: str) -> WebElement:
        return self.browser.find_element(By.ID, name)

    def wait(self, condition: Callable[[], Any]) -> None:
        WebDriverWait(self.browser, SECONDS, poll_frequency=0.05).until(lambda _: condition())

    def wait_for_text(self, name: str, words: str) -> None:
        self.wait(lambda: words in self[name].text)

    def choose(self, file: Path) -> None:
        """Chooses a file and waits until the server has answered."""
        self["file"].send_keys(str(file))
        self.wait(lambda: self["stage"].get_attribute("aria-busy") == "false")

    def segment(self, file: Path) -> None:
        self.choose(file)
        self.wait(lambda: self["result"].is_displayed())

    def script(self, code: str, *arguments: Any) -> Any:
        return self.browser.execute_script(code, *arguments)

    def mask(self, x: int, y: int) -> list[int]:
        """A pixel of the mask as it is drawn: red, green, blue, alpha."""
        return self.pixel("mask", x, y)

    def pixel(self, canvas: str, x: int, y: int) -> list[int]:
        """A pixel of a canvas: red, green, blue, alpha."""
        code = """
            const [canvas, x, y] = arguments;
            return [...document.getElementById(canvas).getContext("2d").getImageData(x, y, 1, 1).data];
        """
        return list(self.script(code, canvas, x, y))

    def legend(self) -> list[tuple[str, str]]:
        rows = self["legend"].find_elements(By.TAG_NAME, "li")
        return [
            (row.find_element(By.CLASS_NAME, "name").text, row.find_element(By.CLASS_NAME, "share").text)
            for row in rows
        ]

    def readout(self) -> tuple[str, int, int, int]:
        """What is shown of the pixel under the pointer: name of the class, percent, column and row."""
        found = re.fullmatch(r"(.+), (\d+) % sure, at (\d+), (\d+)", self["readout"].text)
        assert found, self["readout"].text
        return found[1], int(found[2]), int(found[3]), int(found[4])

    def toggle(self, name: str) -> None:
        for row in self["legend"].find_elements(By.TAG_NAME, "li"):
            if row.find_element(By.CLASS_NAME, "name").text == name:
                row.find_element(By.TAG_NAME, "input").click()

    def screenshot(self, name: str) -> None:
        if SCREENSHOTS:
            data = self.browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
            (Path(SCREENSHOTS) / f"{name}.png").write_bytes(base64.b64decode(data))

    def findings(self) -> list[tuple[str, str, str]]:
        """What axe finds, such as too little contrast."""
        found = self.browser.execute_async_script(
            f"{AXE}; const done = arguments[0]; axe.run({{resultTypes: ['violations']}}).then(done)"
        )
        assert len(found["passes"]) > 15
        return [(one["id"], one["impact"], one["nodes"][0]["html"][:200]) for one in found["violations"]]

    def log(self) -> list[str]:
        """What the browser has reported since the last call, such as what a policy blocks."""
        return [entry["message"] for entry in logged(self.browser, "browser")]


@pytest.fixture
def page(browser: Chrome, server: Server) -> Page:
    page = Page(browser, server)
    page.log()
    return page


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(bands()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_an_image_is_segmented_and_explained(page: Page, photo: Path) -> None:
    page.open()
    assert page["model"].text.startswith("fcn on resnet-50, 5 classes.")
    assert (page["engine"].text, page["precision"].text) == ("openvino", "f32")
    page.segment(photo)
    assert sorted(page.legend()) == sorted((name, "20 %") for name in NAMES)
    assert page["size"].text == "100 x 60"
    assert page["time"].text.endswith(" s")
    assert page.mask(30, 30) == [0x80, 0x40, 0x80, 255]
    assert page.mask(10, 30)[3] == 0  # black is transparent, as in overlays
    assert str(page["status"].get_attribute("textContent")).startswith("Segmented in ")


def test_the_pointer_shows_class_and_confidence(page: Page, photo: Path) -> None:
    page.open()
    page.segment(photo)
    layers = page["layers"]
    ActionChains(page.browser).move_to_element_with_offset(layers, round(0.4 * layers.size["width"]), 0).perform()
    name, sure, x, y = page.readout()
    assert (name, sure > 50) == ("sky", True)
    assert x in range(89, 92)
    assert y in range(29, 32)
    layers.send_keys(Keys.ARROW_LEFT * 3)
    assert page.readout()[2:] == (x - 3, y)
    layers.send_keys(Keys.SHIFT + Keys.ARROW_LEFT)
    assert page.readout()[0] == "vegetation and other plants"
    assert page.readout()[2:] == (x - 13, y)
    assert page["cross"].is_displayed()
    layers.send_keys(Keys.ARROW_UP * 99)
    assert page.readout()[2:] == (x - 13, 0)


def test_the_slider_changes_the_mask_s_opacity(page: Page, photo: Path) -> None:
    page.open()
    page.segment(photo)
    assert page["mask"].value_of_css_property("opacity") == "0.6"
    page["opacity"].send_keys(Keys.ARROW_RIGHT * 5)
    assert page["mask"].value_of_css_property("opacity") == "0.65"
    assert page["opacity-text"].text == "65 %"
    page["opacity"].send_keys(Keys.HOME)
    assert page["mask"].value_of_css_property("opacity") == "0"


def test_classes_are_hidden_and_shown(page: Page, photo: Path) -> None:
    page.open()
    page.segment(photo)
    page.toggle(NAMES[1])
    assert page.mask(30, 30)[3] == 0
    assert page.mask(50, 30)[3] == 255
    page.toggle(NAMES[1])
    assert page.mask(30, 30)[3] == 255
    page["none"].click()
    assert page.mask(50, 30)[3] == 0
    page["all"].click()
    assert page.mask(50, 30)[3] == 255


def test_mask_overlay_and_json_are_downloaded(page: Page, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    page.open()
    page.segment(photo)
    page["opacity"].send_keys(Keys.END)
    for name, file in (("mask", "photo-mask.png"), ("overlay", "photo-overlay.png"), ("json", "photo.json")):
        page[f"save-{name}"].click()
        wait_until((folder / file).exists)
    with Image.open(folder / "photo-mask.png") as mask:
        assert mask.mode == "L"
        np.testing.assert_array_equal(np.unique(np.asarray(mask)), np.arange(len(NAMES)))
        np.testing.assert_array_equal(np.asarray(mask)[0, ::20], np.arange(len(NAMES)))
    with Image.open(folder / "photo-overlay.png") as overlay:
        pixels = np.asarray(overlay.convert("RGB"))
    assert pixels.shape == (60, 100, 3)
    assert pixels[30, 30].tolist() == [0x80, 0x40, 0x80]
    assert pixels[30, 10].tolist() == [GREYS[0]] * 3
    summary = json.loads((folder / "photo.json").read_text())
    assert [entry["name"] for entry in summary["classes"]] == NAMES


def test_a_mask_has_the_name_of_its_own_image_if_another_is_chosen_meanwhile(
    page: Page, photo: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    Image.fromarray(bands(30, 50)).save(tmp_path / "other.png")
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    page.open()
    page.segment(photo)
    page.script("""
        const { fetch } = window;
        const released = new Promise((release) => { window.release = release; });
        window.fetch = async (address, request) => {
            if (request.headers.Accept === "image/png") await released;
            return fetch(address, request);
        };
    """)
    page["save-mask"].click()
    page.segment(tmp_path / "other.png")
    page.wait_for_text("size", "50 x 30")
    page.script("window.release()")
    wait_until(lambda: any(folder.glob("*.png")))
    (saved,) = folder.glob("*.png")
    assert saved.name == "photo-mask.png"
    with Image.open(saved) as mask:
        assert mask.size == (100, 60)


def test_a_broken_file_is_refused_in_the_server_s_words(page: Page, photo: Path, tmp_path: Path) -> None:
    page.open()
    page.segment(photo)
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:60])
    (tmp_path / "text.png").write_text("<!doctype html>")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, words in (("broken", "The image"), ("text", "This is an HTML page"), ("empty", "The file is empty.")):
        page.choose(tmp_path / f"{name}.png")
        page.wait_for_text("alert-title", words)
        assert page["alert"].is_displayed()
        assert not page["retry"].is_displayed()
        assert not page["result"].is_displayed()
    page.segment(photo)
    assert not page["alert"].is_displayed()


def test_an_image_is_dropped_or_pasted(page: Page, photo: Path) -> None:
    give = """
        const [kind, text] = arguments;
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], "given.png", {type: "image/png"}));
        const event = kind === "drop" ? new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true})
                                      : new ClipboardEvent(kind, {clipboardData: data, bubbles: true});
        document.body.dispatchEvent(event);
    """
    for kind in ("drop", "paste"):
        page.open()
        page.script(give, kind, base64.b64encode(photo.read_bytes()).decode())
        page.wait(lambda: page["result"].is_displayed())
        assert len(page.legend()) == len(NAMES)


@pytest.mark.parametrize("form", ["jpg", "png"])
def test_pixels_are_shown_as_stored_whatever_exif_says(page: Page, tmp_path: Path, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(bands()).save(tmp_path / f"turned.{form}", exif=exif)
    page.open()
    page.segment(tmp_path / f"turned.{form}")
    assert page["size"].text == "100 x 60"
    assert page.pixel("image", 95, 5)[0] > 200  # the brightest, on the right
    assert page.mask(90, 30) == [0x46, 0x82, 0xB4, 255]


@pytest.mark.slow
def test_a_large_photo_is_segmented(page: Page, tmp_path: Path) -> None:
    Image.fromarray(bands(3000, 4000)).save(tmp_path / "large.jpg", quality=90)
    page.open()
    page.segment(tmp_path / "large.jpg")
    assert page["size"].text == "4000 x 3000"
    assert [share for _, share in page.legend()] == ["20 %"] * len(NAMES)
    assert page.script("return document.documentElement.scrollWidth") <= DESKTOP[0]


def test_an_image_beyond_the_server_s_limit_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (5000, 3000)).save(file, "PNG")
    (tmp_path / "larger.png").write_bytes(file.getvalue())
    page.open()
    page.choose(tmp_path / "larger.png")
    page.wait_for_text("alert-title", "more than the 13000000 allowed")


def test_a_busy_server_is_reported_and_can_be_tried_again(browser: Chrome, photo: Path, tmp_path: Path) -> None:
    """One image is segmented, no other may wait."""
    program = faulty_server.__file__
    with serving(tmp_path, tmp_path, program, "waits", str(tmp_path), SEMSEG_QUEUE="0", SEMSEG_PAGE="on") as server:
        page = Page(browser, server)
        page.open()
        with closing(server.connect()) as held:
            held.request("POST", "/invocations", photo.read_bytes(), {"Accept": "image/png"})
            wait_until((tmp_path / "seen").exists)
            page.choose(photo)
            page.wait_for_text("alert-title", "1 images are being segmented or waiting already.")
            assert "Try again later" in page["alert-hint"].text
            (tmp_path / "go").touch()
            assert held.getresponse().read()
        page["retry"].click()
        page.wait(lambda: page["result"].is_displayed())
        assert not page["alert"].is_displayed()
    page.choose(photo)
    page.wait_for_text("alert-title", "The server cannot be reached.")


@pytest.mark.parametrize(
    ("window", "theme"),
    [
        (DESKTOP, "light"),
        (PHONE, "dark"),
        pytest.param(DESKTOP, "dark", marks=pytest.mark.slow),
        pytest.param(PHONE, "light", marks=pytest.mark.slow),
    ],
)
def test_anyone_can_use_it(page: Page, photo: Path, tmp_path: Path, window: tuple[int, int], theme: str) -> None:
    """No finding of axe, and nothing to scroll for sideways: empty, with a result, with an error, and /docs."""
    name = f"{window[0]}-{theme}"
    page.open("/", window, theme)
    states: dict[str, Callable[[], None]] = {
        "empty": lambda: None,
        "result": lambda: page.segment(photo),
        "error": lambda: page.choose(tmp_path / "text.png"),
        "docs": lambda: page.open("/docs", window, theme),
    }
    (tmp_path / "text.png").write_text("no image")
    for state, reach in states.items():
        reach()
        page.screenshot(f"{state}-{name}")
        assert page.findings() == [], state
        assert page.script("return document.documentElement.scrollWidth") == window[0]
        ground = page.script("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(19, 23, 22)") == (theme == "dark")


@pytest.mark.parametrize("window", [(1200, 800), PHONE])
def test_the_examples_of_a_request_fit_into_their_boxes(page: Page, window: tuple[int, int]) -> None:
    page.open("/", window)
    page.script("document.getElementById('python').scrollIntoView()")
    page.screenshot(f"examples-{window[0]}")
    for name in ("curl", "python"):
        box = "document.getElementById(arguments[0]).parentElement"
        content, room = page.script(f"return [{box}.scrollWidth, {box}.clientWidth]", name)
        assert content <= room


def test_a_keyboard_reaches_everything(page: Page, photo: Path) -> None:
    page.open()
    page.segment(photo)
    page.script("document.activeElement.blur()")
    reached = []
    for _ in range(40):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        reached.append(page.script("const one = document.activeElement; return one.id || one.type || one.tagName"))
        if reached[-1] == "BODY":
            break
    for name in ("layers", "file", "camera", "opacity", "all", "none", "save-mask", "save-overlay", "save-json"):
        assert name in reached, reached
    assert reached.count("checkbox") == len(NAMES)


def test_the_policy_blocks_nothing_and_nothing_is_requested_from_elsewhere(
    page: Page, photo: Path, server: Server
) -> None:
    logged(page.browser, "performance")
    page.open()
    page.segment(photo)
    page["save-mask"].click()
    page.open("/docs")
    messages = [json.loads(entry["message"])["message"] for entry in logged(page.browser, "performance")]
    requests = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert len(requests) > 5
    own = f"http://127.0.0.1:{server.port}/"
    assert [url for url in requests if not url.startswith((own, f"blob:{own}"))] == []
    assert page.log() == []
