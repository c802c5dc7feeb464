"""The optimizers: one table gives the choice, its documentation, what an engine sets, and the tests' parameters.

To add one, add a line here, and in an engine what its library calls otherwise (`engines/gluon/optimizers.py`).
"""

from __future__ import annotations

OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum", "weight_decay"),
    "adam": (),
    "rmsprop": ("gamma1", "gamma2"),
    "adagrad": (),
    "nag": ("momentum", "weight_decay"),
}
"""The hyperparameters that each reads beside learning_rate, which scales every step, and _gradient_clip.

nag is sgd in Nesterov's form, rmsprop the centered one (Graves, 2013). The order is that of the built-in algorithm.
"""


def readers(hyperparameter: str) -> str:
    """Return the optimizers that read a hyperparameter, for its documentation: "sgd and nag"."""
    return " and ".join(name for name, read in OPTIMIZERS.items() if hyperparameter in read)
