"""Where to send and as whom: the SDK's client, built once and checked before anything is sent."""

import os
import re
from collections.abc import Mapping
from typing import Any

import anthropic
import httpx2
from anthropic import AsyncAnthropic, DefaultAioHttpClient

from batchrunner.api.address import OFFICIAL_HOST, check_base_url
from batchrunner.api.deadline import CONNECT_S
from batchrunner.api.redact import names_credential
from batchrunner.api.transport import WireTransport
from batchrunner.api.wire import Wire
from batchrunner.errors import HaltError
from batchrunner.model import Failure, Outcome

#: Largest answer that is read, in bytes after unpacking.
BODY_CAP_BYTES = 64 << 20

_TIMEOUT = httpx2.Timeout(600.0, connect=CONNECT_S)
_VISIBLE = re.compile(r"[!-~]+")


def open_client(
    base_url: str | None = None,
    *,
    insecure: bool = False,
    api_key: str | None = None,
    auth_token: str | None = None,
    headers: Mapping[str, str] | None = None,
    wire: Wire | None = None,
) -> AsyncAnthropic:
    """Return the SDK's client for *base_url*; needs a running event loop. The caller closes it.

    Address and credential not given are found as the SDK finds them; *headers* go out with every request. The client
    never retries, never follows a redirect and, with a *wire*, shares its connections. For another host than the
    official one an API key is sent in both headers, since some relays read only one; a token never is.

    Raises `UsageError` for an address that must not be used, `HaltError` without a usable credential.
    """
    address = base_url or os.environ.get("ANTHROPIC_BASE_URL") or None
    if address is not None:
        check_base_url(address, insecure=insecure)
    try:
        client = AsyncAnthropic(
            api_key=api_key,
            auth_token=auth_token,
            base_url=address,
            default_headers=headers or None,
            max_retries=0,
            timeout=_TIMEOUT,
            http_client=_http_client(wire),
            open_telemetry=False,
        )
    except (anthropic.AnthropicError, ValueError, OSError) as error:
        raise HaltError(f"No credential can be read: {error} Or set ANTHROPIC_API_KEY.") from error
    check_base_url(str(client.base_url), insecure=insecure)
    _check_credential(client)
    if client.api_key is None or is_official(client) or "x-api-key" in _names(client):
        return client
    return client.with_options(default_headers={"X-Api-Key": client.api_key})


def is_official(client: Any) -> bool:
    """Whether *client* talks to Anthropic's own API."""
    url = getattr(client, "base_url", None)
    return url is not None and httpx2.URL(str(url)).host == OFFICIAL_HOST


def secrets_of(client: Any) -> tuple[str, ...]:
    """Return the literal credentials of *client*, for redaction."""
    found = (
        getattr(client, name, None)
        for name in ("api_key", "auth_token", "access_token", "aws_secret_key", "aws_session_token")
    )
    headers = getattr(client, "default_headers", None) or {}
    carried = (value for name, value in headers.items() if names_credential(name))
    # "Bearer x" is the credential x.
    words = (value.split()[-1] for value in (*found, *carried) if isinstance(value, str) and value.strip())
    return tuple(dict.fromkeys(words))


def is_unauthorized(outcome: Outcome) -> bool:
    """Whether the server did not take the credential."""
    return isinstance(outcome, Failure) and outcome.http_status == 401


def renew_token(client: Any) -> bool:
    """Drop the token that *client* holds, so that its next request asks for a new one. False if it holds none.

    A token may be revoked before its time; the SDK then tries once more with a fresh one, and so do the senders.
    """
    # The SDK has no public way to say so, and does it itself only as part of the retries that are turned off here.
    tokens = getattr(client, "_token_cache", None)
    if tokens is None:
        return False
    tokens.invalidate()
    return True


def _http_client(wire: Wire | None) -> httpx2.AsyncClient:
    if wire is None:
        return DefaultAioHttpClient(follow_redirects=False, timeout=_TIMEOUT)
    transport = WireTransport(wire, body_cap_bytes=BODY_CAP_BYTES)
    return httpx2.AsyncClient(transport=transport, follow_redirects=False, timeout=_TIMEOUT)


def _names(client: AsyncAnthropic) -> frozenset[str]:
    return frozenset(name.lower() for name in client.default_headers)


def _check_credential(client: AsyncAnthropic) -> None:
    credential = client.api_key or client.auth_token
    if credential is not None and not _VISIBLE.fullmatch(credential):
        raise HaltError(
            "The credential contains blanks, line breaks or other characters that no key has: "
            "check ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN for a stray newline or quotation mark."
        )
    if credential is None and client.credentials is None and not _names(client) & {"authorization", "x-api-key"}:
        raise HaltError(
            "There is no credential: set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN, or log in to a profile and name it "
            "in ANTHROPIC_PROFILE)."
        )
