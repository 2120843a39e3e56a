"""How much of a stream is read: the SDK itself would read for ever, and takes time by the square for an event without end."""

from collections.abc import AsyncGenerator

import httpx2

from batchrunner.api.breaks import BodyTooLargeError

#: Largest event of a stream, in bytes. Those of the API are some hundred bytes; results of tools can be large.
EVENT_CAP_BYTES = 4 << 20
_ENDS = (b"\n\n", b"\r\r", b"\n\r\n")
_LONGEST_END = 3


def bound(response: httpx2.Response, cap_bytes: int) -> None:
    """Let reading *response*, which must not have begun, raise `BodyTooLargeError` beyond *cap_bytes* after unpacking.

    The same for a single event of a text stream beyond `EVENT_CAP_BYTES`.
    """
    read = response.aiter_bytes
    is_text = "text/event-stream" in response.headers.get("content-type", "")

    async def bounded(chunk_size: int | None = None) -> AsyncGenerator[bytes, None]:
        size = event = 0
        before = b""
        async for chunk in read(chunk_size):
            size += len(chunk)
            if size > cap_bytes:
                raise BodyTooLargeError(cap_bytes)
            event = _event_bytes(before + chunk, event + len(chunk))
            if is_text and event > EVENT_CAP_BYTES:
                raise BodyTooLargeError(EVENT_CAP_BYTES, "an event of the stream")
            before = chunk[-_LONGEST_END:]
            yield chunk

    response.aiter_bytes = bounded  # type: ignore[method-assign]


def _event_bytes(seen: bytes, in_all: int) -> int:
    """Return how many bytes of the last event there are so far: what follows the last end in *seen*, else *in_all*."""
    ends = [place + len(end) for end in _ENDS if (place := seen.rfind(end)) >= 0]
    return len(seen) - max(ends) if ends else in_all
