"""An endpoint that answers every message at once with the same few bytes, and remembers when the first one came."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator

_BODY = json.dumps(
    {
        "model": "claude-haiku-4-5-20251001",
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "Seven."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 30, "output_tokens": 3},
    }
).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\ncontent-length: %d\r\n\r\n"
_ANSWER = _HEAD % len(_BODY) + _BODY
_PATIENCE_S = 10.0


class Listening:
    """What has been heard so far."""

    def __init__(self) -> None:
        self.url = ""
        self.calls = 0
        self.first_at: float | None = None  #: Of the monotonic clock.
        self._ready = threading.Event()
        self._over: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def forget(self) -> None:
        """Begin anew."""
        self.calls, self.first_at = 0, None

    @classmethod
    @contextlib.contextmanager
    def begun(cls) -> Iterator["Listening"]:
        """Listen on a free port of 127.0.0.1, in a thread of its own, while the block lasts."""
        ours = cls()
        thread = threading.Thread(target=lambda: asyncio.run(ours._serve()), daemon=True)
        thread.start()
        if not ours._ready.wait(_PATIENCE_S) or ours._loop is None or ours._over is None:
            raise RuntimeError("the endpoint did not begin to listen")
        try:
            yield ours
        finally:
            ours._loop.call_soon_threadsafe(ours._over.set)
            thread.join(_PATIENCE_S)

    async def _serve(self) -> None:
        self._over, self._loop = asyncio.Event(), asyncio.get_running_loop()
        async with await asyncio.start_server(self._answer, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._ready.set()
            await self._over.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if self.first_at is None:
                    self.first_at = time.monotonic()
                self.calls += 1
                await reader.readexactly(_length(head))
                writer.write(_ANSWER)
                await writer.drain()


def _length(head: bytes) -> int:
    fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in fields if name == b"content-length"), 0)
