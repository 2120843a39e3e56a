"""A run from code that is not async: in a thread with a loop of its own, so that a loop that runs already is no matter."""

import asyncio
import contextvars
import signal
import threading
from collections.abc import Awaitable, Callable

import anyio

from batchrunner.report import Report
from batchrunner.stopping import Stopper

#: Runs the job and calls back with what can stop it.
Work = Callable[[Callable[[Stopper], None]], Awaitable[Report]]


class RunInThread:
    """One run in a thread; whoever waits for it may interrupt it.

    The first interrupt sends nothing more and lets calls in flight finish, the second cancels them; both wait for the
    end and then raise `KeyboardInterrupt`. The third raises it at once and leaves the thread to its own end.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: contextvars.Context | None = None
        self._stopper: Stopper | None = None
        self._report: Report | None = None
        self._error: BaseException | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._interrupts = 0
        # A daemon: after a third interrupt the program may end without it. The store survives that as it does a crash.
        self._thread = threading.Thread(target=self._body, daemon=True)

    def report(self) -> Report:
        """Run to the end and return the report; raises what the run raises."""
        self._thread.start()
        while True:
            try:
                self._over.wait()
                break
            except KeyboardInterrupt:
                if self._interrupts == 2:
                    raise
                self._interrupt()
        if self._error is not None:
            raise self._error
        if self._interrupts or self._report is None:
            raise KeyboardInterrupt
        return self._report

    def _body(self) -> None:
        try:
            self._report = anyio.run(self._main)
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that waits
            self._error = error
        finally:
            self._over.set()

    async def _main(self) -> Report:
        return await self._work(self._known)

    def _known(self, stopper: Stopper) -> None:
        with self._lock:
            # The context too: in that of the thread that is interrupted, anyio knows of no loop.
            self._loop, self._context, self._stopper = asyncio.get_running_loop(), contextvars.copy_context(), stopper
            early = self._interrupts
        for _ in range(early):
            stopper.wish(signal.SIGINT)

    def _interrupt(self) -> None:
        with self._lock:
            self._interrupts += 1
            loop, stopper = self._loop, self._stopper
        if loop is not None and stopper is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stopper.wish, signal.SIGINT, context=self._context)
