"""The versions of what computes a training's results."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from semseg.version import __version__

_LIBRARIES = ("mxnet", "mxnet-cu112", "gluoncv", "torch", "numpy", "pillow", "openvino", "onnx")


def versions() -> dict[str, str]:
    """Returns the versions of this project, of Python and of the installed libraries by name; none is imported."""
    found = {"semseg-container": __version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
