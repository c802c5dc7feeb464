from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from semseg.errors import GroupError
from semseg.sagemaker.hosts import Hosts
from semseg.sagemaker.paths import Paths
from semseg.training import calls, launch
from semseg.training.host_link import HostLink
from semseg.training.launch import _ended_together, train_in_ranks
from semseg.training.meeting import Hello, gather
from semseg.training.peers import Peer
from semseg.training.ranks import Ranks

NAMES = ("127.0.0.1", "127.0.0.2")
SECONDS = 30.0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), ["The host algo-2: OSError: [Errno 28] No space left on device"]),
        (GroupError("Rank 2 was killed."), []),
    ],
)
def test_a_host_that_cannot_start_its_ranks_says_why_to_the_others(error: Exception, said: list[str]) -> None:
    """Those that its ranks or other hosts have caused are known there."""
    one, other = socket.socketpair()
    first = HostLink([Peer(one, "algo-2")], is_first=True)
    with one, other:
        one.shutdown(socket.SHUT_WR)  # it waits for that
        with (
            pytest.raises(type(error)),
            _ended_together(HostLink([Peer(other, "algo-1")], is_first=False), "algo-2"),
        ):
            raise error
        found = [failure.message for failure in first.poll()]
    assert found == (said or ["The host algo-2 has ended, or its connection is lost: its log may show why."])


@pytest.mark.parametrize("name", ["scratch_folder", "hello"])
def test_a_host_that_cannot_even_call_the_others_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """They wait for it by then."""
    paths = Paths(tmp_path)
    paths.hyperparameters.parent.mkdir(parents=True)
    paths.hyperparameters.write_text(json.dumps({"num_classes": "2"}))
    config = {"current_host": NAMES[1], "hosts": list(NAMES), "network_interface_name": "lo"}
    paths.resource_config.write_text(json.dumps(config))
    first, second = (Hosts(one, names=NAMES, interface="lo") for one in NAMES)
    settings = SimpleNamespace(rendezvous_minutes=15)
    checked: Any = SimpleNamespace(
        job=SimpleNamespace(paths=paths, hosts=second, ranks=Ranks(1, 2, 1), settings=settings)
    )

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with socket.create_server((NAMES[0], 0)) as listener, ThreadPoolExecutor(1) as pool, ExitStack() as resources:
        monkeypatch.setattr(calls, "WATCH_PORT", listener.getsockname()[1])
        monkeypatch.setattr(calls, "_TICK", 0.05)
        waiting = pool.submit(gather, listener, first, Hello(NAMES[0], {}, {}), SECONDS, threading.Event())
        monkeypatch.setattr(launch, name, fail)
        with pytest.raises(OSError, match="No space left"):
            train_in_ranks(checked, threading.Event(), resources, 1 << 20)
        error = waiting.exception(SECONDS)
    assert isinstance(error, GroupError)
    assert error.message.startswith("The host 127.0.0.2 cannot take part in the training: OSError: [Errno 28] No space")
