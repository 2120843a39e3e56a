"""Where to send and as whom: the SDK's client, built once and checked before anything is sent."""

import os
from collections.abc import Mapping
from typing import Any

import anthropic
import httpx2
from anthropic import AsyncAnthropic, DefaultAioHttpClient
from anthropic.lib.credentials import AccessTokenAuth

from batchrunner.api.address import check_base_url
from batchrunner.api.deadline import CONNECT_S
from batchrunner.api.identity import BODY_CAP_BYTES, check_form, is_official
from batchrunner.api.transport import WireTransport
from batchrunner.api.wire import Wire
from batchrunner.errors import HaltError

_TIMEOUT = httpx2.Timeout(600.0, connect=CONNECT_S)


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


def can_send_for(client: Any) -> bool:
    """Whether the credential of *client* is of a kind that can be asked for: a plain key or token, or renewed tokens."""
    plain = isinstance(client, AsyncAnthropic) and type(client).auth_headers is AsyncAnthropic.auth_headers
    return plain and (client.custom_auth is None or type(client.custom_auth) is AccessTokenAuth)


def _http_client(wire: Wire | None) -> httpx2.AsyncClient:
    if wire is None:
        return DefaultAioHttpClient(follow_redirects=False, timeout=_TIMEOUT)
    transport = WireTransport(wire, body_cap_bytes=BODY_CAP_BYTES)
    return httpx2.AsyncClient(transport=transport, follow_redirects=False, timeout=_TIMEOUT)


def _names(client: AsyncAnthropic) -> frozenset[str]:
    return frozenset(name.lower() for name in client.default_headers)


def _check_credential(client: AsyncAnthropic) -> None:
    check_form(client)
    credential = client.api_key or client.auth_token
    if credential is None and client.credentials is None and not _names(client) & {"authorization", "x-api-key"}:
        raise HaltError(
            "There is no credential: set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN, or log in to a profile and name it "
            "in ANTHROPIC_PROFILE)."
        )
