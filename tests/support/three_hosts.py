"""The three hosts of a job, on the loopback interface, and their meeting."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from semseg.sagemaker.hosts import Hosts
from semseg.training.meeting import Hello, call, gather

NAMES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
SECONDS = 30.0
GO = threading.Event()
"""Never set: nothing stops the hosts."""


def hosts(number: int) -> Hosts:
    """The hosts, as the one of this number sees them."""
    return Hosts(NAMES[number], names=NAMES, interface="lo")


def hello(number: int, job: str = "same") -> Hello:
    return Hello(NAMES[number], {"the job": job}, {"pairs": 10 * number})


def gathering(pool: ThreadPoolExecutor, listener: socket.socket, stop: threading.Event = GO) -> Future[Any]:
    """The first host waits for the others."""
    return pool.submit(gather, listener, hosts(0), hello(0), SECONDS, stop)


def calling(pool: ThreadPoolExecutor, number: int, job: str = "same", stop: threading.Event = GO) -> Future[Any]:
    """Another host calls the first."""
    return pool.submit(call, hosts(number), hello(number, job), SECONDS, stop)
