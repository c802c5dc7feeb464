"""The pages in Markdown fit together: their links lead somewhere, the first is short and has the two commands first."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image
from readme import PAGES, ROOT

FIRST = ROOT / "README.md"
FOLDERS = ("docker", "scripts", "src", "tests")
MARKDOWN = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])


def tokens(page: Path) -> list[Token]:
    parsed = MarkdownIt("commonmark").enable("table").parse(page.read_text())
    return [inner for token in parsed for inner in (token, *(token.children or ()))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them, without the numbers of repeated headings."""
    found = tokens(page)
    headings = [after.content for token, after in pairwise(found) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return [str(token.attrs[key]) for token in tokens(page) for key in ("href", "src") if key in token.attrs]


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_have_at_most_120_characters(page: Path) -> None:
    """Except rows of tables, which cannot be broken."""
    assert [line for line in page.read_text().splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not parts.fragment or parts.fragment in anchors(target), link


def test_each_page_for_users_is_in_the_contents() -> None:
    linked = [link for link in links(FIRST) if link in PAGES]
    assert list(dict.fromkeys(linked[linked.index(PAGES[1], 1) :]))[: len(PAGES) - 1] == list(PAGES[1:])


def test_the_first_page_is_short_and_starts_with_the_demo_and_the_tests() -> None:
    assert len(FIRST.read_text().splitlines()) <= 250
    commands = [token.content for token in tokens(FIRST) if token.type in ("code_block", "fence")]
    assert commands[:2] == ["scripts/demo\n", "scripts/test\n"]


def test_the_image_is_small_and_what_its_script_draws(tmp_path: Path) -> None:
    (shown,) = (link for link in links(FIRST) if link.endswith(".webp"))
    assert (ROOT / shown).stat().st_size < 30_000
    script = ROOT / "scripts/examples/readme_image.py"
    subprocess.run([sys.executable, script, tmp_path / "drawn.webp"], check=True, timeout=60)
    with Image.open(ROOT / shown) as stored, Image.open(tmp_path / "drawn.webp") as drawn:
        assert stored.size == drawn.size
        difference = np.abs(np.asarray(stored, int) - np.asarray(drawn, int))
    assert difference.mean() < 3  # of other versions of the codec
