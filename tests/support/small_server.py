"""`serve` for a model directory made by `small_model.write_small_model`, which loads in a moment.

The network goes by the names of declared ones, which are all that OpenAPI's description of /info allows.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace

from small_model import PIXELS, STACK, known

from semseg import cli

FOR_GOOD = ExitStack()
"""Never closed: a worker that is stopped leaves `main` while its thread may still load the model."""


def main() -> int:
    FOR_GOOD.enter_context(known((replace(STACK, name="fcn"),), (replace(PIXELS, name="resnet-50"),)))
    return cli.main(["serve"])


if __name__ == "__main__":
    sys.exit(main())
