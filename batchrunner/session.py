"""One run on one store: lock it, read the job file into it, send what is pending, report."""

import contextlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from anyio import to_thread

from batchrunner.assembly import Means
from batchrunner.clock import stamp
from batchrunner.endpoint import Endpoint
from batchrunner.errors import Exit, StoreError, UsageError
from batchrunner.loading import Interrupted, Watcher, load
from batchrunner.policy.routing import Route
from batchrunner.progress import Reporter
from batchrunner.report import Job, Report
from batchrunner.retuning import Listener
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

    async def _work(self, conn: sqlite3.Connection, listener: Listener) -> None:
        place = Place(self._job.store)
        with contextlib.closing(open_reader(self._job.store)) as reading:
            settings = self._means.settings
            choosing = partial(
                Queue, reading, first=settings.first, timeout_s=settings.timeout_s, sampling=settings.sampling
            )
            queue = await to_thread.run_sync(choosing)
            route = self._route(conn)
            if queue.model_classes() and queue.totals().pending:
                rest = await self._by_batches(conn, reading, queue, place, route)
                if rest and queue.totals().pending:
                    shift = Shift(*self._parts(), place)
                    await shift.work(conn, queue, listener)
            place.check()
            self._report.totals = queue.totals()

    def _parts(self) -> tuple[Job, Means, Sequence[Endpoint], Reporter, Stopper, Report]:
        return self._job, self._means, self._endpoints, self._reporter, self._stopper, self._report

    def _route(self, conn: sqlite3.Connection) -> Route:
        """Return the way this run takes; raises `UsageError` where it would pay twice."""
        routing, batches = self._means.settings.routing, open_batches(conn)
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
        self, conn: sqlite3.Connection, reading: sqlite3.Connection, queue: Queue, place: Place, route: Route
    ) -> bool:
        """Work by batches if that is the *route*; return whether live calls have their turn then."""
        if route is Route.LIVE:
            return True
        from batchrunner.batch_shift import BatchShift

        routing = self._means.settings.routing
        is_moving_out = routing.moves and routing.route is Route.LIVE
        shift = BatchShift(*self._parts(), place, cancels=is_moving_out)
        await shift.by_batches(conn, reading, queue)
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
