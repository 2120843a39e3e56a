"""A loopback server that answers with scripted bytes, and attempts to send to it."""

import asyncio
import gzip
import json
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel

from batchrunner.model import Attempt

#: Does not look like a key, so only its literal text can be redacted.
KEY = "canary-4711-abcdef"

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}

RESET = "reset"
HANG = "hang"
Step = bytes | str | anyio.Event


def attempt(content: str = "Hi", *, stream: bool = False, timeout_s: float | None = 5.0, **params: Any) -> Attempt:
    body = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": content}], **params}
    return Attempt(
        seq=1,
        number=1,
        custom_id="a",
        lane="lane",
        params=json.dumps(body),
        max_tokens=body["max_tokens"],
        stream=stream,
        timeout_s=timeout_s,
    )


def reply(body: Any = MESSAGE, status: int = 200, *headers: str, length: int | None = None, kind: str = "") -> bytes:
    """Return the bytes of a response; *length* lies about the body's."""
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = kind or ("text/html" if raw[:1] == b"<" else "application/json")
    lines = [
        f"HTTP/1.1 {status} Some reason",
        f"content-type: {kind}",
        f"content-length: {len(raw) if length is None else length}",
        "request-id: req_scripted",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def zipped(body: Any) -> bytes:
    raw = gzip.compress(json.dumps(body).encode())
    return reply(raw, 200, "content-encoding: gzip", kind="application/json")


def sse(*events: dict[str, Any] | bytes, length: int | None = None) -> bytes:
    """Return an event stream; without *length* it ends where the server closes."""
    raw = b"".join(
        event if isinstance(event, bytes) else f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
        for event in events
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nrequest-id: req_scripted\r\n"
    head += b"connection: close\r\n" if length is None else f"content-length: {length}\r\n".encode()
    return head + b"\r\n" + raw


def events(text: str = "Hello", *, stop_reason: str | None = "end_turn") -> list[dict[str, Any] | bytes]:
    start = {**MESSAGE, "content": [], "stop_reason": None, "usage": {"input_tokens": 3, "output_tokens": 1}}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason, "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    ]


@dataclass
class Arrival:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Scripted:
    """The server: its address and what came.

    The address ends with a path of its own, because the system gives freed ports away again: a client of some other
    test that still tries to reach its late server must not be taken for ours.
    """

    url: str = ""
    prefix: str = field(default_factory=lambda: f"/{secrets.token_hex(8)}")
    arrivals: list[Arrival] = field(default_factory=list)
    connections: int = 0
    arrived: anyio.Event = field(default_factory=anyio.Event)
    hung: anyio.Event = field(default_factory=anyio.Event)  #: Set once a script has come to its `HANG`.


@asynccontextmanager
async def scripted(*scripts: Sequence[Step], ssl: Any = None) -> AsyncIterator[Scripted]:
    """Serve on a free loopback port. The nth request gets the nth script, later ones the last; then the connection stays."""
    state = Scripted()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        state.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await _answer(state, scripts, reader, writer):
                pass
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ssl)
    state.url = f"{'https' if ssl else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}{state.prefix}"
    try:
        yield state
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(
    state: Scripted, scripts: Sequence[Sequence[Step]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    if head[0].split(" ")[1] == "/v1/messages":
        return False  # somebody else's: ours has the prefix, goes through a proxy, or follows a redirect it must not
    state.arrivals.append(Arrival(head[0].replace(state.prefix, "", 1), headers, body))
    state.arrived.set()
    last: Step = b""
    for step in scripts[min(len(state.arrivals), len(scripts)) - 1]:
        last = step
        if isinstance(step, bytes):
            writer.write(step)
            await writer.drain()
        elif isinstance(step, anyio.Event):
            await step.wait()
        elif step == RESET:
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        elif step == HANG:
            state.hung.set()
            await anyio.sleep_forever()
        elif step == "close":
            return False
    return last != b"" and b"connection: close" not in (last if isinstance(last, bytes) else b"")


async def settle() -> None:
    """Let the event loop take in what has arrived on its sockets; loopback bytes are there as soon as they are sent."""
    for _ in range(30):
        await anyio.lowlevel.checkpoint()
