"""What it means when there is no complete response: foreign exceptions become failures here, and only here."""

import asyncio
import ssl
from collections.abc import Iterator

import aiohttp
import httpx2

from batchrunner.api.redact import one_line
from batchrunner.model import ErrorClass, Failure


class BodyTooLargeError(httpx2.TransportError):
    """The answer is larger than the cap. A transport error, so that the SDK passes it on."""

    def __init__(self, cap_bytes: int, what: str = "the answer") -> None:
        super().__init__(f"{what} is larger than {cap_bytes:,} bytes")


class IdleError(httpx2.ReadTimeout):
    """An answer that had begun fell silent."""

    def __init__(self, idle_s: float) -> None:
        super().__init__(f"the answer stopped: nothing came for {idle_s:g} s")


class NoTokenError(Exception):
    """No token could be had; the cause is the SDK's error."""


#: What a broken exchange raises. aiohttp's and httpx2's errors, the sockets' and the deadlines'.
BROKEN = (aiohttp.ClientError, httpx2.HTTPError, OSError, asyncio.TimeoutError)

_CERTIFICATE = (
    ssl.SSLCertVerificationError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
)
_NO_CONNECTION_YET = (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_LATE = (asyncio.TimeoutError, httpx2.TimeoutException)

#: What to look for among an error and its causes, in this order, and what it means. The first find decides.
_MEANINGS: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], ErrorClass, str], ...] = (
    (BodyTooLargeError, ErrorClass.TOO_LARGE, "given up"),
    (IdleError, ErrorClass.TIMEOUT, "given up"),
    (_CERTIFICATE, ErrorClass.ENDPOINT, "the server's certificate is not trusted (SSL_CERT_FILE can name your own)"),
    (_NO_CONNECTION_YET, ErrorClass.NETWORK, "no connection in time"),
    (_LATE, ErrorClass.TIMEOUT, "no complete answer in time"),
    (aiohttp.ClientConnectorError, ErrorClass.NETWORK, "no connection"),
    (httpx2.ConnectError, ErrorClass.NETWORK, "no connection"),
    (aiohttp.ServerDisconnectedError, ErrorClass.NETWORK, "the server closed the connection without an answer"),
    (ConnectionResetError, ErrorClass.NETWORK, "the connection was reset"),
    (aiohttp.ClientPayloadError, ErrorClass.NETWORK, "the answer broke off or is garbled"),
    (aiohttp.ClientResponseError, ErrorClass.NETWORK, "what came back is not HTTP"),
)


def failure_of(error: BaseException, *, was_sent: bool, secrets: tuple[str, ...] = ()) -> Failure:
    """Return the failure that *error*, or what caused it, stands for.

    *was_sent*: the request had gone out, so it may have been worked on and billed. The failure has no status.
    """
    causes = list(_causes(error))
    error_class, text = _judge(causes)
    return Failure(error_class, one_line(text, secrets), possibly_paid=was_sent)


def late(deadline_s: float, *, was_sent: bool) -> Failure:
    """Return the failure of an attempt whose total deadline of *deadline_s* seconds has passed."""
    return Failure(ErrorClass.TIMEOUT, f"no complete answer within {deadline_s:g} s", possibly_paid=was_sent)


def credential_failure(error: BaseException, *, secrets: tuple[str, ...] = ()) -> Failure:
    """Return the failure of an attempt for which no token could be had: *error* is the SDK's; nothing was sent."""
    status = getattr(error, "status_code", None)
    is_passing = isinstance(status, int) and (status >= 500 or status in {408, 429})
    error_class = ErrorClass.SERVER if is_passing else ErrorClass.AUTHENTICATION
    return Failure(error_class, one_line(f"no token could be had: {error}", secrets))


def _judge(causes: list[BaseException]) -> tuple[ErrorClass, str]:
    for cause in causes:
        if isinstance(cause, aiohttp.ClientHttpProxyError):
            # 407 is the user's to mend; whatever else a proxy says may pass.
            refused = ErrorClass.ENDPOINT if cause.status == 407 else ErrorClass.NETWORK
            return refused, f"the proxy refused: HTTP {cause.status} {cause.message}"
    for kinds, error_class, meaning in _MEANINGS:
        for cause in causes:
            if isinstance(cause, kinds):
                # aiohttp puts a made-up status before its text: "400, message: Can not decode ...".
                detail = str(cause).removeprefix("400, message:").strip()
                return error_class, f"{meaning}: {detail}" if detail else meaning
    root = causes[-1]
    return ErrorClass.NETWORK, f"{type(root).__name__}: {root}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and what it was raised from; a foreign loop of causes ends after a few."""
    cause: BaseException | None = error
    for _ in range(8):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__
