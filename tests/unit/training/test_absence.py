"""Hosts that cannot take part in a training, on the loopback interface."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from three_hosts import GO, NAMES, SECONDS, calling, gathering

from semseg.errors import DataError, GroupError, HyperparameterError, Stopped
from semseg.sagemaker.paths import Paths
from semseg.training import absence, calls
from semseg.training.absence import explained


@pytest.fixture
def listener(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """The socket of the first host, also where it cannot take part."""
    monkeypatch.setattr(absence, "listening", lambda *_: listener.dup())
    return listener


def prepare(folder: Path, number: int, ended: BaseException, stop: threading.Event = GO, minutes: str = "0.5") -> None:
    """Ends while it prepares its part of a job of three hosts. Raises what has ended it."""
    paths = Paths(folder / NAMES[number])
    paths.hyperparameters.parent.mkdir(parents=True)
    paths.hyperparameters.write_text(json.dumps({"num_classes": "2", "_rendezvous_minutes": minutes}))
    config = {"current_host": NAMES[number], "hosts": list(NAMES), "network_interface_name": "lo"}
    paths.resource_config.write_text(json.dumps(config))
    with explained(paths, stop):
        raise ended


DAMAGED, WRONG = DataError("b.png is damaged.", "Mend it."), HyperparameterError("num_classes is 1.")


@pytest.mark.parametrize(
    ("ended", "kind", "text", "code"),
    [
        (DAMAGED, GroupError, "cannot take part in the training: b.png is damaged. Mend it.", 1),
        (WRONG, GroupError, "cannot take part in the training: num_classes is 1.", 1),
        (KeyError("b"), GroupError, "cannot take part in the training: KeyError: 'b'", 2),
        (Stopped(), Stopped, "", 0),
    ],
)
@pytest.mark.parametrize("number", [0, 2])
def test_what_ends_a_host_before_the_training_ends_those_that_wait_for_it(
    pool: ThreadPoolExecutor,
    listener: socket.socket,
    tmp_path: Path,
    number: int,
    ended: BaseException,
    kind: type[BaseException],
    text: str,
    code: int,
) -> None:
    """They get its reason and its exit code, whether it is the first host, to which the others come, or another."""
    others = [calling(pool, one) for one in (1, 2) if one != number]
    others += [gathering(pool, listener)] if number else []
    with pytest.raises(type(ended)) as raised:
        prepare(tmp_path, number, ended)
    assert raised.value is ended
    for other in others:
        error = other.exception(SECONDS)
        assert type(error) is kind
        if isinstance(error, GroupError):
            assert (str(error), error.exit_code) == (f"The host {NAMES[number]} {text}", code)


def test_all_hosts_end_with_errors_of_their_own(
    pool: ThreadPoolExecutor, listener: socket.socket, tmp_path: Path
) -> None:
    found = [pool.submit(prepare, tmp_path, number, DataError(f"{number} is damaged.")) for number in range(3)]
    assert [str(one.exception(SECONDS)) for one in found] == [f"{number} is damaged." for number in range(3)]


@pytest.mark.usefixtures("listener")
@pytest.mark.parametrize("number", [0, 2])
def test_a_host_does_not_wait_for_ever_to_say_why(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor at all once it is stopped. In place of the third host's first one nothing listens."""
    if number:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            monkeypatch.setattr(calls, "WATCH_PORT", closed.getsockname()[1])
    with pytest.raises(DataError):
        prepare(tmp_path / "a", number, DAMAGED, minutes="0.001")
    stop = threading.Event()
    stop.set()
    with pytest.raises(DataError):
        prepare(tmp_path / "b", number, DAMAGED, stop)


def test_a_job_of_one_host_has_nobody_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absence, "_tell_others", lambda *_: pytest.fail("it tells others"))
    with pytest.raises(DataError), explained(Paths(tmp_path), GO):
        raise DAMAGED
