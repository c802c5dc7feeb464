"""The pages for users, README.md and those of the rooms, and the blocks of code in them that tests run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

_SAGEMAKER = "src/semseg/sagemaker/README.md"
_ROOMS = ("data", "training", "serving", "client", "offline", "exporting")

PAGES = ("README.md", *(f"src/semseg/{room}/README.md" for room in _ROOMS), "docker/README.md", _SAGEMAKER)
"""In the order in which the first lists them, and in which their blocks can be run one after the other."""

README = "\n".join((ROOT / page).read_text() for page in PAGES)


def blocks(language: str) -> list[str]:
    """Returns the blocks in a language, in their order.

    Without those on SageMaker, which tests/sdk runs; blocks called shell are another language, run by tests/image.
    """
    text = "\n".join((ROOT / page).read_text() for page in PAGES if page != _SAGEMAKER)
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
