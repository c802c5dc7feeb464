"""`serve` for a model directory made by `small_model.write_small_model`, which loads in a moment."""

from __future__ import annotations

import sys

from small_model import known

from semseg import cli


def main() -> int:
    with known():
        return cli.main(["serve"])


if __name__ == "__main__":
    sys.exit(main())
