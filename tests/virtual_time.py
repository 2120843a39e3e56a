"""Virtual time: an event loop whose clock jumps to the next timer, and a `Clock` that reads it. Nothing ever waits."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar

import anyio

from builders import moment

T = TypeVar("T")

#: What a round of the loop takes. Were it nothing, a timer set a rounding error too early would be set again for ever.
_ROUND_S = 1e-9


class _Jumping(selectors.DefaultSelector):
    """Where a selector would wait for a timer, the loop's clock is set forward instead."""

    jump: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if timeout is None and not ready:
            raise AssertionError("everybody waits and no timer is set: a deadlock")
        self.jump(_ROUND_S + (0.0 if ready else timeout or 0.0))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time. No threads: they would wait in real time."""

    def __init__(self) -> None:
        selector = _Jumping()
        self._now = 1000.0
        super().__init__(selector)
        selector.jump = self._jump

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class VirtualClock:
    """A `Clock` on a `VirtualLoop`; UTC starts at `builders.AT`."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def utc_now(self) -> datetime:
        return moment() + timedelta(seconds=self.monotonic() - 1000.0)

    async def sleep_until(self, instant: float) -> None:
        await anyio.sleep(max(0.0, instant - self.monotonic()))


def in_virtual_time(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run *function* on a `VirtualLoop` of its own."""
    options: Mapping[str, Any] = {"loop_factory": VirtualLoop}
    return anyio.run(function, *args, backend_options=dict(options))
