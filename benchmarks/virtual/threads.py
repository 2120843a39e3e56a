"""Threads in virtual time: the work is done at once, and its result is there a moment later."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from unittest.mock import patch

import anyio
from anyio import to_thread

T = TypeVar("T")


@contextlib.contextmanager
def inline_threads(takes_s: float) -> Iterator[None]:
    """Let every `to_thread.run_sync` of this process do its work in place; its caller waits *takes_s* virtual seconds.

    All code reaches the function through its module, so this one place serves for all of it.
    """

    async def run_sync(
        function: Callable[..., T],
        *args: Any,
        abandon_on_cancel: bool = False,
        limiter: anyio.CapacityLimiter | None = None,
    ) -> T:
        await anyio.lowlevel.checkpoint_if_cancelled()
        async with limiter or contextlib.nullcontext():
            result = function(*args)
            with anyio.CancelScope(shield=not abandon_on_cancel):
                await anyio.sleep(takes_s)
        return result

    with patch.object(to_thread, "run_sync", run_sync):
        yield
