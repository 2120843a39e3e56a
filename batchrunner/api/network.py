"""The way to an endpoint, step by step: name, connection, encryption. Nothing is asked of it."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import anyio

from batchrunner.api.redact import one_line
from batchrunner.api.wire import proxy_for, tls_context
from batchrunner.errors import UsageError

_PATIENCE_S = 10.0
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way."""

    name: str  #: proxy, dns, tcp or tls.
    ok: bool
    text: str
    remedy: str = ""


async def walk(base_url: str) -> AsyncIterator[Step]:
    """Go the way to *base_url* and yield each step; the first that fails is the last."""
    url = urlsplit(base_url)
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    try:
        proxy = proxy_for(url.scheme, host)
    except UsageError as error:
        yield Step("proxy", ok=False, text=str(error), remedy="correct HTTPS_PROXY, or list the host in NO_PROXY")
        return
    if proxy is not None:
        host, port = proxy.host or "", proxy.port or _PORTS["http"]
        yield Step(
            "proxy", ok=True, text=f"requests go through {proxy.scheme}://{host}:{port}, as the environment says"
        )
    dns = await _resolve(host, port)
    yield dns
    if not dns.ok:
        return
    begun = time.monotonic()
    try:
        with anyio.fail_after(_PATIENCE_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        remedy = "is it running there, and does a firewall let this machine out? behind a proxy set HTTPS_PROXY"
        yield Step("tcp", ok=False, text=f"no connection to {host}:{port}: {_said(error)}", remedy=remedy)
        return
    try:
        yield Step("tcp", ok=True, text=f"connected to {host}:{port} in {_ms(begun)}")
        if url.scheme == "https" and proxy is None:
            yield await _encrypt(writer, host)
    finally:
        writer.close()
        with suppress(OSError, ssl.SSLError, TimeoutError):
            await writer.wait_closed()


async def _resolve(host: str, port: int) -> Step:
    begun = time.monotonic()
    try:
        with anyio.fail_after(_PATIENCE_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError) as error:
        remedy = "is the address written rightly, and does this machine have a network and a name server?"
        return Step("dns", ok=False, text=f"{host} has no address: {_said(error)}", remedy=remedy)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if addresses == [host]:
        return Step("dns", ok=True, text=f"{host} is an address and needs no name server")
    more = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
    return Step("dns", ok=True, text=f"{host} is {addresses[0]}{more}, found in {_ms(begun)}")


async def _encrypt(writer: asyncio.StreamWriter, host: str) -> Step:
    begun = time.monotonic()
    try:
        with anyio.fail_after(_PATIENCE_S):
            await writer.start_tls(tls_context(), server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        remedy = "a proxy that looks into traffic? SSL_CERT_FILE names its certificate"
        return Step("tls", ok=False, text=f"the certificate of {host} is not trusted: {_said(error)}", remedy=remedy)
    except (OSError, TimeoutError) as error:
        remedy = "is it an http:// address, or does something on the way break encryption?"
        return Step("tls", ok=False, text=f"no encrypted connection to {host}: {_said(error)}", remedy=remedy)
    session: Any = writer.get_extra_info("ssl_object")
    return Step(
        "tls", ok=True, text=f"{session.version()} in {_ms(begun)}, the certificate is trusted{_until(session)}"
    )


def _until(session: Any) -> str:
    """Return until when the server's certificate holds, if that can be seen."""
    ends = (session.getpeercert() or {}).get("notAfter")
    if not ends:
        return ""
    return f" until {datetime.fromtimestamp(ssl.cert_time_to_seconds(ends), UTC):%Y-%m-%d}"


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"nothing within {_PATIENCE_S:g} s"
    return one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _ms(begun: float) -> str:
    return f"{(time.monotonic() - begun) * 1000:,.0f} ms"
