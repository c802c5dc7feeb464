from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from semseg.training import calls


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of the first host of `three_hosts`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(calls, "WATCH_PORT", listening.getsockname()[1])
        monkeypatch.setattr(calls, "_TICK", 0.02)
        yield listening


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for them."""
    with ThreadPoolExecutor(4) as made:
        yield made
