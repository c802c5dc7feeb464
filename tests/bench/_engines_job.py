"""`semseg train` for the network of `_engines_network.py`: `_engines_job.py ENGINE`, of which only that is loaded."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from unittest.mock import patch

from _engines_network import BACKBONE, NETWORK
from small_model import known

from semseg import cli
from semseg.training import components


def main() -> int:
    """Runs the job below $SAGEMAKER_BASE_DIR."""
    with ExitStack() as changed:
        changed.enter_context(known((NETWORK,), (BACKBONE,)))
        changed.enter_context(patch.multiple(components, NETWORKS=(NETWORK,), BACKBONES=(BACKBONE,)))
        if sys.argv[1] == "mxnet":
            from _engines_gluon import build

            from semseg.engines.gluon import networks

            changed.enter_context(patch.object(networks, "build", build))
        return cli.main(["train"])


if __name__ == "__main__":
    sys.exit(main())
