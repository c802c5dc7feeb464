"""Identifies the network that a set of arrays belongs to, by their names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from semseg.errors import FormatError, first_few
from semseg.networks.definitions import AUXILIARY, BACKBONES, NETWORKS, Backbone, Network, titles
from semseg.networks.parameters import backbone_table, parameter_table


@dataclass(frozen=True)
class Identity:
    """The network that arrays belong to; auxiliary: whether they include the auxiliary head's."""

    network: Network
    backbone: Backbone
    num_classes: int
    auxiliary: bool


def identify(
    arrays: Mapping[str, NDArray[Any]],
    networks: Collection[Network] = NETWORKS,
    backbones: Collection[Backbone] = BACKBONES,
) -> Identity:
    """Return the network and backbone whose parameters have exactly these names, and the number of classes.

    The number of classes is read from the shape of the classifier's weight; other shapes are checked when the network
    is loaded. Raises FormatError: if most names are those of one network it lists what is missing or unknown,
    otherwise the known networks.
    """
    named = {name for name in arrays if not name.startswith(AUXILIARY)}
    backbone = min(backbones, key=lambda backbone: len(backbone_table(backbone).keys() ^ named))
    tables = [parameter_table(network, backbone, 2, auxiliary=False).keys() for network in networks]
    network, wanted = min(zip(networks, tables, strict=True), key=lambda candidate: len(candidate[1] ^ named))
    if len(wanted & named) <= len(wanted) // 2:
        raise FormatError(f"does not hold one of the networks known here: {titles(networks)} on {titles(backbones)}")
    if wanted != named:
        faults = [f"{name} is missing" for name in sorted(wanted - named)]
        faults += [f"{name!r:.100} is unknown" for name in sorted(named - wanted)]
        raise FormatError(
            f"does not hold {network.title} on {backbone.title}, the nearest network: {first_few(faults)}"
        )
    shape = arrays[f"{network.classifier}.weight"].shape
    if len(shape) != 4:
        raise FormatError(f"has no 4-dimensional {network.classifier}.weight")
    return Identity(network, backbone, shape[0], auxiliary=len(named) < len(arrays))
