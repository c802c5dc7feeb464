"""The job's hosts, as SageMaker describes them in resourceconfig.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from semseg.errors import UserError
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.paths import Paths

_GPU_INSTANCE = re.compile(r"ml\.(p|gr?)\d.*|local_gpu", re.IGNORECASE)
"""Instance types with GPUs, such as ml.p3.2xlarge, ml.g4dn.xlarge, ml.gr6.4xlarge and the SDK's local_gpu."""


_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
"""Names of network interfaces that the libraries of both engines take; Linux allows 15 bytes."""

_MOST_HOSTS = 1000
_LONGEST_NAME = 253
"""The longest name of a host in DNS."""


@dataclass(frozen=True)
class Hosts:
    """The hosts of the job. current: this one's name; instance_type: its type, empty if unknown.

    names: of all hosts, each with the same place on every host. interface: the network interface between them.
    """

    current: str
    instance_type: str = ""
    names: tuple[str, ...] = ()
    interface: str = "eth0"

    @property
    def gpu_instance(self) -> str:
        """The instance type if it has GPUs, else empty."""
        return self.instance_type if _GPU_INSTANCE.fullmatch(self.instance_type) else ""

    @property
    def count(self) -> int:
        """The number of hosts."""
        return max(1, len(self.names))

    @property
    def index(self) -> int:
        """The place of the current host, from 0; the first one logs and saves."""
        return self.names.index(self.current) if self.names else 0


def read_hosts(paths: Paths) -> Hosts:
    """Returns the job's hosts; the current one is `algo-1` if the platform does not name it.

    Raises UserError for invalid ones.
    """
    config = read_json_object(paths.resource_config)
    current, names = config.get("current_host", "algo-1"), config.get("hosts", ["algo-1"])
    interface = config.get("network_interface_name", "eth0")
    if not isinstance(current, str) or not isinstance(names, list):
        raise UserError(f"{paths.resource_config}: current_host must be a string and hosts a list.")
    if len(names) <= 1:
        return Hosts(current, _instance_type(config, current))
    if len(names) > _MOST_HOSTS or not all(_is_name(name) for name in names) or len(set(names)) < len(names):
        raise UserError(f"{paths.resource_config}: hosts must be up to {_MOST_HOSTS} different names of hosts.")
    if current not in names:
        raise UserError(f"{paths.resource_config}: current_host must be one of hosts.")
    if not isinstance(interface, str) or not _INTERFACE.fullmatch(interface):
        raise UserError(f"{paths.resource_config}: network_interface_name must be a name such as eth0.")
    return Hosts(current, _instance_type(config, current), tuple(sorted(names)), interface)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable() and " " not in name


def _instance_type(config: Mapping[str, Any], host: str) -> str:
    """Returns the host's instance type from two undocumented fields; empty if neither has a valid one."""
    listed = config.get("instance_groups")
    groups = [group for group in listed if isinstance(group, dict)] if isinstance(listed, list) else []
    mine = [group for group in groups if isinstance(group.get("hosts"), list) and host in group["hosts"]]
    types = [config.get("current_instance_type"), *(group.get("instance_type") for group in mine)]
    return next((found for found in types if isinstance(found, str) and len(found) <= 100 and found.isprintable()), "")
