"""Results as they settle: a run at work in the background, its consumer in front."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from anyio import to_thread

from batchrunner.audience import Buffer
from batchrunner.report import Report
from batchrunner.stopping import Stopper
from batchrunner.store.answers import Result, Store

#: Final requests that wait for the consumer before sending pauses.
BUFFER = 1000
_PAGE = 200

#: Runs the job: told where it listens and who may stop it; calls back with the store as soon as it is known.
Work = Callable[[Buffer, Callable[[Path, Stopper], None]], Awaitable[Report]]


class Stream:
    """The results of one run, each once, in the order in which they became final.

    `async for result in stream(...)`; leaving the loop early sends nothing more, and what is in flight finishes and is
    saved. `async with stream(...) as results:` waits for that at the end of the block.
    """

    def __init__(self, work: Work, *, include_done: bool) -> None:
        self.report: Report | None = None  #: How the run ended; known after the last result.
        self._begun = False
        self._work = work
        self._include_done = include_done
        self._results: AsyncGenerator[Result, None] | None = None
        self._stopper: Stopper | None = None
        self._store: Path | None = None

    def __aiter__(self) -> AsyncIterator[Result]:
        if self._results is not None:
            return self._results
        # The generator alone is handed out and not kept here, so that a loop that is left lets go of it at once.
        return self._iterate()

    async def __aenter__(self) -> Self:
        self._results = self._iterate()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._results is not None:
            await self._results.aclose()

    async def _iterate(self) -> AsyncGenerator[Result, None]:
        if self._begun:
            raise RuntimeError("a stream is one run and gives its results once; Store(...).results() gives them again")
        self._begun = True
        buffer = Buffer(BUFFER)
        # A task and no task group: a generator must not yield from within one.
        work = asyncio.create_task(self._run(buffer))
        try:
            await buffer.started()
            if buffer.run_id is None:  # nothing was sent: what went wrong is said before anything is handed out
                await work
            if self._store is not None:
                with contextlib.closing(Store(self._store)) as store:
                    if self._include_done:
                        async for result in _earlier(store, buffer.run_id):
                            yield result
                    while seqs := await buffer.take(_PAGE):
                        async for result in _settled(store, seqs):
                            yield result
            await work
        except asyncio.CancelledError:
            work.cancel()
            raise
        finally:
            if not work.done() and self._stopper is not None:
                self._stopper.wish(signal.SIGINT)
            await work

    async def _run(self, buffer: Buffer) -> None:
        try:
            self.report = await self._work(buffer, self._known)
        finally:
            buffer.close()

    def _known(self, store: Path, stopper: Stopper) -> None:
        self._store, self._stopper = store, stopper


async def _settled(store: Store, seqs: list[int]) -> AsyncIterator[Result]:
    while results := await to_thread.run_sync(store.settled, seqs):
        for result in results:
            yield result
        del seqs[: len(results)]


async def _earlier(store: Store, run_id: int | None) -> AsyncIterator[Result]:
    after = 0

    def page() -> list[Result]:
        return store.finished_before(run_id, after=after, most=_PAGE)

    while results := await to_thread.run_sync(page):
        for result in results:
            yield result
        after = results[-1].line or after
