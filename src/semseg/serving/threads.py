"""A thread pool that copes with a system that has no further thread to give."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor


class PatientThreads(ThreadPoolExecutor):
    """A pool that makes do with the threads it has while the system gives it no more: calls then wait for these.

    Its base class would queue such a call, and yet raise RuntimeError.
    """

    _without_thread = 0
    """The number of calls for which there was neither an idle thread nor a new one."""

    def _adjust_thread_count(self) -> None:
        """Called by `submit` after it has queued a call, to start a thread for it."""
        self._without_thread += 1
        self.catch_up()

    def catch_up(self) -> bool:
        """Start the missing threads, and return whether every call has one. Only the submitting thread may call it."""
        try:
            while self._without_thread:
                super()._adjust_thread_count()
                self._without_thread -= 1
        except RuntimeError:  # the system has no thread to give for now
            return False
        return True
