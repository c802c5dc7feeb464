"""The names in a learner's state, the same for every engine, so that one resumes what another began."""

from __future__ import annotations

from semseg.types import Arrays

UPDATES = "updates"
"""The number of updates so far, int64 (1,), among the optimizer's arrays. Adam corrects its moments by it.

The other arrays of an optimizer are called ``<parameter>/<number>``, in the order of MXNet's optimizer; there are none
before the first update.
"""

_PARAMETER, _OPTIMIZER = "parameter/", "optimizer/"


def joined(parameters: Arrays, optimizer: Arrays) -> Arrays:
    """Return a learner's state from its parameters by structural name and its optimizer's arrays."""
    named = {_PARAMETER + name: array for name, array in parameters.items()}
    return named | {_OPTIMIZER + name: array for name, array in optimizer.items()}


def parted(state: Arrays) -> tuple[Arrays, Arrays]:
    """Return the parameters and the optimizer's arrays of a state; arrays of an engine's own are in neither."""
    return _without_prefix(_PARAMETER, state), _without_prefix(_OPTIMIZER, state)


def _without_prefix(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
