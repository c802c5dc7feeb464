"""A process that is killed, as far as its own functions can see: from some moment on nothing that it calls is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any
from unittest.mock import patch


class Killed(BaseException):
    """The process is gone: nothing of it is heard any more."""


@contextmanager
def killed_at(moment: int, *methods: tuple[object, str]) -> Iterator[None]:
    """Within the block the n-th call, from 1, of any of these methods, given by owner and name, raises Killed.

    So do all later calls, as clean-up is not done either.
    """
    moments = count(1)

    def killable(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(moments) >= moment:
                raise Killed
            return method(*arguments, **options)

        return call

    with ExitStack() as patches:
        for owner, name in methods:
            patches.enter_context(patch.object(owner, name, killable(getattr(owner, name))))
        yield
