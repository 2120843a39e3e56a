"""The keys of the user's configuration: what each takes. No value of it may be a key."""

import re
from collections.abc import Mapping
from typing import Any

from batchrunner.api.address import OFFICIAL_URL, check_base_url, is_official_url
from batchrunner.api.redact import looks_like_key, names_credential, without_keys
from batchrunner.endpoint import FROM_ENVIRONMENT
from batchrunner.errors import UsageError
from batchrunner.prices import PRICE_KEYS
from batchrunner.settings import LARGEST_CONCURRENCY
from batchrunner.tomlfile.checks import (
    Check,
    Place,
    ProblemError,
    amount,
    check_known,
    check_value,
    rate,
    switch,
    table,
    text,
    whole,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")
_VISIBLE = re.compile(r"[ -~]*")
#: Names under which somebody may write the key itself.
_KEYS = frozenset({"key", "api_key", "apikey", "token", "auth_token", "secret", "password", "credential", "x_api_key"})
#: Headers that are not the user's to set: the connection's own, and what has a key of its own here.
_OURS = frozenset(
    {
        *("host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding", "expect"),
        *("te", "trailer", "upgrade", "anthropic-version"),
    }
)
_NO_KEY = "looks like a key, which has no place in a file: set it in the environment and name its variable in key_env."


def check_config(tables: Mapping[str, Any]) -> None:
    """Check every key and value of the configuration; raises `ProblemError` for the first that is wrong."""
    for key, value in tables.items():
        check_known((key,), frozenset({"endpoints"}), "the configuration")
        for name, endpoint in table((key,), value).items():
            _check_endpoint((key, name), table((key, name), endpoint))


def _check_endpoint(place: Place, endpoint: Mapping[str, Any]) -> None:
    if not _NAME.fullmatch(place[-1]) or looks_like_key(place[-1]):
        raise ProblemError(
            place[:1], "the name of an endpoint has letters, digits, dots, dashes and underscores, at most 64."
        )
    for key, value in endpoint.items():
        if key.lower().replace("-", "_") in _KEYS:
            raise ProblemError(
                (*place, key),
                f"{key} has no place in a file: put the key into the environment and name its variable in key_env.",
            )
        check_known((*place, key), frozenset({*_VALUES, *_TABLES}))
        if key in _VALUES:
            check_value((*place, key), _VALUES[key], value)
        else:
            _TABLES[key]((*place, key), table((*place, key), value))
    _check_address(place, endpoint)


def _check_address(place: Place, endpoint: Mapping[str, Any]) -> None:
    address = endpoint.get("base_url", OFFICIAL_URL)
    try:
        check_base_url(address, insecure=True)
        check_base_url(address, insecure=endpoint.get("insecure", False))
    except UsageError as error:
        said = str(error).replace("--insecure-base-url if you must", "insecure = true if you must")
        raise ProblemError((*place, "base_url"), f"{'.'.join(place)}: {said}") from None
    if "key_env" not in endpoint and not is_official_url(address):
        raise ProblemError(
            place,
            f"{'.'.join(place)} needs key_env, the name of the variable that holds its key: the key for Anthropic's own "
            "API is not sent elsewhere unless you say so.",
        )


def _check_headers(place: Place, headers: Mapping[str, Any]) -> None:
    for name, value in headers.items():
        check_value((*place, name), _header_value, value)
        try:
            check_header(name, value)
        except UsageError as error:
            raise ProblemError((*place, name), f"{'.'.join(place)}: {error}") from None


def check_header(name: str, value: str) -> None:
    """Raise `UsageError` if the header *name* must not be set to *value*."""
    if not _HEADER.fullmatch(name) or name.lower() in _OURS:
        remedy = "; api_version sets it" if name.lower() == "anthropic-version" else ""
        raise UsageError(f"{name[:40]!r} is no header that can be set{remedy}.")
    variable = value.removeprefix(FROM_ENVIRONMENT)
    if variable != value:
        if not _VARIABLE.fullmatch(variable):
            raise UsageError(f"the header {name} must name a variable after env:, such as env:TEAM_TOKEN.")
    elif names_credential(name) or looks_like_key(value):
        raise UsageError(
            f"the header {name} carries a credential, which has no place here: give it to the configuration as "
            f'{name} = "{FROM_ENVIRONMENT}VARIABLE", or use key_env for the key itself.'
        )


def _check_limits(place: Place, limits: Mapping[str, Any]) -> None:
    for key, value in limits.items():
        check_known((*place, key), frozenset(_LIMITS))
        check_value((*place, key), _LIMITS[key], value)
    if {"rpm", "rate"} <= limits.keys():
        raise ProblemError((*place, "rate"), "rpm and rate set the same limit; keep one of them.")


def _check_models(place: Place, models: Mapping[str, Any]) -> None:
    for name, value in models.items():
        check_value((*place, name), _plain, value)


def _check_prices(place: Place, prices: Mapping[str, Any]) -> None:
    for key, value in prices.items():
        check_known((*place, key), frozenset({"multiplier", "models"}))
        if key == "multiplier":
            check_value((*place, key), amount, value)
            continue
        for name, figures in table((*place, key), value).items():
            _check_figures((*place, key, name), table((*place, key, name), figures))


def _check_figures(place: Place, figures: Mapping[str, Any]) -> None:
    for kind, value in figures.items():
        check_known((*place, kind), PRICE_KEYS)
        check_value((*place, kind), amount, value)
    for kind in ("input", "output"):
        if kind not in figures:
            raise ProblemError(place, f"{'.'.join(place)} needs {kind}, in USD per million tokens.")


def _address(value: Any) -> None:
    text(value)
    if without_keys(value) != value:  # a long number in a path is somebody's account
        raise ValueError(_NO_KEY)


def _plain(value: Any) -> None:
    text(value)
    if looks_like_key(value):
        raise ValueError(_NO_KEY)


def _header_value(value: Any) -> None:
    _plain(value)
    if not _VISIBLE.fullmatch(value):
        raise ValueError("must be one line of printable ASCII.")


def _variable(value: Any) -> None:
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value) or looks_like_key(value):
        # What stands there may be the key itself, so it is not shown.
        raise ValueError(
            "must be the NAME of an environment variable, such as ANTHROPIC_API_KEY, never the key itself."
        )


def check_version(value: Any) -> None:
    """Check for a version of the API."""
    if not isinstance(value, str) or not _VERSION.fullmatch(value):
        raise ValueError('must be a date such as "2023-06-01".')


_VALUES: Mapping[str, Check] = {
    "base_url": _address,
    "key_env": _variable,
    "api_version": check_version,
    "insecure": switch,
}
_TABLES = {"headers": _check_headers, "limits": _check_limits, "models": _check_models, "prices": _check_prices}
_LIMITS: Mapping[str, Check] = {
    "rpm": whole(1, 10**9),
    "rate": rate,
    "itpm": whole(1, 10**12),
    "otpm": whole(1, 10**12),
    "concurrency": whole(1, LARGEST_CONCURRENCY),
}
