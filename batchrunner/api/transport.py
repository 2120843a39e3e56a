"""Lets the SDK use our connections: an httpx2 transport over the wire."""

import math
from collections.abc import AsyncIterable, AsyncIterator

import aiohttp
import anyio
import httpx2
from multidict import CIMultiDict
from yarl import URL

from batchrunner.api.breaks import BROKEN, BodyTooLargeError, IdleError
from batchrunner.api.deadline import CONNECT_S, IDLE_S
from batchrunner.api.wire import NOTE_SENT, SentPayload, Wire, proxy_for

# aiohttp sets these itself: it is the one who frames the request and unpacks the answer.
_OURS = frozenset({"content-length", "transfer-encoding", "accept-encoding", "connection"})
#: What a caller accepts who reads the answer bit by bit: it needs no cap, as it never lies in memory as a whole.
BIT_BY_BIT = "application/binary"
_UNPACKED = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


class WireTransport(httpx2.AsyncBaseTransport):
    """Carries the SDK's requests. Tells `NOTE_SENT` when one goes out, unpacks and caps the answer, never redirects."""

    def __init__(self, wire: Wire, *, body_cap_bytes: int, idle_s: float = IDLE_S) -> None:
        self._wire = wire
        self._body_cap_bytes = body_cap_bytes
        self._idle_s = idle_s

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send *request*; return as soon as the headers of the answer are here."""
        is_streamed = not isinstance(request.stream, httpx2.ByteStream)
        body = b"" if is_streamed else await request.aread()
        cap_bytes = math.inf if request.headers.get("accept") == BIT_BY_BIT else self._body_cap_bytes
        limits = request.extensions.get("timeout", {})
        try:
            response = await self._wire.session.request(
                request.method,
                URL(str(request.url), encoded=True),
                data=_streamed(request) if is_streamed else SentPayload(body, NOTE_SENT.get()) if body else None,
                headers=_headers(request, is_streamed=is_streamed),
                allow_redirects=False,
                proxy=proxy_for(request.url.scheme, request.url.host),
                timeout=aiohttp.ClientTimeout(connect=limits.get("connect") or CONNECT_S, sock_read=limits.get("read")),
            )
        except BROKEN as error:
            raise _translated(error) from error
        return httpx2.Response(
            response.status,
            headers=[(name, value) for name, value in response.raw_headers if name.lower() not in _UNPACKED],
            stream=_Stream(response, cap_bytes, self._idle_s),
            request=request,
        )


def _headers(request: httpx2.Request, *, is_streamed: bool) -> CIMultiDict[str]:
    # Of a body that comes bit by bit aiohttp does not know the length; whoever made the request does.
    ours = _OURS - {"content-length"} if is_streamed else _OURS
    return CIMultiDict((name, value) for name, value in request.headers.multi_items() if name not in ours)


async def _streamed(request: httpx2.Request) -> AsyncIterator[bytes]:
    """Yield the body bit by bit, and tell when it is out."""
    if not isinstance(request.stream, AsyncIterable):
        raise TypeError("a body that is streamed must be an asynchronous one")
    note = NOTE_SENT.get()
    async for chunk in request.stream:
        if note is not None:
            note()
        yield chunk


class _Stream(httpx2.AsyncByteStream):
    """The body of an answer, unpacked, as it comes."""

    def __init__(self, response: aiohttp.ClientResponse, cap_bytes: float, idle_s: float) -> None:
        self._response = response
        self._cap_bytes = cap_bytes
        self._idle_s = idle_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        while chunk := await self._next_chunk():
            size += len(chunk)
            if size > self._cap_bytes:
                raise BodyTooLargeError(round(self._cap_bytes))
            yield chunk

    async def _next_chunk(self) -> bytes:
        try:
            with anyio.move_on_after(self._idle_s) as silence:
                return await self._response.content.readany()
        except BROKEN as error:
            raise _translated(error) from error
        if silence.cancelled_caught:
            raise IdleError(self._idle_s)
        return b""

    async def aclose(self) -> None:
        # Closes the connection unless the answer was read to its end; then it has long been given back.
        self._response.close()


def _translated(error: BaseException) -> httpx2.TransportError:
    if isinstance(error, httpx2.TransportError):
        return error
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx2.ConnectTimeout(str(error))
    if isinstance(error, TimeoutError):
        return httpx2.ReadTimeout(str(error))
    if isinstance(error, aiohttp.ClientConnectorError):
        return httpx2.ConnectError(str(error))
    return httpx2.ReadError(str(error))
