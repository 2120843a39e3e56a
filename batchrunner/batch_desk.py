"""The desk of the second route: hands out what is due for batches, keeps the book of them, settles their rows.

It stands where the dispatcher stands on the live route. There are no lanes, slots or rates: the API has a queue of its
own. What is on record before an attempt goes out is its batch, with all its rows, in one commit.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

import anyio
from anyio import to_thread

from batchrunner.audience import Audience, Nobody
from batchrunner.batch import KEPT_S, Batch, BatchState, Remote, RowKey
from batchrunner.clock import Clock, stamp
from batchrunner.counts import Counts
from batchrunner.engines import Admitted
from batchrunner.errors import StoreError
from batchrunner.lane import monotonic_of, utc_stamp
from batchrunner.model import Attempt, ErrorClass, Fail, Failure, Halt, Outcome, Retry, Settlement
from batchrunner.policy.batching import why_not
from batchrunner.policy.judge import Judge
from batchrunner.policy.tolerance import HaltAt
from batchrunner.store.batch_log import BatchLog
from batchrunner.store.batch_settling import Freed, FromBatch, SettledRows
from batchrunner.store.batches import CancelAsked, Closed, Intended, Told
from batchrunner.store.changes import Settled, Started
from batchrunner.store.queue import Claim
from batchrunner.store.writer import Change, Group, Writer

T = TypeVar("T")
#: Read from the queue at a time.
_CLAIMED = 1000


@dataclass(frozen=True, slots=True)
class BatchTicket:
    """An attempt that is, or is to be, a row of a batch."""

    attempt: Attempt
    batch: Batch | None = None  #: None: not in one yet.

    @staticmethod
    def mark_sent() -> None:
        """Do nothing: no limit of ours counts it, and what holds on to this must not hold on to the prompt."""


@dataclass(slots=True)
class _Place:
    """Where a model class stands in its queue."""

    after: int = 0
    fresh: bool = True
    try_at: float = -math.inf  # when it is worth looking for retries; inf: there are none


@dataclass(frozen=True, slots=True)
class Desk:
    """What a desk is for."""

    run_id: int
    endpoint: str  #: Address.
    endpoint_name: str | None = None
    submits: bool = True  #: False: nothing new goes out.
    retries: bool = True  #: False: what fails, or comes back, is left to others.
    gather_s: float = 60.0  #: Retries wait so long for company, so that they share a batch.
    largest_row: int = 1 << 27  #: Bytes.


@dataclass(eq=False)
class BatchDesk:
    """`take`, `settle`, and the `Book` of the batches engine, over the real store."""

    _log: BatchLog
    _writer: Writer
    _judge: Judge
    _clock: Clock
    _desk: Desk
    _audience: Audience = field(default_factory=Nobody)
    _halt_at: HaltAt | None = None

    def __post_init__(self) -> None:
        self.counts = Counts()
        self.unfit: Counter[str] = Counter()  #: Requests that cannot go by batches, by why.
        self.halts: list[Halt] = []
        self.given_up: list[str] = []  #: Limits of the user's own that were reached, in words.
        self._open = {batch.id: batch for batch in self._log.open()}
        self._places = {name: _Place() for name in self._log.model_classes()}
        self._in_hand: dict[int, str] = {}  # seq of what was taken and is in no batch yet
        self._stopped = False
        self._reading = anyio.CapacityLimiter(1)
        self._news = anyio.Event()
        self._gathered: tuple[Group, SettledRows] | None = None

    # -- the seam

    async def take(self, count: int) -> Sequence[Admitted]:
        """Return 1 to *count* requests that may go into a batch; nothing when there will be no more."""
        while self._desk.submits and not self._stopped:
            await self._audience.room()
            for name in self._places:
                if found := await self._claim(name, min(count, _CLAIMED)):
                    return found
            if not any(place.fresh for place in self._places.values()):
                try_at = min((place.try_at for place in self._places.values()), default=math.inf)
                if not self._desk.retries or (try_at == math.inf and not self._open and not self._in_hand):
                    break
                await self._wait(try_at)
        return ()

    async def settle(self, admitted: Admitted, outcome: Outcome) -> None:
        """Decide, hand to the writer before anything is waited for, return when it is durable."""
        if not isinstance(admitted, BatchTicket):
            raise TypeError("settle takes what take or recall gave")
        attempt, now = admitted.attempt, self._clock.monotonic()
        outcome, decision = self._judge.judge(attempt, outcome, now)
        if isinstance(decision, Halt):
            self.halts.append(decision)
            self.stop()
        not_before = utc_stamp(self._clock, decision.at) if isinstance(decision, Retry) else None
        settlement = Settlement(attempt, outcome, decision, self._stamp(), not_before)
        if admitted.batch is None:
            await self._settle_unsent(settlement)
        else:
            settlement = await self._settle_row(settlement, self._where(admitted.batch))
        self._conclude(settlement)

    def stop(self) -> None:
        """Let nothing new go out."""
        self._stopped = True
        self._news.set()

    # -- the book

    def open(self) -> Sequence[Batch]:
        """Return the batches that requests sit in."""
        return list(self._open.values())

    async def intend(self, nonce: str, keys: Sequence[RowKey], size: int) -> Batch:
        """Commit that a batch of these rows is about to be sent."""
        await self._commit(Intended(nonce, self._desk.run_id, self._desk.endpoint, size, self._stamp(), keys))
        batch = await self._read(self._log.by_nonce, nonce)
        self._open[batch.id] = batch
        for key in keys:
            self._in_hand.pop(key.seq, None)
        self.counts.sent += len(keys)
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
        for place in self._places.values():
            place.try_at = min(place.try_at, self._clock.monotonic())
        self._news.set()

    async def left(self, batch: Batch) -> Sequence[RowKey]:
        """Return some of the rows that still sit in *batch*."""
        return await self._read(self._log.left, batch)

    async def close(self, batch: Batch, state: BatchState) -> None:
        """Commit that *batch* is done with."""
        await self._commit(Closed(batch.id, state, self._stamp()))
        self._open.pop(batch.id, None)
        if state is BatchState.WITHDRAWN:  # its rows stand where they stood: before the cursor
            for place in self._places.values():
                place.after, place.fresh, place.try_at = 0, True, -math.inf
        self._news.set()

    # -- inside

    async def _claim(self, name: str, count: int) -> list[BatchTicket]:
        place = self._places[name]
        is_time = self._desk.retries and place.try_at <= self._clock.monotonic()
        if not place.fresh and not is_time:
            return []
        now = self._stamp() if is_time else ""  # no stamp is that early
        claim = Claim(name, place.after, now, frozenset(self._in_hand), place.fresh, count)
        claimed = await self._read(self._log.claim, claim)
        place.after, place.fresh = claimed.after, claimed.fresh
        due = claimed.next_due
        place.try_at = math.inf if due is None else monotonic_of(self._clock, due) + self._desk.gather_s
        found = []
        for attempt in claimed.attempts:
            self._in_hand[attempt.seq] = name
            if (why := why_not(attempt.params, attempt.max_tokens, self._desk.largest_row)) is None:
                found.append(BatchTicket(attempt))
            else:
                self.unfit[why] += 1
                if attempt.number == 1:  # the cursor is past it
                    del self._in_hand[attempt.seq]
        return found

    async def _wait(self, until: float) -> None:
        self._news = anyio.Event()
        seconds = max(0.0, until - self._clock.monotonic())
        with anyio.move_on_after(seconds if seconds < math.inf else None):
            await self._news.wait()

    async def _settle_row(self, settlement: Settlement, where: FromBatch) -> Settlement:
        if self._gathered is None or not self._writer.gathers(self._gathered[0]):
            change = SettledRows()
            self._gathered = self._writer.submit(change), change
        group, change = self._gathered
        change.settlements.append((where, settlement))
        try:
            await group.committed(change)
        except StoreError:
            if group.lost is not None:
                raise
            return await self._settle_alone(settlement, where)
        return settlement

    async def _settle_alone(self, settlement: Settlement, where: FromBatch) -> Settlement:
        """A row of the group cannot be written: let each stand for itself."""
        try:
            await self._commit(SettledRows([(where, settlement)]))
        except StoreError:
            failure = Failure(
                ErrorClass.BAD_RESPONSE, "The answer could not be written to the store.", possibly_paid=True
            )
            settlement = Settlement(settlement.attempt, failure, Fail(), settlement.ended_at)
            await self._commit(SettledRows([(where, settlement)]))
        return settlement

    async def _settle_unsent(self, settlement: Settlement) -> None:
        attempt = settlement.attempt
        self._writer.submit(Started(attempt, self._desk.run_id, settlement.ended_at, self._desk.endpoint_name))
        await self._commit(Settled(settlement))
        self._in_hand.pop(attempt.seq, None)

    def _conclude(self, settlement: Settlement) -> None:
        self.counts.add(settlement)
        if self._halt_at is not None and not self.given_up:
            failed, finished = self.counts.failed, self.counts.failed + self.counts.succeeded
            if (reason := self._halt_at.reached(failed, finished)) is not None:
                self.given_up.append(reason)
                self.stop()
        decision = settlement.decision
        if isinstance(decision, Retry):
            place = self._places.setdefault(settlement.attempt.lane, _Place(fresh=False, try_at=math.inf))
            place.try_at = min(place.try_at, decision.at + self._desk.gather_s)
        elif not isinstance(decision, Halt):
            self._audience.final(settlement.attempt.seq)
        self._news.set()

    def _where(self, batch: Batch) -> FromBatch:
        return FromBatch(batch.id, self._desk.run_id, batch.created_at or batch.intended_at, self._desk.endpoint_name)

    async def _commit(self, change: Change) -> None:
        await self._writer.submit(change).committed(change)

    async def _read(self, reading: Callable[..., T], argument: object) -> T:
        return await to_thread.run_sync(reading, argument, limiter=self._reading)

    def _stamp(self) -> str:
        return stamp(self._clock.utc_now())
