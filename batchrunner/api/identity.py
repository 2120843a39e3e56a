"""As whom a client sends, and whether it is let in. Knows clients by their attributes, so that no SDK need be loaded."""

import re
from typing import Any

import httpx2

from batchrunner.api.address import OFFICIAL_HOST
from batchrunner.api.redact import names_credential
from batchrunner.errors import HaltError
from batchrunner.model import Failure, Outcome

#: Largest answer that is read, in bytes after unpacking.
BODY_CAP_BYTES = 64 << 20

_VISIBLE = re.compile(r"[!-~]+")


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


def check_form(client: Any) -> None:
    """Raise `HaltError` if the credential of *client* cannot be one."""
    credential = client.api_key or client.auth_token
    if credential is not None and not _VISIBLE.fullmatch(credential):
        raise HaltError(
            "The credential contains blanks, line breaks or other characters that no key has: "
            "check ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN for a stray newline or quotation mark."
        )


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
