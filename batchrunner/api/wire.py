"""Connections: one aiohttp session for both senders, with TLS, proxies and keep-alive set up as the SDK does."""

import resource
import socket
import ssl
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import cache, lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
import httpx2
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.payload import Payload
from yarl import URL

from batchrunner.api.address import is_loopback
from batchrunner.api.deadline import CONNECT_S
from batchrunner.errors import UsageError

#: Connections idle for longer are not used again, in seconds: servers and balancers drop them silently.
_KEEPALIVE_S = 15.0
_KEEPALIVE_OPTIONS = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}
# Database, input, logs, the event loop itself.
_OTHER_DESCRIPTORS = 64


class SentNote:
    """Passes on, once, that a request went out, and remembers it."""

    __slots__ = ("_on_sent", "was_sent")

    def __init__(self, on_sent: Callable[[], None]) -> None:
        self._on_sent = on_sent
        self.was_sent = False

    def __call__(self) -> None:
        """Note the sending; a second one (a renewed token) is part of the same attempt."""
        if not self.was_sent:
            self.was_sent = True
            self._on_sent()


#: The note of the attempt that the current task sends through the SDK, which has no room for it in its calls.
NOTE_SENT: ContextVar[SentNote | None] = ContextVar("NOTE_SENT", default=None)


class SentPayload(Payload):
    """A request body that tells when it was handed to the socket. Cheaper than aiohttp's tracing, and nearer."""

    _autoclose = True  # nothing to close: bytes in memory

    def __init__(self, body: bytes, note: SentNote | None) -> None:
        super().__init__(body, content_type="application/json")
        self._size = len(body)
        self._note = note

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text; aiohttp asks for it in its own messages."""
        return str(self._value.decode(encoding, errors))

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write headers and body; aiohttp calls this once there is a connection."""
        # A large body is taken by the peer bit by bit: tell when the first of it went out, then wait for the rest.
        await writer.write(self._value, drain=False)  # type: ignore[call-arg]
        if self._note is not None:
            self._note()
        await writer.drain()

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write all of it: the length announced is the body's own."""
        del content_length
        await self.write(writer)


class Wire:
    """Owns the connections. Must be opened and closed in the event loop that uses it."""

    def __init__(self) -> None:
        self._sessions: list[aiohttp.ClientSession] = []

    async def __aenter__(self) -> Self:
        self._sessions = [_session()]
        return self

    @property
    def session(self) -> aiohttp.ClientSession:
        """What carries the next call; not to be kept."""
        return self._sessions[-1]

    def renew(self) -> None:
        """Use new connections from now on; calls under way keep theirs, and idle ones end by themselves."""
        self._sessions.append(_session())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions:
            await session.close()


class _Connector(aiohttp.TCPConnector):
    """Never hands out a used connection on which something came unasked.

    A server, or something before it, that answers twice would otherwise have its second answer taken for the answer to
    the next request on that connection, and so on for ever.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, *asked: Any, **more: Any) -> Connection:
        """Return a connection for what aiohttp asks for."""
        while True:
            connection = await super().connect(*asked, **more)
            protocol = connection.protocol
            if protocol is None or protocol not in self._used or not protocol.should_close:
                break
            connection.close()
        if protocol is not None:
            self._used.add(protocol)
        return connection


def _session() -> aiohttp.ClientSession:
    connector = _Connector(
        limit=0,  # the dispatcher bounds what is in flight
        ssl=tls_context(),
        keepalive_timeout=_KEEPALIVE_S,
        socket_factory=_kept_alive_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=timeout_of(None),
        trust_env=False,  # aiohttp would read netrc and refuse the credential we send
        max_line_size=65_536,
        max_field_size=65_536,
    )


@lru_cache(maxsize=256)
def timeout_of(total_s: float | None, connect_s: float = CONNECT_S) -> aiohttp.ClientTimeout:
    """Return aiohttp's form of a total deadline and the time to connect."""
    return aiohttp.ClientTimeout(total=total_s, connect=connect_s)


@lru_cache(maxsize=64)
def proxy_for(scheme: str, host: str) -> URL | None:
    """Return the proxy that the environment (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, macOS settings) names for a host.

    Never one for this machine's own addresses: no proxy could reach them.
    Raises `UsageError` for a proxy that does not speak HTTP.
    """
    proxies = getproxies()
    address = proxies.get(scheme) or proxies.get("all")
    if not address or is_loopback(host) or proxy_bypass(host):
        return None
    proxy = URL(address if "://" in address else f"http://{address}")
    if proxy.scheme not in {"http", "https"} or not proxy.host:
        raise UsageError(
            f"The environment names a {proxy.scheme} proxy for {host}, but only http and https proxies work. "
            "Unset it, or list the host in NO_PROXY."
        )
    return proxy


def connections_possible(count: int) -> int:
    """Return how many of *count* connections the system's limit of open files leaves room for; at least 1."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = count if hard in (resource.RLIM_INFINITY, -1) else hard - _OTHER_DESCRIPTORS
    return max(1, min(count, room))


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files, if need be, so that *count* connections fit.

    Raises `UsageError` if the system does not allow that many.
    """
    needed = count + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in (resource.RLIM_INFINITY, -1) or soft >= needed:
        return
    if hard not in (resource.RLIM_INFINITY, -1) and hard < needed:
        raise UsageError(
            f"{count} requests at once need {needed} open files, but the system allows this process {hard}. "
            f"Lower the concurrency to {max(1, hard - _OTHER_DESCRIPTORS)} or raise the limit."
        )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError) as error:
        raise UsageError(
            f"{count} requests at once need {needed} open files, but only {soft} are allowed: run `ulimit -n {needed}` first."
        ) from error


@cache
def tls_context() -> ssl.SSLContext:
    """Return what connections are encrypted with, and whose certificates are trusted."""
    # The SDK's own choice: the system's trust store, SSL_CERT_FILE and SSL_CERT_DIR honoured, verification always on.
    return httpx2.create_ssl_context()


def _kept_alive_socket(address: Sequence[Any]) -> socket.socket:
    """Return a socket on which a peer that vanished is noticed, however long an answer takes."""
    family, kind, protocol = address[0], address[1], address[2]
    connection = socket.socket(family=family, type=kind, proto=protocol)
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE_OPTIONS.items():
        if hasattr(socket, name):  # macOS has another name for the first
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection
