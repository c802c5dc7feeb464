from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from semseg.serving.answers import OFFERS
from semseg.serving.openapi import description
from semseg.serving.page.docs import docs_html

_VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """The text of a page; raises AssertionError for elements that are not closed where they should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_everything_that_the_description_says_can_be_read() -> None:
    text = description(OFFERS)
    described: Any = json.loads(text)
    page = Page(docs_html(text))
    shown = "".join(page.text)
    operations = [operation for item in described["paths"].values() for operation in item.values()]
    assert page.ids == [operation["operationId"] for operation in operations]
    for path, item in described["paths"].items():
        assert path in shown
        for operation in item.values():
            assert operation["summary"] in shown
    for media_type, offer in OFFERS.items():
        assert media_type in shown
        for name, parameter in offer.parameters.items():
            assert f"{name}={parameter.accepts}" in shown
    for response in described["components"]["responses"].values():
        assert response["description"].replace("`", "") in shown


def test_texts_are_escaped() -> None:
    described = json.loads(description(OFFERS))
    described["info"]["title"] = "<script>alert(1)</script>"
    described["paths"]["/ping"]["get"]["summary"] = "a < b & `<i>`"
    page = docs_html(json.dumps(described))
    assert "<script" not in page
    assert "a &lt; b &amp; `&lt;i&gt;`" in page
