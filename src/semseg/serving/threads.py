"""The threads of requests, on a system that may have none to give."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor


class PatientThreads(ThreadPoolExecutor):
    """A pool that makes do with the threads it has as long as the system gives it no more: then calls wait for these.

    The one it is made from queues such a call, and raises RuntimeError.
    """

    _unmatched = 0
    """Calls for which there was neither an idle thread nor a new one."""

    def _adjust_thread_count(self) -> None:
        """Called by `submit`, when it has queued the call, to have a thread for it."""
        self._unmatched += 1
        self.catch_up()

    def catch_up(self) -> bool:
        """Whether every call has a thread; starts those that are missing, if it can. For the thread that submits."""
        try:
            while self._unmatched:
                super()._adjust_thread_count()
                self._unmatched -= 1
        except RuntimeError:  # the system has no thread, for now
            return False
        return True
