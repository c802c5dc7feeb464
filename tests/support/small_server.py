"""`serve` for a model directory made by `small_model.write_small_model`, which loads in a moment.

The network goes by the names of declared ones, which are all that OpenAPI's description of /info allows.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from small_model import PIXELS, STACK, known

from semseg import cli


def main() -> int:
    with known((replace(STACK, name="fcn"),), (replace(PIXELS, name="resnet-50"),)):
        return cli.main(["serve"])


if __name__ == "__main__":
    sys.exit(main())
