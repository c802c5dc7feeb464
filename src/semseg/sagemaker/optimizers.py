"""The table of optimizers, used for the hyperparameter's choices, its documentation, engines and tests.

To add one, add a line here, and map names that differ in an engine's library (`engines/gluon/optimizers.py`).
"""

from __future__ import annotations

OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "weight_decay"),
    "adam": (),
    "rmsprop": ("gamma1", "gamma2"),
    "adagrad": (),
    "nag": ("momentum", "weight_decay"),
}
"""The hyperparameters that each optimizer reads, besides learning_rate, which scales every step, and _gradient_clip.

nag is sgd with Nesterov momentum, rmsprop the centered variant (Graves, 2013). The order is that of the built-in
algorithm.
"""


def readers(hyperparameter: str) -> str:
    """Returns the optimizers that read a hyperparameter, for its documentation: "sgd and nag"."""
    return " and ".join(name for name, read in OPTIMIZERS.items() if hyperparameter in read)
