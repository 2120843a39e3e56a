"""The simulated API behind a network that takes its time, and the sender that reaches it."""

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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

    async def post(
        self, body: bytes, on_sent: Callable[[], None] = lambda: None, on_begun: Callable[[], None] | None = None
    ) -> Response:
        """Send *body* to the Messages API; *on_sent* is called as it goes out, *on_begun* as a streamed answer arrives.

        Raises what aiohttp raises for a connection that broke; one that falls silent stays so.
        """
        on_sent()
        await self._travel()
        reply = self.simulator.respond("POST", "/v1/messages", _HEADERS, body, self.now())
        sent = 0
        try:
            await anyio.sleep(reply.delay_s)
            if on_begun is not None and len(reply.chunks) > 1:
                asyncio.get_running_loop().call_later(self._way_s(), on_begun)
            await anyio.sleep(reply.gap_s * max(0, len(reply.chunks) - 1))
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
        await anyio.sleep(self._way_s())

    def _way_s(self) -> float:
        return self._rng.uniform(*self._network_s)


class VirtualSender:
    """A `Sender` as the real ones are, without their sockets: deadlines and classification are the real ones."""

    def __init__(self, server: VirtualServer) -> None:
        self._server = server

    async def send(
        self, attempt: Attempt, on_sent: Callable[[], None], on_begun: Callable[[], None] | None = None
    ) -> Outcome:
        """Send *attempt*; see `batchrunner.api.sender.Sender`."""
        total_s = deadline_s(attempt)
        with anyio.move_on_after(total_s):
            try:
                body = streamed(attempt.params) if attempt.stream else attempt.params
                response = await self._server.post(body.encode(), on_sent, on_begun)
            except BROKEN as error:
                return failure_of(error, was_sent=True)
            classify = classify_message if 200 <= response.status < 300 else classify_error
            answer = response.body if not attempt.stream or response.status != 200 else assembled(response.body)
            return classify(response.status, response.headers, answer)
        return late(total_s, was_sent=True)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""


def streamed(params: str) -> str:
    """Return *params* as they ask for a stream."""
    return json.dumps({**json.loads(params), "stream": True})


def assembled(events: bytes) -> bytes:
    """Return the message that the server-sent *events* amount to; what breaks off before its end is none."""
    message: dict[str, Any] = {}
    text = ""
    for line in events.decode().split("\n"):
        data = json.loads(line[len("data: ") :]) if line.startswith("data: ") else {}
        match data.get("type"):
            case "message_start":
                message = data["message"]
            case "content_block_delta":
                text += data["delta"]["text"]
            case "message_delta":
                message |= {**data["delta"], "usage": data["usage"], "content": [{"type": "text", "text": text}]}
    return json.dumps(message if message.get("stop_reason") else {}).encode()
