"""The simulator on a socket of this machine: carries out what `Simulator` decides, delays and cut connections included."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from batchrunner.errors import UsageError
from batchrunner.simulator.api import Simulator
from batchrunner.simulator.batches import LARGEST_BATCH
from batchrunner.simulator.sending import Sending

_BACKLOG = 4096  # clients open all their connections at once
_STOP_S = 0.2  # what a connection gets to end by itself when the server stops
_SLICE_S = 0.01  # batches are worked on in slices, so that calls are answered meanwhile
_ROWS_PER_SLICE = 100

_LOGGER = logging.getLogger(__name__)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a mistake is worth telling; what is not HTTP is the client's affair, and has its 400."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_LOGGER.addFilter(_is_ours)


@asynccontextmanager
async def serve(simulator: Simulator, port: int = 0) -> AsyncIterator[str]:
    """Serve *simulator* on 127.0.0.1 and yield the base URL; port 0 takes a free one. Raise `UsageError` for a port in use.

    Leaving stops at once: what is being answered is cut off (and stays paid).
    """
    service = _Service(simulator)
    server = web.Server(
        service.handle, request_factory=service.request, handler_cancellation=True, access_log=None, logger=_LOGGER
    )
    loop = asyncio.get_running_loop()
    try:
        listener = await loop.create_server(server, "127.0.0.1", port, backlog=_BACKLOG)
    except OSError as error:
        raise UsageError(
            f"Port {port} on 127.0.0.1 cannot be used: {error.strerror}. Name another one, or 0."
        ) from error
    working = loop.create_task(service.work())
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        working.cancel()
        with anyio.CancelScope(shield=True):
            listener.close()
            server.pre_shutdown()
            await service.stop()
            await server.shutdown(_STOP_S)


async def serve_until(simulator: Simulator, port: int, stop: anyio.Event, ready: Callable[[str], None]) -> None:
    """Serve until *stop* is set; *ready* is called with the base URL as soon as connections are taken."""
    async with serve(simulator, port) as base_url:
        ready(base_url)
        await stop.wait()


class _Written(web.StreamResponse):
    """Stands for a response that has been written to the transport already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        if not keep_alive:
            self.force_close()

    @property
    def keep_alive(self) -> bool:
        """Whether the connection serves another request."""
        return super().keep_alive is not False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        del request
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        del data


class _Service:
    """Reads requests, asks the simulator, writes replies byte by byte."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._loop = asyncio.get_running_loop()
        # Instants count on from the ledger's epoch, so that one simulator may be served twice.
        self._zero = time.monotonic() - (datetime.now(UTC) - simulator.ledger.epoch).total_seconds()
        self._tasks: set[asyncio.Task[object]] = set()
        self._created = asyncio.Event()  # a batch was: there is something to work on

    def request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        """Make a request that may be as large as the API permits."""
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=LARGEST_BATCH)

    async def stop(self) -> None:
        """Cut off what is still being answered."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_S)

    async def work(self) -> None:
        """Work on the rows of batches as their turn comes, until cancelled."""
        while True:
            if self._simulator.batches.advance(self._now(), _ROWS_PER_SLICE):
                await asyncio.sleep(_SLICE_S)
            else:
                self._created.clear()
                await self._created.wait()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; aiohttp cancels this when the client goes away."""
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await self._answer(request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        reply = self._simulator.respond(request.method, request.raw_path, request.headers, body, self._now())
        if reply.arrival is not None and reply.arrival.action == "created":
            self._created.set()
        transport = request.transport
        if transport is None:  # the client went away with its last byte
            self._simulator.finish(reply, self._now(), 0, delivered=False)
            return _Written(keep_alive=False)
        sending = Sending(reply, transport, keep_alive=request.keep_alive and request.method != "HEAD")
        try:
            await sending.run()
        finally:
            self._simulator.finish(reply, self._now(), sending.bytes_sent, delivered=sending.delivered)
        return _Written(keep_alive=sending.keep_alive)

    def _now(self) -> float:
        return time.monotonic() - self._zero
