"""The README, and the blocks of code in it that tests run."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()

_ON_SAGEMAKER = re.search(r"^## On SageMaker\n.*?(?=^## )", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """Returns the blocks in a language, in their order.

    Without those on SageMaker, which tests/sdk runs; blocks called shell are another language, run by tests/image.
    """
    assert _ON_SAGEMAKER
    return re.findall(rf"^```{language}\n(.*?)^```$", README.replace(_ON_SAGEMAKER[0], ""), re.MULTILINE | re.DOTALL)
