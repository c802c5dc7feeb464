"""`serve` for a model directory made by `small_model.write_small_model`, which loads in a moment."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import replace

from small_model import PIXELS, STACK, known

from semseg import cli

DECLARED = (replace(STACK, name="fcn"),), (replace(PIXELS, name="resnet-50"),)
"""The network and its backbone by names of declared ones, as OpenAPI's description of /info allows no others."""

FOR_GOOD = ExitStack()
"""Never closed: a worker that is stopped leaves `main` while its thread may still load the model."""


def main() -> int:
    FOR_GOOD.enter_context(known(*DECLARED))
    return cli.main(["serve", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
