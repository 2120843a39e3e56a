"""Which addresses requests may go to. Knows nothing of the SDK, so that asking costs nothing."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from batchrunner.api.redact import without_keys
from batchrunner.errors import UsageError

OFFICIAL_HOST = "api.anthropic.com"
OFFICIAL_URL = f"https://{OFFICIAL_HOST}"

_VERSION_SUFFIX = re.compile(r"/v1(/messages)?/*$")
_VISIBLE = re.compile(r"[!-~]+")


def check_base_url(base_url: str, *, insecure: bool = False) -> None:
    """Raise `UsageError`, naming the remedy, if requests must not go to *base_url*."""
    try:
        url = urlsplit(base_url)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise UsageError(f"The base URL cannot be read: {error}") from error
    shown = without_keys(base_url)  # somebody may have put the key there by mistake
    if "@" in url.netloc:
        raise UsageError("The base URL holds a user name or a password: take it out, credentials have their own place.")
    if url.scheme not in {"http", "https"} or not host or not _VISIBLE.fullmatch(base_url):
        raise UsageError(f"The base URL {shown!r} must be like https://host, optionally with a path.")
    if url.query or url.fragment:
        before = without_keys(f"{url.scheme}://{url.netloc}{url.path}")
        raise UsageError(f"The base URL must end with its path, {before}: take out what follows '?' or '#'.")
    if _VERSION_SUFFIX.search(url.path):
        shorter = _VERSION_SUFFIX.sub("", shown) or shown
        raise UsageError(f"The base URL must not contain /v1, it is added to it: use {shorter}")
    if url.scheme == "http" and not insecure and not is_loopback(host):
        raise UsageError(
            f"The base URL {shown!r} would send the key unencrypted: use https, or --insecure-base-url if you must."
        )


def is_official_url(address: str) -> bool:
    """Whether *address* is Anthropic's own API."""
    try:
        return urlsplit(address).hostname == OFFICIAL_HOST
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine by its name or address."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
