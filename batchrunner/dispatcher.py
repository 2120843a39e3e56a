"""From due requests to admitted attempts, and from outcomes to settlements. A task per lane; one writer for all."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
from anyio import to_thread

from batchrunner.audience import Audience, Nobody
from batchrunner.bounds import Bounds
from batchrunner.clock import Clock, stamp
from batchrunner.counts import Counts
from batchrunner.endings import Endings
from batchrunner.engines import Admitted
from batchrunner.lane import Berth, Lane, Ticket
from batchrunner.model import Outcome
from batchrunner.policy.failover import Standing
from batchrunner.policy.holdups import Reason
from batchrunner.policy.judge import Judge
from batchrunner.policy.tolerance import HaltAt
from batchrunner.prices import Tariff
from batchrunner.settings import Limits
from batchrunner.settling import Settler
from batchrunner.slots import Slots
from batchrunner.store.changes import Started, Unstarted
from batchrunner.store.queue import Claim, Claimed, Queue
from batchrunner.store.writer import Group, Writer


class Dispatcher:
    """Hands out admitted attempts (`take`), takes outcomes in (`settle`), until every request is final or it is stopped."""

    def __init__(
        self,
        queue: Queue,
        writer: Writer,
        judge: Judge,
        lanes: Sequence[Lane],
        *,
        slots: Slots,
        clock: Clock,
        run_id: int,
        audience: Audience | None = None,
        tariff: Tariff,
        halt_at: HaltAt | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.counts = Counts()
        self.bounds = bounds or Bounds()
        self.slots = slots
        self.endings = Endings(lanes, halt_at)
        self._queue = queue
        self._writer = writer
        self._lanes = lanes
        self._clock = clock
        self._run_id = run_id
        self._audience = audience or Nobody()
        self._tariff = tariff
        self._settler = Settler(
            writer,
            judge,
            tariff,
            bounds=self.bounds,
            endings=self.endings,
            counts=self.counts,
            clock=clock,
            audience=self._audience,
        )
        self._started: deque[tuple[Ticket, Started, Group]] = deque()
        self._in_flight: set[Ticket] = set()
        self._news = anyio.Event()
        self._closed = False
        self._reading = anyio.CapacityLimiter(1)
        self._going = anyio.Event()  # set unless paused
        self._going.set()

    async def run(self) -> None:
        """Dispatch every lane; returns when all are at their end or stopped."""
        try:
            async with anyio.create_task_group() as group:
                for lane in self._lanes:
                    group.start_soon(self._dispatch, lane)
        finally:
            self._closed = True
            self._news.set()

    @property
    def retrying(self) -> int:
        """Requests that were put back and wait for their time."""
        return sum(lane.retrying for lane in self._lanes)

    @property
    def lanes(self) -> Sequence[Lane]:
        """The lanes, each with its own limits."""
        return self._lanes

    @property
    def endpoints(self) -> Sequence[Standing]:
        """The endpoints that have names, in the order in which they are preferred."""
        return [berth.standing for berth in self._lanes[0].berths if berth.standing.name is not None]

    def endpoints_record(self) -> list[dict[str, Any]]:
        """Return what became of the endpoints that have names, as the store keeps it."""
        return [standing.as_record(self._clock.monotonic()) for standing in self.endpoints]

    @property
    def is_paused(self) -> bool:
        """Whether nothing new is to be sent for now."""
        return not self._going.is_set()

    def pause(self) -> None:
        """Send nothing new until `unpause`; what is in flight goes on."""
        if self._going.is_set():
            self._going = anyio.Event()

    def unpause(self) -> None:
        """Go on."""
        self._going.set()

    def retune(self, limits: Limits) -> None:
        """Keep other *limits* from now on."""
        for lane in self._lanes:
            for berth in lane.berths:
                berth.limiter.retune(limits.within(berth.limits))
        if limits.concurrency is not None:  # otherwise there is room for as many as the system has connections
            self.slots.resize(limits.concurrency)

    async def take(self, count: int) -> Sequence[Admitted]:
        """Return 1 to *count* admitted attempts whose start is committed, or nothing when the run has no more."""
        while not self._started:
            if self._closed:
                return ()
            self._news = anyio.Event()
            await self._news.wait()
        _, _, group = self._started[0]
        await group.done.wait()
        if group.rescued:  # their starts are on no record, so they must not go out
            return ()
        taken: list[Ticket] = []
        while self._started and len(taken) < count and self._started[0][2] is group:
            ticket, change, _ = self._started[0]
            # Without a wait: a cancellation here would lose sight of what is already taken.
            group.check(change)
            self._started.popleft()
            taken.append(ticket)
        self._in_flight.update(taken)
        self.counts.sent += len(taken)
        return taken

    async def settle(self, admitted: Admitted, outcome: Outcome) -> None:
        """Decide, hand to the writer before anything is waited for, return when it is durable."""
        if not isinstance(admitted, Ticket):
            raise TypeError("settle takes what take gave")
        self._in_flight.discard(admitted)
        await self._settler.settle(admitted, outcome)
        self._let_go(admitted)

    def recall(self) -> None:
        """The run is being stopped: take back what was admitted and no engine has taken yet."""
        waiting, self._started = self._started, deque()
        for ticket, _, _ in waiting:
            self._unstart(ticket)
            self._let_go(ticket)

    def give_back(self) -> None:
        """Take back the starts of attempts that never went out: no engine took them, or it was stopped before."""
        self.recall()
        for ticket in self._in_flight:
            if ticket.admission.sent_at is None:
                self._unstart(ticket)

    def _unstart(self, ticket: Ticket) -> None:
        ticket.admission.close()
        self.bounds.given_back(ticket)
        self._writer.submit(Unstarted(ticket.attempt))

    async def _dispatch(self, lane: Lane) -> None:
        with lane.scope:
            await self._dispatch_due(lane)
            lane.is_through = True

    async def _dispatch_due(self, lane: Lane) -> None:
        while await lane.fill(self._read):
            berth = lane.turn()
            # One start, then everybody else's turn: all that go at once would come back at once, and the time until then,
            # and that of their commit, would be lost. A third more per second than with starts in one go.
            await anyio.lowlevel.checkpoint()
            if not self._audience.has_room:
                with self._waiting(lane, Reason.CONSUMER):
                    await self._audience.room()
            if self.is_paused:
                with self._waiting(lane, Reason.PAUSED):
                    await self._going.wait()
            if not self._writer.is_steady:
                with self._waiting(lane, Reason.STORE):
                    await self._writer.steady()
            if (why := berth.limiter.impossible(lane.due[0])) is not None:
                await self._settler.refuse(lane, why, self._run_id)
                continue
            if not await lane.ready() or self.is_paused or not self._writer.is_steady:
                continue
            if not (self.slots.free > 0 and berth.standing.has_room and berth.in_flight < berth.limiter.room()):
                await self._wait_for_slots(lane, berth.limiter.fullness)
            elif (refusal := self.bounds.refusal(lane.due[0], berth.index)) is None:
                self._start(lane, berth)
            elif refusal.is_final:
                self.endings.run_out(refusal.reason, lane)
                return
            else:
                await self._wait_for_slots(lane, Reason.COST)

    async def _wait_for_slots(self, lane: Lane, reason: Reason) -> None:
        """Wait until one is freed. Then everything is to be asked again: the gate may have closed, a retry may be due."""
        with self._waiting(lane, reason):
            await self.slots.freed()

    @contextlib.contextmanager
    def _waiting(self, lane: Lane, reason: Reason) -> Iterator[None]:
        holdups = lane.limiter.holdups
        holdups.begin(self._clock.monotonic(), reason)
        try:
            yield
        finally:
            holdups.end(self._clock.monotonic())

    async def _read(self, claim: Claim) -> Claimed:
        return await to_thread.run_sync(self._queue.claim, claim, limiter=self._reading)

    def _start(self, lane: Lane, berth: Berth) -> None:
        attempt = lane.next_for(berth)
        ticket = Ticket(attempt, lane, berth.limiter.admit(), berth)
        self.bounds.start(ticket)
        self.slots.take()
        berth.in_flight += 1
        berth.standing.in_flight += 1
        at = stamp(self._clock.utc_now())
        change = Started(attempt, self._run_id, at, berth.standing.name, self._tariff.most(attempt, at))
        self._started.append((ticket, change, self._writer.submit(change)))
        self._news.set()

    def _let_go(self, ticket: Ticket) -> None:
        ticket.berth.in_flight -= 1
        ticket.berth.standing.in_flight -= 1
        self.slots.give()
