"""Virtual time: an event loop whose clock jumps to the next timer, and a `Clock` that reads it. Nothing ever waits."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

#: Where virtual time begins: on the loop's clock, and in UTC.
START_S = 1000.0
START = datetime(2026, 11, 22, 14, tzinfo=UTC)

#: What a round of the loop takes. Were it nothing, a timer set a rounding error too early would be set again for ever.
_ROUND_S = 1e-9


class _Jumping(selectors.DefaultSelector):
    """Where a selector would wait for a timer, the loop's clock is set forward instead."""

    jump: Callable[[float], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, and let the time pass that would have been waited."""
        ready = super().select(0)
        if timeout is None and not ready:
            raise AssertionError("everybody waits and no timer is set: a deadlock")
        self.jump(_ROUND_S + (0.0 if ready else timeout or 0.0))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time. No threads: they would wait in real time."""

    def __init__(self) -> None:
        selector = _Jumping()
        self._now = START_S
        super().__init__(selector)
        selector.jump = self._jump

    def time(self) -> float:
        """Return the virtual instant."""
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class VirtualClock:
    """A `Clock` on a `VirtualLoop`."""

    def __init__(self) -> None:
        self._slept_s = 0.0

    def monotonic(self) -> float:
        """Return the virtual instant."""
        return asyncio.get_running_loop().time()

    def utc_now(self) -> datetime:
        """Return the moment in UTC that belongs to the virtual instant."""
        return START + timedelta(seconds=self.monotonic() - START_S + self._slept_s)

    async def sleep_until(self, instant: float) -> None:
        """Return at *instant* or at once if it has passed."""
        await anyio.sleep(max(0.0, instant - self.monotonic()))

    def suspend(self, seconds: float) -> None:
        """Let the machine have slept: UTC has gone on, and the rest of the world, while the monotonic clock stood."""
        self._slept_s += seconds


def in_virtual_time(function: Callable[..., Awaitable[T]], *args: object) -> T:
    """Run *function* on a `VirtualLoop` of its own."""
    options: Mapping[str, Any] = {"loop_factory": VirtualLoop}
    return anyio.run(function, *args, backend_options=dict(options))
