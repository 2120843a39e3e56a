"""A server that costs next to nothing: one canned answer for every request, after a fixed time, from a core of its own.

The simulator looks at every request as the API would, which takes it longer than the client under test may take.
"""

import asyncio
import contextlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

TEXT = (
    "The sum of the two numbers is what you get by counting on from the first by the second. Written out it is the "
    "figure above; to check it, take the second number away from it again, and the first one is left."
)
MESSAGE = (
    '{"id":"msg_01AAAAAAAAAAAAAAAAAAAAAA","type":"message","role":"assistant","model":"claude-haiku-4-5",'
    f'"content":[{{"type":"text","text":"{TEXT}"}}],"stop_reason":"end_turn","stop_sequence":null,'
    '"usage":{"input_tokens":24,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,'
    '"output_tokens":46,"service_tier":"standard"}}'
).encode()
_HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nrequest-id: req_011CAAAAAAAAAAAAAAAAAAAA\r\n"
    f"{{limits}}Content-Length: {len(MESSAGE)}\r\n\r\n"
)
#: What the API says of its limits; so high that nothing has to wait for them.
_LIMITS = "".join(
    f"anthropic-ratelimit-{kind}-limit: {most}\r\nanthropic-ratelimit-{kind}-remaining: {most}\r\n"
    f"anthropic-ratelimit-{kind}-reset: 2030-01-01T00:00:00Z\r\n"
    for kind, most in (("requests", 10**8), ("input-tokens", 10**11), ("output-tokens", 10**11))
)
_LENGTH = b"content-length:"
_PATIENCE_S = 30.0


def two_cores() -> tuple[int, int]:
    """Return the core of the client and the one of the server: different ones where there are two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    return cores[0], cores[-1]


def stay_on(core: int) -> None:
    """Let this process run on *core* alone, where the system has such a call."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


@contextlib.contextmanager
def answering(latency_s: float, core: int, *, limits: bool = False) -> Iterator[str]:
    """Serve from a process on *core* while the block lasts; yields the address. *limits*: name some in the headers."""
    answer = _HEAD.format(limits=_LIMITS if limits else "").encode() + MESSAGE
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(latency_s, core, answer, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield str(ours.recv())
    finally:
        ours.close()
        process.join(_PATIENCE_S)
        process.kill()


def _serve(latency_s: float, core: int, answer: bytes, pipe: Connection) -> None:
    stay_on(core)
    asyncio.run(_until_closed(latency_s, answer, pipe))


async def _until_closed(latency_s: float, answer: bytes, pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    answers = _Answers(latency_s, answer, loop)
    server = await loop.create_server(lambda: _Connection(answers.owe), "127.0.0.1", 0, backlog=4096)
    closed = asyncio.Event()
    loop.add_reader(pipe.fileno(), closed.set)  # the other end says nothing; it only goes away
    pipe.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await closed.wait()
    server.close()


class _Answers:
    """Answers that are owed: all wait equally long, so that one timer serves them in their order."""

    def __init__(self, latency_s: float, answer: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._latency_s = latency_s
        self._answer = answer
        self._loop = loop
        self._owed: deque[tuple[float, asyncio.Transport]] = deque()

    def owe(self, transport: asyncio.Transport) -> None:
        self._owed.append((self._loop.time() + self._latency_s, transport))
        if len(self._owed) == 1:
            self._loop.call_at(self._owed[0][0], self._pay)

    def _pay(self) -> None:
        now = self._loop.time() + 0.0005
        while self._owed and self._owed[0][0] <= now:
            self._owed.popleft()[1].write(self._answer)
        if self._owed:
            self._loop.call_at(self._owed[0][0], self._pay)


class _Connection(asyncio.Protocol):
    """Reads requests as far as to know where each one ends."""

    def __init__(self, owe: Callable[[asyncio.Transport], None]) -> None:
        self._owe = owe
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read = self._read + data if self._read else data
        while (head := self._read.find(b"\r\n\r\n")) >= 0:
            at = self._read[:head].lower().find(_LENGTH)
            length = int(self._read[at + len(_LENGTH) : head].split(b"\r\n", 1)[0]) if at >= 0 else 0
            end = head + 4 + length
            if len(self._read) < end:
                return
            self._read = self._read[end:]
            self._owe(self._transport)
