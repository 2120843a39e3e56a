"""The book of the second route over the real store: which batches there are, and what sits in them."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import anyio
from anyio import to_thread

from batchrunner.batch import KEPT_S, Batch, BatchState, Remote, RowKey
from batchrunner.clock import Clock, stamp
from batchrunner.counts import Counts
from batchrunner.engines import Admitted
from batchrunner.model import Attempt
from batchrunner.policy.courses import Span
from batchrunner.store.batch_log import BatchLog
from batchrunner.store.batch_settling import Freed
from batchrunner.store.batches import CancelAsked, Closed, Intended, Told
from batchrunner.store.queue import Claimed
from batchrunner.store.writer import Change, Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchTicket:
    """An attempt that is, or is to be, a row of a batch."""

    attempt: Attempt
    batch: Batch | None = None  #: None: not in one yet.

    @staticmethod
    def mark_sent() -> None:
        """Do nothing: no limit of ours counts it, and what holds on to this must not hold on to the prompt."""

    @staticmethod
    def mark_begun() -> None:
        """Do nothing: nobody waits for the first of an answer."""


@dataclass(slots=True)
class Place:
    """Where a model class stands in its queue."""

    after: int = 0  #: Of what has no marked prefix.
    fresh: bool = True
    path: str = ""  #: Of what has one, and stands in the order of its prefixes, so that batches share them.
    path_after: int = 0
    marked: bool = True
    try_at: float = -math.inf  #: When it is worth looking for retries; inf: there are none.

    @property
    def has_fresh(self) -> bool:
        """Whether there may be requests that were never handed out."""
        return self.fresh or self.marked

    def span(self) -> Span | None:
        """Return the span to claim next; None: what has no marked prefix."""
        return None if self.fresh else Span(self.path, self.path_after)

    def took(self, claimed: Claimed) -> None:
        """Go on after what was *claimed* of the span."""
        if self.fresh:
            self.after, self.fresh = claimed.after, claimed.fresh
        else:
            self.path, self.path_after, self.marked = claimed.path, claimed.after, claimed.fresh

    def begin_anew(self) -> None:
        """Something came back to where it stood."""
        self.after, self.fresh, self.path, self.path_after, self.marked = 0, True, "", 0, True
        self.try_at = -math.inf


@dataclass(frozen=True, slots=True)
class Post:
    """Where a run on the second route stands."""

    run_id: int
    endpoint: str  #: Address.
    endpoint_name: str | None = None
    submits: bool = True  #: False: nothing new goes out.
    retries: bool = True  #: False: what fails, or comes back, is left to others.
    gather_s: float = 60.0  #: Retries wait so long for company, so that they share a batch.
    largest_row: int = 1 << 27  #: Bytes.


class BatchRecords:
    """The `Book` of the batches engine: what it is told is committed before it returns."""

    def __init__(self, log: BatchLog, writer: Writer, clock: Clock, post: Post) -> None:
        self.counts = Counts()
        self._log = log
        self._writer = writer
        self._clock = clock
        self._post = post
        self._open = {batch.id: batch for batch in log.open()}
        self._sitting = log.sitting()
        self._places = {name: Place() for name in log.model_classes()}
        self._in_hand: dict[int, float | None] = {}  # seq of what was taken and is in no batch yet; what it may cost
        self._reading = anyio.CapacityLimiter(1)
        self._news = anyio.Event()

    @property
    def sitting(self) -> int:
        """How many requests sit in batches."""
        return max(0, self._sitting)

    def open(self) -> Sequence[Batch]:
        """Return the batches that requests sit in."""
        return list(self._open.values())

    async def intend(self, nonce: str, keys: Sequence[RowKey], size: int) -> Batch:
        """Commit that a batch of these rows is about to be sent."""
        costs = [self._in_hand.get(key.seq) for key in keys]
        possible_usd = None if None in costs else sum(cost or 0.0 for cost in costs)
        post = self._post
        await self._commit(Intended(nonce, post.run_id, post.endpoint, size, self._stamp(), keys, possible_usd))
        batch = await self._read(self._log.by_nonce, nonce)
        self._open[batch.id] = batch
        for key in keys:
            self._in_hand.pop(key.seq, None)
        self.counts.sent += len(keys)
        self._sitting += len(keys)
        return batch

    async def known(self) -> Collection[str]:
        """Return the API's ids of all batches on record."""
        return await self._read(lambda _: self._log.known(), None)

    async def told(self, batch: Batch, remote: Remote) -> Batch:
        """Commit what the API says of *batch*."""
        created = datetime.fromisoformat(remote.created_at)
        results_until = stamp(created + timedelta(seconds=KEPT_S))
        await self._commit(Told(batch.id, remote, results_until, self._stamp()))
        batch = await self._read(self._log.by_nonce, batch.nonce)
        if batch.id in self._open:
            self._open[batch.id] = batch
        return batch

    async def asked_to_cancel(self, batch: Batch) -> None:
        """Commit that the API was asked to cancel *batch*."""
        await self._commit(CancelAsked(batch.id, self._stamp()))

    async def recall(self, batch: Batch, keys: Sequence[RowKey]) -> Sequence[Admitted]:
        """Return the attempts among *keys* that sit in *batch*."""
        batch = self._open.get(batch.id, batch)
        found = await self._read(lambda wanted: self._log.recall(batch, wanted), keys)
        return [BatchTicket(attempt, batch) for attempt in found]

    async def free(self, batch: Batch, keys: Sequence[RowKey]) -> None:
        """Commit that these rows were never worked on: they are due again at once."""
        await self._commit(Freed(batch.id, [key.seq for key in keys], self._stamp()))
        self._sitting -= len(keys)
        for place in self._places.values():
            place.try_at = min(place.try_at, self._clock.monotonic())
        self._news.set()

    async def left(self, batch: Batch) -> Sequence[RowKey]:
        """Return some of the rows that still sit in *batch*."""
        return await self._read(self._log.left, batch)

    async def close(self, batch: Batch, state: BatchState) -> None:
        """Commit that *batch* is done with."""
        await self._commit(Closed(batch.id, state, self._stamp()))
        if state is BatchState.WITHDRAWN:
            self._sitting -= batch.requests
        self._open.pop(batch.id, None)
        if state is BatchState.WITHDRAWN:  # its rows stand where they stood: before the cursor
            for place in self._places.values():
                place.begin_anew()
        self._news.set()

    async def _commit(self, change: Change) -> None:
        await self._writer.submit(change).committed(change)

    async def _read(self, reading: Callable[..., T], argument: object) -> T:
        return await to_thread.run_sync(reading, argument, limiter=self._reading)

    def _stamp(self) -> str:
        return stamp(self._clock.utc_now())
