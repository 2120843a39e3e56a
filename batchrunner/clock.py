"""Time as an argument: monotonic instants inside, UTC only at the store's border."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio

# CLOCK_BOOTTIME (Linux) and CLOCK_MONOTONIC (macOS) go on while the machine sleeps, time.monotonic() does not.
_WALL_ANCHOR = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_STAMP_CHARS = len("2026-11-22T14:03:07.123")  # what follows is the offset of UTC


class Clock(Protocol):
    """What the outer objects know of time. Instants are seconds on the monotonic clock."""

    def monotonic(self) -> float:
        """Return the present instant, in seconds; only differences mean anything."""
        ...

    def utc_now(self) -> datetime:
        """Return the present moment in UTC, aware."""
        ...

    async def sleep_until(self, instant: float) -> None:
        """Return at *instant* or at once if it has passed."""
        ...


class SystemClock:
    """The machine's clocks.

    UTC is read once and counted on from there, so that a wall clock set forward or back in mid-run neither delays a
    retry by an hour nor makes an attempt end before it began.
    """

    def __init__(self) -> None:
        self._utc_start = datetime.now(UTC)
        self._anchor = time.clock_gettime(_WALL_ANCHOR)

    def monotonic(self) -> float:
        """Return the present instant, in seconds."""
        return time.monotonic()

    def utc_now(self) -> datetime:
        """Return the present moment in UTC, aware."""
        return self._utc_start + timedelta(seconds=time.clock_gettime(_WALL_ANCHOR) - self._anchor)

    async def sleep_until(self, instant: float) -> None:
        """Return at *instant* or at once if it has passed."""
        await anyio.sleep(max(0.0, instant - time.monotonic()))


def stamp(moment: datetime) -> str:
    """Return *moment* (UTC, aware) as the store writes it: `2026-11-22T14:03:07.123Z`; texts sort as the moments do."""
    # A tenth of what `strftime` takes; two stamps are made for every request.
    return moment.isoformat(timespec="milliseconds")[:_STAMP_CHARS] + "Z"
