"""What a host does that cannot take part in a training: it says why to the others, which would wait for it."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from semseg.errors import HyperparameterError, SemsegError, Stopped
from semseg.sagemaker import hyperparameters
from semseg.sagemaker.config_files import read_json_object
from semseg.sagemaker.hosts import Hosts, read_hosts
from semseg.sagemaker.paths import Paths
from semseg.training.calls import SOON_SECONDS, STOP, WATCH_PORT, Caller, listening, log_waiting, reason_of, ticks
from semseg.training.failures import failure_of
from semseg.training.meeting import turn_away
from semseg.training.peers import finish


@contextmanager
def explained(paths: Paths, stop: threading.Event) -> Iterator[None]:
    """If the block, which prepares this host's part of a job, is stopped or fails, tells the other hosts why.

    They then end with the same reason. To tell them, this host waits for them as it would have to begin the training,
    `_rendezvous_minutes`, or until `stop` is set. What has ended the block is raised in any case.
    """
    try:
        yield
    except (Exception, Stopped) as ended:
        with suppress(SemsegError, OSError, Stopped):
            hosts = read_hosts(paths)
            if hosts.count > 1:
                _tell_others(hosts, ended, paths, stop)
        raise


def _tell_others(hosts: Hosts, ended: Exception | Stopped, paths: Paths, stop: threading.Event) -> None:
    """Raises Stopped once `stop` is set, and SemsegError and OSError if there is no way to tell them."""
    if isinstance(ended, Stopped):
        reason, seconds, stop = STOP, SOON_SECONDS, threading.Event()
    else:
        who = f"The host {hosts.current} cannot take part in the training"
        reason = reason_of(failure_of(ended, who, "".join(traceback.format_exception(ended))))
        seconds = SOON_SECONDS if isinstance(ended, HyperparameterError) else _rendezvous_seconds(paths)
        log_waiting(f"{who}: {ended}", seconds)
    if hosts.index:
        call_off(hosts, reason, seconds, stop)
    else:
        with listening(hosts.interface, WATCH_PORT) as listener:
            turn_away(listener, hosts, reason, seconds, stop)


def _rendezvous_seconds(paths: Paths) -> float:
    settings, _ = hyperparameters.parse(read_json_object(paths.hyperparameters))
    return 60 * settings.rendezvous_minutes


def call_off(hosts: Hosts, reason: Mapping[str, Any], seconds: float, stop: threading.Event) -> None:
    """Tells the first host why this one cannot take part, within the seconds. Raises Stopped once `stop` is set."""
    caller = Caller(hosts.names[0], {"hello": hosts.current, **reason})
    for _ in ticks(seconds, stop):
        caller.connect()
        if not caller.peer.closed:
            finish([caller.peer])
            return
