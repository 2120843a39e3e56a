"""One run on one store: lock it, read the job file into it, send what is pending, report."""

import contextlib
import sqlite3
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial

from anyio import to_thread

from batchrunner.assembly import Means
from batchrunner.clock import stamp
from batchrunner.endpoint import Endpoint
from batchrunner.errors import Exit, StoreError, UsageError
from batchrunner.loading import Interrupted, Watcher, load
from batchrunner.piloting import projected, projection_told
from batchrunner.policy.routing import Route, Routing
from batchrunner.progress import Reporter
from batchrunner.report import Job, Pilot, Report
from batchrunner.retuning import Listener
from batchrunner.settings import RunSettings
from batchrunner.shift import Shift
from batchrunner.stopping import Stopper
from batchrunner.store.adoption import adopt_found
from batchrunner.store.batches import open_batches, sitting, told
from batchrunner.store.changes import recover
from batchrunner.store.files import open_reader, owned
from batchrunner.store.owner import owner_connection
from batchrunner.store.place import Place
from batchrunner.store.queue import Queue
from batchrunner.store.repeats import Imported
from batchrunner.store.selection import claim_for, is_complete, put_back
from batchrunner.store.sharing import pair_up, share_known, unpair
from batchrunner.store.spending import probably_spent_usd


@dataclass(slots=True)
class Session:
    """One run on one store."""

    _job: Job
    _means: Means
    _endpoints: Sequence[Endpoint]
    _reporter: Reporter
    _stopper: Stopper
    _report: Report = field(default_factory=Report)

    async def run(self) -> Report:
        """Lock, load, work, report."""
        started = self._means.clock.monotonic()
        self._report.simulated = self._is_simulated
        store = self._job.store
        opening = partial(owner_connection, durability=self._job.durability, note=self._reporter.note)
        with owned(store) as name, opening(store) as conn:
            listener = Listener(store, name, self._stopper, self._means.clock, self._reporter.note)
            async with listener.listening():
                self._prepare(conn)
                try:
                    self._report.imported = await self._load(conn)
                except Interrupted:
                    return self._interrupted_import()
                self._put_back(conn)
                await self._work(conn, listener)
                self._conclude()
        self._report.seconds = self._means.clock.monotonic() - started
        return self._report

    @property
    def _is_simulated(self) -> bool:
        return self._endpoints[0].simulator is not None

    async def _load(self, conn: sqlite3.Connection) -> Imported | None:
        if self._job.source is None:
            return None
        watcher = Watcher(self._reporter.loading, self._stopper.stopped)
        loading = partial(
            load, conn, self._job.source, on_change=self._job.on_change, clock=self._means.clock, watcher=watcher
        )
        try:
            return await to_thread.run_sync(loading)
        except sqlite3.Error as error:
            raise StoreError(f"{self._job.store} cannot be written: {error}. Nothing was sent.") from error
        finally:
            self._reporter.stop()

    def _prepare(self, conn: sqlite3.Connection) -> None:
        if self._job.source is None and not is_complete(conn):
            raise UsageError(
                f"{self._job.store} has no job file in it yet, or not all of it; `batchrunner run` reads it."
            )
        for adopted in adopt_found(conn, self._job.store):  # before it is taken for lost, and paid for again
            self._reporter.note(adopted.words)
        recover(conn)
        claim_for(conn, simulated=self._is_simulated, store=self._job.store)

    def _put_back(self, conn: sqlite3.Connection) -> None:
        if self._job.put_back is not None:
            self._report.put_back = put_back(conn, self._job.put_back, at=stamp(self._means.clock.utc_now()))

    def _pair(self, conn: sqlite3.Connection, settings: RunSettings, last_line: int) -> None:
        """Let identical requests share an answer, if the user wants that; of a few that were picked each is sent."""
        if settings.sharing.dedupe and not settings.sampling.picks:
            at = stamp(self._means.clock.utc_now())
            self._report.paired = pair_up(conn, last_line=last_line, at=at)
        else:
            unpair(conn)

    def _share(self, conn: sqlite3.Connection) -> None:
        at, paired = stamp(self._means.clock.utc_now()), self._report.paired
        self._report.paired = replace(paired, answered=paired.answered + share_known(conn, at=at))

    async def _work(self, conn: sqlite3.Connection, listener: Listener) -> None:
        with Place(self._job.store) as place:
            if self._job.pilot is None or await self._is_well_piloted(self._job.pilot, conn, listener, place):
                await self._send(self._means, conn, listener, place)

    async def _send(self, means: Means, conn: sqlite3.Connection, listener: Listener, place: Place) -> None:
        with contextlib.closing(open_reader(self._job.store)) as reading:
            queue = await _queue(reading, means.settings)
            await to_thread.run_sync(self._pair, conn, means.settings, queue.last_line)
            route = self._route(means.settings.routing, conn)
            if queue.model_classes() and queue.totals().pending:
                rest = await self._by_batches(means, (conn, reading), queue, place, route)
                if rest and queue.totals().pending:
                    shift = Shift(*self._parts(means), place)
                    await shift.work(conn, queue, listener)
                if self._report.paired.waiting and self._report.ending == "finished":
                    await to_thread.run_sync(self._share, conn)
            place.conclude(conn)
            self._report.totals = queue.totals()

    async def _is_well_piloted(self, pilot: Pilot, conn: sqlite3.Connection, listener: Listener, place: Place) -> bool:
        """Send the sample, and return whether to send the rest; if not, the report says why.

        Whoever waits for an answer to the question waits for live calls: the rest may go by batches all the same.
        """
        settings = self._means.settings
        sample = min(pilot.size, settings.sampling.sample or pilot.size)
        routing = settings.routing if open_batches(conn) else Routing(Route.LIVE)
        means = copy(self._means)
        means.settings = replace(settings, sampling=replace(settings.sampling, sample=sample), routing=routing)
        await self._send(means, conn, listener, place)
        with contextlib.closing(open_reader(self._job.store)) as reading:
            self._report.totals = (await _queue(reading, settings)).totals()
            if self._report.ending != "finished":
                return False
            if not self._report.totals.pending:
                return True
            projection = await to_thread.run_sync(projected, reading, means.settings, settings)
        self._report.projection = projection
        cap = settings.caps.max_cost_usd
        left_usd = None if cap is None else max(0.0, cap - probably_spent_usd(conn))
        self._reporter.note(projection_told(projection, left_usd))
        if await pilot.agrees(projection, self._stopper.wished):
            return True
        if self._stopper.stopped():
            self._report.ending = "interrupted"
        else:
            self._report.ending = "stopped"
            self._report.reason = "The pilot is over (--pilot). The same command with -y sends the rest."
        return False

    def _parts(self, means: Means) -> tuple[Job, Means, Sequence[Endpoint], Reporter, Stopper, Report]:
        return self._job, means, self._endpoints, self._reporter, self._stopper, self._report

    def _route(self, routing: Routing, conn: sqlite3.Connection) -> Route:
        """Return the way this run takes; raises `UsageError` where it would pay twice."""
        batches = open_batches(conn)
        if routing.route is Route.LIVE and batches and not routing.moves:
            store = self._job.store
            raise UsageError(
                f"{sitting(conn):,} requests of {store} sit in batches at the API ({', '.join(told(batches))}): sent live they "
                f"would be paid twice. `batchrunner resume {store}` collects them, `batchrunner move {store} --to live` "
                "cancels them and sends the rest live."
            )
        if routing.route is None:
            return Route.BATCHES if batches else Route.LIVE
        return Route.BATCHES if batches and routing.moves else routing.route

    async def _by_batches(
        self,
        means: Means,
        conns: tuple[sqlite3.Connection, sqlite3.Connection],
        queue: Queue,
        place: Place,
        route: Route,
    ) -> bool:
        """Work by batches if that is the *route*; return whether live calls have their turn then."""
        if route is Route.LIVE:
            return True
        from batchrunner.batch_shift import BatchShift

        routing = means.settings.routing
        is_moving_out = routing.moves and routing.route is Route.LIVE
        shift = BatchShift(*self._parts(means), place, cancels=is_moving_out)
        await shift.by_batches(*conns, queue)
        goes_on = is_moving_out or routing.then_live or shift.is_out_of_time
        return goes_on and self._report.ending == "finished"

    def _conclude(self) -> None:
        report = self._report
        if report.ending == "halted":
            report.exit_code = Exit.HALTED
        elif report.totals.pending and self._stopper.code is not None:
            report.exit_code = self._stopper.code
        elif report.ending == "stopped":
            report.exit_code = Exit.LIMIT
        elif report.ending == "submitted":
            report.exit_code = Exit.OK
        elif report.totals.pending and report.unfit:
            report.exit_code = Exit.SOME_FAILED
        else:
            failed, finished = report.totals.failed, report.totals.failed + report.totals.succeeded
            report.exit_code = Exit.SOME_FAILED if self._means.settings.fail_on.fails(failed, finished) else Exit.OK

    def _interrupted_import(self) -> Report:
        self._report.ending = "interrupted"
        self._report.reason = "The job file was not read to its end; nothing was sent."
        self._report.exit_code = self._stopper.code or Exit.INTERRUPTED
        return self._report


async def _queue(reading: sqlite3.Connection, settings: RunSettings) -> Queue:
    choosing = partial(Queue, reading, first=settings.first, timeout_s=settings.timeout_s, sampling=settings.sampling)
    return await to_thread.run_sync(choosing)
