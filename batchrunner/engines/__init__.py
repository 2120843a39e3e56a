"""Engines turn admitted attempts into outcomes. `Engine.run(take, settle)` is the seam they all stand behind."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from batchrunner.model import Attempt, Outcome


class Admitted(Protocol):
    """An attempt that may be sent now: the limits have room for it and its start is committed."""

    @property
    def attempt(self) -> Attempt:
        """What to send."""
        ...

    def mark_sent(self) -> None:
        """To be called when the request really goes out; the limits count that moment."""
        ...

    def mark_begun(self) -> None:
        """To be called when the first of the answer arrives, before its end: a sign of life. Needed where `attempt.leads`."""
        ...


#: `take(n)` waits for what is admitted and returns 1 to n of it; nothing means that the run has no more.
Take = Callable[[int], Awaitable[Sequence[Admitted]]]
#: `settle(admitted, outcome)` hands the outcome over at once and returns when it is durable.
Settle = Callable[[Admitted, Outcome], Awaitable[None]]


#: The same for many at once.
SettleAll = Callable[[Sequence[tuple[Admitted, Outcome]]], Awaitable[None]]


def together(settle: Settle) -> SettleAll | None:
    """Return how many outcomes are handed over at once; None if *settle* belongs to nobody who offers that.

    For engines to which results come by the thousand: one commit, and no task for each.
    """
    found: SettleAll | None = getattr(getattr(settle, "__self__", None), "settle_all", None)
    return found


class Engine(Protocol):
    """Never waits for quota, never sleeps for a retry, never touches the store."""

    async def run(self, take: Take, settle: Settle) -> None:
        """Work until `take` has no more and every attempt taken is settled."""
        ...
