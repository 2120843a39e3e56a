"""The keys of a definition: what each takes, and what has no place in one."""

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.jobfile.defaults import MESSAGES_PARAMETERS, Defaults
from batchrunner.jobfile.template import Template
from batchrunner.model import ErrorClass
from batchrunner.policy.answers import ACCEPTABLE
from batchrunner.policy.caps import parse_duration, parse_usd
from batchrunner.policy.tolerance import FailOn, HaltAt
from batchrunner.settings import LARGEST_CONCURRENCY, RULE_KEYS, changed_rule
from batchrunner.tomlfile.checks import (
    Check,
    ProblemError,
    but,
    check_known,
    check_value,
    one_of,
    rate,
    seconds,
    switch,
    table,
    text,
    whole,
)


def check_tables(tables: Mapping[str, Any]) -> None:
    """Check every key and value of a definition; raises `ProblemError` for the first that is wrong."""
    for key, value in tables.items():
        _check_known((key,), frozenset({*TOP, *TABLES, "rules"}))
        if key in TOP:
            check_value((key,), TOP[key], value)
        elif key == "rules":
            for name, rule in table((key,), value).items():
                _check_known((key, name), frozenset(c.value for c in ErrorClass))
                _check_rule((key, name), table((key, name), rule))
        else:
            _check_entries((key,), TABLES[key], table((key,), value))
    if {"rpm", "rate"} <= tables.get("limits", {}).keys():
        raise ProblemError(("limits", "rate"), "rpm and rate set the same limit; keep one of them.")
    if "input" not in tables:
        raise ProblemError(
            (), 'input is missing: name the job file, input = "rows.jsonl" (relative to the definition).'
        )


def _check_entries(place: tuple[str, ...], checks: Mapping[str, Check], entries: Mapping[str, Any]) -> None:
    for key, value in entries.items():
        _check_known((*place, key), frozenset(checks))
        check_value((*place, key), checks[key], value)


def _check_rule(place: tuple[str, ...], rule: Mapping[str, Any]) -> None:
    _check_known_all(place, rule)
    try:
        changed_rule(ErrorClass(place[-1]), rule)
    except UsageError as error:
        raise ProblemError(place, f"[{'.'.join(place)}]: {error}") from None


def _check_known_all(place: tuple[str, ...], rule: Mapping[str, Any]) -> None:
    for key in rule:
        _check_known((*place, key), frozenset(RULE_KEYS))


def _check_known(place: tuple[str, ...], known: frozenset[str]) -> None:
    key = place[-1]
    if key in known:
        return
    if key.lower().replace("-", "_") in _CREDENTIALS:
        raise ProblemError(
            place,
            f"{key} does not belong into a definition: whoever wrote the file would decide where your key goes. "
            "The address comes from ANTHROPIC_BASE_URL, --base-url or --endpoint, the key from ANTHROPIC_API_KEY.",
        )
    if key.lower().replace("-", "_") in {"allow_files", "files"}:
        raise ProblemError(
            place,
            f"{key} does not belong into a definition: whoever wrote the file would decide what is read from your disk. "
            "Give --allow-files on the command line.",
        )
    check_known(place, known)


def _texts(value: Any) -> None:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f'must be a list of texts, such as ["custom_id", "text"]{but(value)}.')


def _outcomes(value: Any) -> None:
    if not isinstance(value, list) or not all(item in ACCEPTABLE for item in value):
        raise ValueError(f"must be a list out of {', '.join(ACCEPTABLE)}{but(value)}.")


def _template(value: Any) -> None:
    text(value)
    try:
        Template(value)
    except UsageError as error:
        raise ValueError(f"is wrong: {error}") from None


def _halt(value: Any) -> None:
    if type(value) is not int:
        text(value)
    HaltAt.parse(value)


def _fail_on(value: Any) -> None:
    text(value)
    FailOn.parse(value)


def _usd(value: Any) -> None:
    if type(value) not in {int, float}:
        text(value)
    parse_usd("max_cost", value)


def _duration(value: Any) -> None:
    if type(value) not in {int, float}:
        text(value)
    parse_duration("max_duration", value)


def _parameter(name: str) -> Check:
    def check(value: Any) -> None:
        _json_value(value)
        if name == "system" and not isinstance(value, list):
            text(value)
        try:
            Defaults(extra={name: value})
        except UsageError as error:
            raise ValueError(f"is wrong: {error.__cause__ or str(error).rstrip('.')}.") from None

    return check


def _json_value(value: Any) -> None:
    if isinstance(value, dt.date | dt.time):
        raise ValueError("holds a date, which JSON has not: put it in quotation marks.")  # noqa: TRY004 - a wrong value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that JSON has not (inf or nan).")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _json_value(inner)


TOP: Mapping[str, Check] = {
    "input": text,
    "format": one_of("jsonl", "csv", "tsv", "txt"),
    "prompt": _template,
    "accept": _outcomes,
}
TABLES: Mapping[str, Mapping[str, Check]] = {
    "request": {name: _parameter(name) for name in MESSAGES_PARAMETERS - {"messages"}},
    "limits": {
        "rpm": whole(1, 10**9),
        "rate": rate,
        "itpm": whole(1, 10**12),
        "otpm": whole(1, 10**12),
        "burst": switch,
        "concurrency": whole(1, LARGEST_CONCURRENCY),
        "max_outage_s": seconds(zero=False),
        "max_cost": _usd,
    },
    "export": {"columns": _texts, "flatten": switch, "format": one_of("csv", "jsonl", "batch-results")},
    "run": {
        "timeout_s": seconds(zero=False),
        "max_duration": _duration,
        "prime": switch,
        "dedupe": switch,
        "drain_s": seconds(zero=True),
        "first": whole(0, 10**12),
        "schema": text,
        "halt": _halt,
        "fail_on": _fail_on,
        "surrogates": one_of("refuse", "replace"),
        "skip_invalid": switch,
        "durability": one_of("full", "fast"),
        "progress": one_of("auto", "bar", "plain", "json", "none"),
    },
}
#: Names under which somebody may try to say where requests go, or as whom.
_CREDENTIALS = frozenset(
    {
        *("base_url", "baseurl", "url", "endpoint", "host", "address", "proxy", "anthropic_base_url"),
        *("api_key", "apikey", "key", "auth_token", "token", "credential", "credentials", "profile"),
        *(
            "anthropic_api_key",
            "anthropic_auth_token",
            "insecure_base_url",
            "endpoints",
            "key_env",
            "headers",
            "extra_headers",
            "x_api_key",
        ),
    }
)
