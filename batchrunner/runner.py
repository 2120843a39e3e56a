"""`run`: lock the store, read the job file into it, dispatch until every request is final, stop well, report."""

import contextlib
import os
import random
import socket
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
from anyio import to_thread

from batchrunner import __version__
from batchrunner.assembly import Means, assemble, sends_before
from batchrunner.audience import Audience, Nobody
from batchrunner.clock import Clock, SystemClock, stamp
from batchrunner.dispatcher import Dispatcher
from batchrunner.endpoint import Endpoint, Way, check_unchanged, opened
from batchrunner.engines.live import LiveEngine
from batchrunner.errors import BatchrunnerError, Exit, StoreError, UsageError
from batchrunner.holding import held_by, waits_told
from batchrunner.keeping import Keeper
from batchrunner.loading import Interrupted, Watcher, allowed_files, load
from batchrunner.progress import Reporter, Snapshot
from batchrunner.report import Job, Report, banner
from batchrunner.retuning import Listener, Sending
from batchrunner.settings import RunSettings
from batchrunner.stopping import Stopper
from batchrunner.store.changes import RunEnded, begin_run, last_endpoints, recover
from batchrunner.store.files import check_place, damaged, open_reader, owned
from batchrunner.store.owner import owner_connection
from batchrunner.store.queue import Queue
from batchrunner.store.repeats import Imported
from batchrunner.store.selection import Totals, claim_for, is_complete, put_back, totals
from batchrunner.store.writer import Writer

#: No rule makes a request wait for longer, so a retry found due later than this was stamped by another wall clock.
_LATEST_DUE_S = 300.0


async def run(
    job: Job,
    settings: RunSettings,
    endpoint: Endpoint | Sequence[Endpoint],
    *,
    reporter: Reporter,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    signals: bool = False,
    stopper: Stopper | None = None,
    audience: Audience | None = None,
) -> Report:
    """Work on *job* until every request is final, something halts it, or the user stops it.

    *endpoint*: where to send; of several the first that works. *signals*: obey SIGINT, SIGTERM and SIGHUP (main thread only); *stopper*: obey whoever holds it. Raises `BatchrunnerError` where nothing can be
    done; whatever was answered by then is in the store.
    """
    stopper = stopper or Stopper(settings.stopping, reporter.note)
    async with anyio.create_task_group() as group:
        if signals:
            group.start_soon(stopper.listen)
        now, chance = clock or SystemClock(), rng or random.Random()
        endpoints = [endpoint] if isinstance(endpoint, Endpoint) else list(endpoint)
        session = _Session(job, settings, endpoints, reporter, stopper, now, chance, audience or Nobody())
        error: BaseException | None = None
        try:
            report = await session.run()
        except* BatchrunnerError as errors:
            error = _first(errors)
        except* sqlite3.Error as errors:
            cause = _first(errors)
            error = StoreError(damaged(job.store, cause))
            error.__cause__ = cause
        group.cancel_scope.cancel()
    if error is not None:
        raise error
    return report


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@dataclass(slots=True)
class _Session:
    """One run on one store."""

    _job: Job
    _settings: RunSettings
    _endpoints: Sequence[Endpoint]
    _reporter: Reporter
    _stopper: Stopper
    _clock: Clock
    _rng: random.Random
    _audience: Audience
    _report: Report = field(default_factory=Report)
    _listener: Listener | None = None
    _place: os.stat_result | None = None  #: The file that was opened, wherever its name leads by now.

    async def run(self) -> Report:
        """Lock, load, work, report."""
        started = self._clock.monotonic()
        self._report.simulated = self._is_simulated
        store = self._job.store
        opening = partial(owner_connection, durability=self._job.durability, note=self._reporter.note)
        with owned(store) as name, opening(store) as conn:
            listener = Listener(store, name, self._stopper, self._clock, self._reporter.note)
            async with listener.listening() as self._listener:
                self._prepare(conn)
                try:
                    self._report.imported = await self._load(conn)
                except Interrupted:
                    return self._interrupted_import()
                self._put_back(conn)
                await self._work(conn)
                self._conclude()
        self._report.seconds = self._clock.monotonic() - started
        return self._report

    @property
    def _is_simulated(self) -> bool:
        return self._endpoints[0].simulator is not None

    async def _load(self, conn: sqlite3.Connection) -> Imported | None:
        if self._job.source is None:
            return None
        watcher = Watcher(self._reporter.loading, self._stopper.stopped)
        loading = partial(
            load, conn, self._job.source, on_change=self._job.on_change, clock=self._clock, watcher=watcher
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
        recover(conn)
        claim_for(conn, simulated=self._is_simulated, store=self._job.store)

    def _put_back(self, conn: sqlite3.Connection) -> None:
        if self._job.put_back is not None:
            self._report.put_back = put_back(conn, self._job.put_back, at=stamp(self._clock.utc_now()))

    async def _work(self, conn: sqlite3.Connection) -> None:
        self._place = self._job.store.stat()
        with contextlib.closing(open_reader(self._job.store)) as reading:
            settings = self._settings
            choosing = partial(
                Queue, reading, first=settings.first, timeout_s=settings.timeout_s, sampling=settings.sampling
            )
            queue = await to_thread.run_sync(choosing)
            if queue.model_classes() and queue.totals().pending:
                await self._dispatch(conn, queue)
            check_place(self._job.store, self._place)
            self._report.totals = queue.totals()

    async def _dispatch(self, conn: sqlite3.Connection, queue: Queue) -> None:
        writer = Writer(conn, complain=self._reporter.note)
        before, files = queue.totals(), allowed_files(conn)
        limits = self._settings.limits
        async with opened(self._endpoints, limits.cap, exactly=limits.concurrency is not None) as way:
            check_unchanged(last_endpoints(conn), way, self._endpoints, self._job.store)
            sent_before = await to_thread.run_sync(sends_before, conn, self._settings, self._clock)
            run_id = self._begin(conn, way.record)
            self._audience.began(run_id)
            self._reporter.note(banner(self._job.store, self._report, self._settings, totals(conn), _addresses(way)))
            async with writer.running():
                means = Means(self._settings, self._clock, self._rng, self._audience)
                dispatcher = assemble(means, way, queue, writer, run_id=run_id, sent_before=sent_before)
                keeper = self._keeper(dispatcher, writer, run_id, way)
                if self._listener is not None:
                    self._listener.sending(Sending(dispatcher, writer, run_id, limits))
                try:
                    await self._until_done(dispatcher, LiveEngine(way.sender, files), keeper, before)
                except BaseException as error:
                    is_cancelled = isinstance(error, anyio.get_cancelled_exc_class())
                    self._report.ending = "interrupted" if is_cancelled else "failed"
                    self._report.reason = type(error).__name__
                    raise
                finally:
                    dispatcher.give_back()
                    keeper.write_minutes()
                    self._end(dispatcher, writer, run_id, keeper.began_at)
            writer.check()  # waiters that were cancelled have not heard of it

    def _keeper(self, dispatcher: Dispatcher, writer: Writer, run_id: int, way: Way) -> Keeper:
        return Keeper(
            dispatcher,
            writer,
            run_id,
            clock=self._clock,
            note=self._reporter.note,
            check_place=partial(check_place, self._job.store, self._place),
            renew=way.sender.renew,
            max_outage_s=self._settings.max_outage_s,
        )

    async def _until_done(self, dispatcher: Dispatcher, engine: LiveEngine, keeper: Keeper, before: Totals) -> None:
        with anyio.CancelScope() as working:
            self._stopper.watch_over(working, partial(_drain, dispatcher))
            async with anyio.create_task_group() as group:
                group.start_soon(dispatcher.run)
                group.start_soon(self._show, dispatcher, before)
                group.start_soon(keeper.run)
                await engine.run(dispatcher.take, dispatcher.settle)
                group.cancel_scope.cancel()

    async def _show(self, dispatcher: Dispatcher, before: Totals) -> None:
        self._reporter.start(self._snapshot(dispatcher, before))
        try:
            while True:
                await anyio.sleep(self._reporter.interval_s)
                self._reporter.tick(self._snapshot(dispatcher, before))
        finally:
            self._reporter.tick(self._snapshot(dispatcher, before))
            self._reporter.stop()

    def _snapshot(self, dispatcher: Dispatcher, before: Totals) -> Snapshot:
        now = self._clock.monotonic()
        counts, slots = dispatcher.counts, dispatcher.slots
        return Snapshot(
            requests=before.requests,
            succeeded=before.succeeded + counts.succeeded,
            failed=before.failed + counts.failed,
            in_flight=slots.taken,
            held_by=held_by(dispatcher.lanes, now),
            retrying=dispatcher.retrying,
            sent=counts.sent,
            retries=counts.retries,
            input_tokens=counts.input_tokens,
            output_tokens=counts.output_tokens,
        )

    def _begin(self, conn: sqlite3.Connection, record: dict[str, Any]) -> int:
        now = self._clock.utc_now()
        run = {"version": __version__, "host": socket.gethostname(), "pid": os.getpid(), "at": stamp(now)}
        settings = {**self._settings.as_record(), **record}
        return begin_run(conn, run, settings, stamp(now + timedelta(seconds=_LATEST_DUE_S)))

    def _end(self, dispatcher: Dispatcher, writer: Writer, run_id: int, began_at: float) -> None:
        report = self._report
        report.counts = dispatcher.counts
        report.endpoints = dispatcher.endpoints_record()
        now = self._clock.monotonic()
        report.waits = waits_told(dispatcher.lanes, now, now - began_at)
        if report.reason is not None:
            pass
        elif dispatcher.endings.halts:
            report.ending, report.reason = "halted", dispatcher.endings.halts[0].reason
            report.steps = dispatcher.endings.halts[0].steps
        elif self._stopper.stopped():
            report.ending, report.reason = "interrupted", self._stopper.reason
        elif dispatcher.endings.given_up:
            report.ending, report.reason = "stopped", dispatcher.endings.given_up[0]
        writer.submit(RunEnded(run_id, stamp(self._clock.utc_now()), report.ending, report.reason))

    def _conclude(self) -> None:
        report = self._report
        if report.ending == "halted":
            report.exit_code = Exit.HALTED
        elif report.totals.pending and self._stopper.code is not None:
            report.exit_code = self._stopper.code
        elif report.ending == "stopped":
            report.exit_code = Exit.LIMIT
        else:
            failed, finished = report.totals.failed, report.totals.failed + report.totals.succeeded
            report.exit_code = Exit.SOME_FAILED if self._settings.fail_on.fails(failed, finished) else Exit.OK

    def _interrupted_import(self) -> Report:
        self._report.ending = "interrupted"
        self._report.reason = "The job file was not read to its end; nothing was sent."
        self._report.exit_code = self._stopper.code or Exit.INTERRUPTED
        return self._report


def _addresses(way: Way) -> str:
    """Return where the run sends, for people: an address, or names with addresses in their order."""
    return ", then ".join(way.record.get("endpoints") or [way.record["endpoint"]])


def _drain(dispatcher: Dispatcher) -> int:
    dispatcher.endings.stop()
    return dispatcher.slots.taken
