"""The simulated API behind a network that takes its time, and the sender that reaches it."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
import anyio

from batchrunner.api.breaks import BROKEN, failure_of, late
from batchrunner.api.classify import classify_error, classify_message
from batchrunner.api.deadline import deadline_s
from batchrunner.clock import Clock
from batchrunner.model import Attempt, Outcome
from batchrunner.simulator import Simulator
from batchrunner.simulator.replies import Ending

_HEADERS = {"host": "127.0.0.1", "x-api-key": "sk-ant-virtual", "anthropic-version": "2026-10-21"}


@dataclass(frozen=True, slots=True)
class Response:
    """What arrives at the client."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class VirtualServer:
    """Carries requests to a pure simulator and replies back. The simulator's instant 0 is the making of this object."""

    def __init__(
        self, simulator: Simulator, clock: Clock, rng: random.Random, network_s: tuple[float, float] = (0.02, 0.06)
    ) -> None:
        """*network_s*: shortest and longest way of a message, in seconds, each way drawn by *rng*."""
        self.simulator = simulator
        self._clock = clock
        self._rng = rng
        self._network_s = network_s
        self._zero = clock.utc_now()

    def now(self) -> float:
        """Return the simulator's instant, in seconds from 0."""
        return (self._clock.utc_now() - self._zero).total_seconds()  # a server does not sleep when its clients do

    async def post(self, body: bytes, on_sent: Callable[[], None] = lambda: None) -> Response:
        """Send *body* to the Messages API; *on_sent* is called as it goes out.

        Raises what aiohttp raises for a connection that broke; one that falls silent stays so.
        """
        on_sent()
        await self._travel()
        reply = self.simulator.respond("POST", "/v1/messages", _HEADERS, body, self.now())
        sent = 0
        try:
            await anyio.sleep(reply.delay_s + reply.gap_s * (len(reply.chunks) - 1))
            if reply.ending is Ending.HANG:
                await anyio.sleep_forever()
            sent = 0 if reply.silent else len(reply.body)
        finally:
            self.simulator.finish(reply, self.now(), sent, delivered=sent > 0 and reply.ending is Ending.KEEP)
        await self._travel()
        if reply.silent:
            raise aiohttp.ServerDisconnectedError
        if reply.ending is not Ending.KEEP or "content-encoding" in reply.headers:
            raise aiohttp.ClientPayloadError("the reply was spoilt on its way")
        return Response(reply.status, reply.headers, reply.body)

    async def _travel(self) -> None:
        await anyio.sleep(self._rng.uniform(*self._network_s))


class VirtualSender:
    """A `Sender` as the direct one is, without its sockets: deadlines and classification are the real ones."""

    def __init__(self, server: VirtualServer) -> None:
        self._server = server

    async def send(self, attempt: Attempt, on_sent: Callable[[], None]) -> Outcome:
        """Send *attempt*; see `batchrunner.api.sender.Sender`."""
        total_s = deadline_s(attempt)
        with anyio.move_on_after(total_s):
            try:
                response = await self._server.post(attempt.params.encode(), on_sent)
            except BROKEN as error:
                return failure_of(error, was_sent=True)
            classify = classify_message if 200 <= response.status < 300 else classify_error
            return classify(response.status, response.headers, response.body)
        return late(total_s, was_sent=True)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""
