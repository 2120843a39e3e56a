"""What the SDK's client is for a plain key or token, known without the SDK: loading it takes longer than 1,000 requests.

Only for the versions of the SDK that this was held against (`tests/test_api_plain.py` does so); and only where nothing but
a key or a token counts. In all other cases the SDK says itself who we are.
"""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import httpx2

from batchrunner.api.address import OFFICIAL_URL, check_base_url
from batchrunner.api.identity import check_form, is_official

#: The SDK whose headers these are.
KNOWN_SDK = "2.12."
_API_VERSION = "2026-10-21"
_SYSTEMS = {"linux": "Linux", "darwin": "MacOS"}
_MACHINES = {"x86_64": "x64", "arm64": "arm64", "aarch64": "arm64"}
#: What makes the SDK look further than the key and the token, or say something about them.
_BEYOND = ("ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_PROFILE", "ANTHROPIC_CONFIG_DIR", "ANTHROPIC_FEDERATION_RULE_ID")


@dataclass(frozen=True, slots=True)
class PlainClient:
    """As far as a direct sender asks, the SDK's client."""

    base_url: httpx2.URL  #: Its path ends with a slash.
    default_headers: Mapping[str, str] = field(repr=False)
    api_key: str | None = field(repr=False)
    auth_token: str | None = field(repr=False)
    custom_auth: None = None
    default_query: Mapping[str, Any] = field(default_factory=dict)


def plain_client(
    base_url: str | None = None,
    *,
    insecure: bool = False,
    api_key: str | None = None,
    auth_token: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> PlainClient | None:
    """Return the client that `open_client` would make of these; None where only the SDK itself can tell.

    Raises `UsageError` for an address that must not be used, `HaltError` for a credential that cannot be one.
    """
    if api_key is None and auth_token is None:
        api_key, auth_token = (os.environ.get(f"ANTHROPIC_{name}") or None for name in ("API_KEY", "AUTH_TOKEN"))
    told = _platform()
    if (api_key is None) == (auth_token is None) or told is None or any(map(os.environ.get, _BEYOND)):
        return None
    address = base_url or os.environ.get("ANTHROPIC_BASE_URL") or OFFICIAL_URL
    check_base_url(address, insecure=insecure)
    url = httpx2.URL(address)
    url = url if url.raw_path.endswith(b"/") else url.copy_with(raw_path=url.raw_path + b"/")
    found = {**told, "Authorization": f"Bearer {api_key or auth_token}", **(headers or {})}
    client = PlainClient(url, found, api_key, auth_token)
    check_form(client)
    if api_key is not None and not is_official(client) and "x-api-key" not in map(str.lower, found):
        found["X-Api-Key"] = api_key
    return client


def _platform() -> dict[str, str] | None:
    """Return the headers that tell what is at work; None where the SDK might tell it otherwise."""
    sdk = version("anthropic")
    system, machine = _SYSTEMS.get(sys.platform), _MACHINES.get(platform.machine().lower())
    is_phone = hasattr(sys, "getandroidapilevel") or "android" in platform.release().lower()
    if not sdk.startswith(KNOWN_SDK) or system is None or machine is None or is_phone:
        return None
    return {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": f"AsyncAnthropic/Python {sdk}",
        "X-Stainless-Lang": "python",
        "X-Stainless-Package-Version": sdk,
        "X-Stainless-OS": system,
        "X-Stainless-Arch": machine,
        "X-Stainless-Runtime": platform.python_implementation(),
        "X-Stainless-Runtime-Version": platform.python_version(),
        "X-Stainless-Async": "async:asyncio",
        "anthropic-version": _API_VERSION,
    }
