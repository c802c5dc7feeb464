"""What a host says of its job to the other hosts, and the address at which it is reached."""

from __future__ import annotations

import hashlib
import json
import socket

from semseg.errors import UserError, first_few
from semseg.machine import address_of
from semseg.training.inputs import fingerprint
from semseg.training.job import Job
from semseg.training.meeting import Hello
from semseg.version import __version__


def hello(job: Job) -> Hello:
    """Returns what this host says: what must be the same on all hosts, as digests."""
    inputs = job.inputs
    same = {
        "the version of this software": __version__,
        "the hyperparameters": _digest(job.settings.as_strings()),
        "the number of devices that train on each": str(job.ranks.local),
        "the files of their channels": _digest(fingerprint((inputs.train, inputs.validation))),
    }
    return Hello(job.hosts.current, same, {})


def require_address(interface: str) -> str:
    """Returns the IPv4 address of a network interface. Raises UserError if it has none."""
    if address := address_of(interface):
        return address
    others = [name for _, name in socket.if_nameindex() if name != interface]
    raise UserError(
        f"The network interface {interface} of resourceconfig.json has no IPv4 address on this host, which has "
        f"{first_few(others)}.",
        "Set network_interface_name to the interface between the hosts.",
    )


def _digest(values: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
