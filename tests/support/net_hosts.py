"""Hosts on one machine: network namespaces with a network of their own, which needs root and iproute2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

INTERFACE = "eth0"


class Network:
    """Namespaces, each with the interface eth0, whose other ends are in a bridge. addresses: of the hosts."""

    def __init__(self, count: int, cleanup: ExitStack) -> None:
        self._name = f"semseg{os.getpid()}"
        self.addresses = [f"10.77.0.{number}" for number in range(1, count + 1)]
        switch = self._namespace("switch", cleanup)
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for number, address in enumerate(self.addresses):
            host = self._namespace(str(number), cleanup)
            ip("-n", switch, "link", "add", f"v{number}", "type", "veth", "peer", "name", INTERFACE, "netns", host)
            ip("-n", switch, "link", "set", f"v{number}", "master", "bridge", "up")
            ip("-n", host, "address", "add", f"{address}/24", "dev", INTERFACE)
            for name in ("lo", INTERFACE):
                ip("-n", host, "link", "set", name, "up")

    def prefix(self, host: int) -> tuple[str, ...]:
        """The beginning of a command that runs on a host."""
        return ("ip", "netns", "exec", f"{self._name}-{host}")

    def cut(self, host: int) -> None:
        """Cuts a host off from the others, silently."""
        ip("-n", f"{self._name}-switch", "link", "set", f"v{host}", "down")

    def _namespace(self, name: str, cleanup: ExitStack) -> str:
        whole = f"{self._name}-{name}"
        ip("netns", "add", whole)
        cleanup.callback(ip, "netns", "delete", whole)
        return whole


def ip(*arguments: str) -> None:
    """Runs iproute2's `ip`. Raises CalledProcessError and, where it is missing, FileNotFoundError."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)


@contextmanager
def network(count: int) -> Iterator[Network]:
    """A network of hosts, for as long as the block runs."""
    with ExitStack() as cleanup:
        yield Network(count, cleanup)


def impossible() -> str:
    """Why there can be no such network here; empty if there can."""
    try:
        with network(1):
            return ""
    except FileNotFoundError:
        return "iproute2 is not installed"
    except subprocess.CalledProcessError as error:
        return f"no network namespaces: {error.stderr.strip()}"
