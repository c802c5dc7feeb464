"""The names in a learner's state, the same for every engine, so that one resumes what another began."""

from __future__ import annotations

from semseg.errors import ArtifactError
from semseg.types import Arrays

UPDATES = "updates"
"""The number of updates so far, int64 (1,), among the optimizer's arrays. Adam corrects its moments by it.

The other arrays of an optimizer are called ``<parameter>/<number>``, in the order of MXNet's optimizer; there are none
before the first update.
"""

_MOST_UPDATES = 1 << 53
_PARAMETER, _OPTIMIZER = "parameter/", "optimizer/"


def joined(parameters: Arrays, optimizer: Arrays) -> Arrays:
    """Return a learner's state from its parameters by structural name and its optimizer's arrays."""
    named = {_PARAMETER + name: array for name, array in parameters.items()}
    return named | {_OPTIMIZER + name: array for name, array in optimizer.items()}


def parted(state: Arrays) -> tuple[Arrays, Arrays]:
    """Return the parameters and the optimizer's arrays of a state; arrays of an engine's own are in neither."""
    return _without_prefix(_PARAMETER, state), _without_prefix(_OPTIMIZER, state)


def updates_of(optimizer: Arrays, origin: str) -> int:
    """Return the number of updates that an optimizer's arrays hold, 0 without one. Raises ArtifactError as `number`."""
    return int(number(optimizer, UPDATES, 0, (0, _MOST_UPDATES), origin))


def number(arrays: Arrays, name: str, default: float, limits: tuple[float, float], origin: str) -> float:
    """Return the only value of the array of a name, or the default where there is none.

    Raises ArtifactError, naming `origin`, if the array has another shape, no numbers, or a value outside the limits.
    """
    array = arrays.get(name)
    if array is None:
        return default
    low, high = limits
    if array.shape != (1,) or array.dtype.kind not in "iuf" or not low <= array[0] <= high:
        raise ArtifactError(f"{origin} is damaged: {name} is not one number from {low:g} to {high:g}.")
    return float(array[0])


def _without_prefix(prefix: str, arrays: Arrays) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
