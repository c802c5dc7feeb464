from __future__ import annotations

import socket

import pytest

from semseg.errors import GroupError
from semseg.training.host_link import HostLink
from semseg.training.launch import _ended_together
from semseg.training.peers import Peer


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
