"""Endpoints by name, from the user's own configuration: never from a job file, a definition or the working directory."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from batchrunner.api.address import OFFICIAL_URL
from batchrunner.api.redact import without_keys
from batchrunner.endpoint import Endpoint
from batchrunner.endpoints.keys import check_config, check_header, check_version
from batchrunner.endpoints.places import check_owner, config_path
from batchrunner.errors import UsageError
from batchrunner.jobfile.defaults import nearest
from batchrunner.prices import OwnPrices
from batchrunner.settings import Limits, parse_rate
from batchrunner.tomlfile import read_tables


def named_endpoints(
    names: Sequence[str], environment: Mapping[str, str] | None = None, home: Path | None = None
) -> tuple[Endpoint, ...]:
    """Return the endpoints of these *names*, in their order; raises `UsageError`."""
    path = config_path(os.environ if environment is None else environment, home or Path.home())
    tables = _read(path).get("endpoints", {})
    for name in names:
        if name not in tables:
            known = ", ".join(sorted(tables)) or "none"
            raise UsageError(f"{path} has no endpoint {name!r}{nearest(name, frozenset(tables))}. It has: {known}.")
    if len(set(names)) < len(names):
        raise UsageError("The same endpoint is named twice.")
    return tuple(_endpoint(name, tables[name]) for name in names)


def with_headers(endpoint: Endpoint, headers: Mapping[str, str], api_version: str | None) -> Endpoint:
    """Return *endpoint* with these *headers* and this version, which win over its own; raises `UsageError`."""
    for name, value in headers.items():
        check_header(name, value)
    if api_version is not None:
        try:
            check_version(api_version)
        except ValueError as error:
            raise UsageError(f"The API version {error}") from None
    given = {name.lower() for name in headers}
    kept = {name: value for name, value in endpoint.headers.items() if name.lower() not in given}
    return replace(endpoint, headers={**kept, **headers}, api_version=api_version or endpoint.api_version)


def parse_headers(texts: Iterable[str]) -> dict[str, str]:
    """Return what `--header 'Name: value'` asks for; raises `UsageError`, which shows no value."""
    found = {}
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or not value.strip() or not value.isprintable():
            raise UsageError(f"--header {without_keys(name.strip())[:40]!r} is not 'Name: value'.")
        found[name.strip()] = value.strip()
    return found


def _read(path: Path) -> dict[str, Any]:
    check_owner(path)
    missing = "there is no such file; docs/endpoints.md says what stands in it."
    return read_tables(path, check_config, missing=missing)


def _endpoint(name: str, table: Mapping[str, Any]) -> Endpoint:
    limits = table.get("limits", {})
    rpm = limits.get("rpm")
    rate = parse_rate(rpm, limits.get("rate"))
    return Endpoint(
        base_url=table.get("base_url", OFFICIAL_URL),
        insecure=table.get("insecure", False),
        name=name,
        key_env=table.get("key_env"),
        headers=dict(table.get("headers", {})),
        api_version=table.get("api_version"),
        limits=Limits(rate, limits.get("concurrency"), limits.get("itpm"), limits.get("otpm")),
        models=dict(table.get("models", {})),
        prices=_prices(name, table.get("prices", {})),
    )


def _prices(name: str, table: Mapping[str, Any]) -> OwnPrices:
    models = {
        model: {kind: float(usd) for kind, usd in spec.items()} for model, spec in table.get("models", {}).items()
    }
    return OwnPrices(float(table.get("multiplier", 1.0)), models, name)
