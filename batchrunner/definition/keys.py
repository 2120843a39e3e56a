"""The keys of a definition: what each takes, and what has no place in one."""

import datetime as dt
import math
from collections.abc import Callable, Mapping
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.jobfile.defaults import MESSAGES_PARAMETERS, Defaults, nearest
from batchrunner.jobfile.faults import kind, shown
from batchrunner.jobfile.template import Template
from batchrunner.model import ErrorClass
from batchrunner.policy.answers import ACCEPTABLE
from batchrunner.policy.tolerance import FailOn, HaltAt
from batchrunner.policy.window import Rate
from batchrunner.settings import LARGEST_CONCURRENCY, RULE_KEYS, changed_rule

Check = Callable[[Any], None]


class ProblemError(ValueError):
    """What is wrong with a definition; *key* is the path of the key, outermost first."""

    def __init__(self, key: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.key = key


def check_tables(tables: Mapping[str, Any]) -> None:
    """Check every key and value of a definition; raises `ProblemError` for the first that is wrong."""
    for key, value in tables.items():
        _check_known((key,), frozenset({*TOP, *TABLES, "rules"}))
        if key in TOP:
            _check_value((key,), TOP[key], value)
        elif key == "rules":
            for name, rule in _table((key,), value).items():
                _check_known((key, name), frozenset(c.value for c in ErrorClass))
                _check_rule((key, name), _table((key, name), rule))
        else:
            _check_entries((key,), TABLES[key], _table((key,), value))
    if {"rpm", "rate"} <= tables.get("limits", {}).keys():
        raise ProblemError(("limits", "rate"), "rpm and rate set the same limit; keep one of them.")
    if "input" not in tables:
        raise ProblemError(
            (), 'input is missing: name the job file, input = "rows.jsonl" (relative to the definition).'
        )


def _check_entries(place: tuple[str, ...], checks: Mapping[str, Check], table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        _check_known((*place, key), frozenset(checks))
        _check_value((*place, key), checks[key], value)


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
            "The address comes from ANTHROPIC_BASE_URL or --base-url, the key from ANTHROPIC_API_KEY.",
        )
    if key.lower().replace("-", "_") in {"allow_files", "files"}:
        raise ProblemError(
            place,
            f"{key} does not belong into a definition: whoever wrote the file would decide what is read from your disk. "
            "Give --allow-files on the command line.",
        )
    where = f"[{'.'.join(place[:-1])}]" if len(place) > 1 else "a definition"
    allowed = ", ".join(sorted(known))
    raise ProblemError(place, f"unknown key {shown(key)} in {where}{nearest(key, known)}. Allowed: {allowed}.")


def _check_value(place: tuple[str, ...], check: Check, value: Any) -> None:
    try:
        check(value)
    except (ValueError, UsageError) as error:
        raise ProblemError(place, f"{'.'.join(place)} {error}") from None


def _table(place: tuple[str, ...], value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ProblemError(place, f"{'.'.join(place)} must be a table, written [{'.'.join(place)}].")
    return value


def _text(value: Any) -> None:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"must be a text that is not empty{_but(value)}.")


def _whole(low: int, high: int) -> Check:
    def check(value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low:,} to {high:,}{_but(value)}.")

    return check


def _seconds(*, zero: bool) -> Check:
    def check(value: Any) -> None:
        number = type(value) in {int, float} and math.isfinite(value)
        if not number or value < 0 or (value == 0 and not zero):
            raise ValueError(f"must be a number of seconds, {'0 or more' if zero else 'above 0'}{_but(value)}.")

    return check


def _one_of(*words: str) -> Check:
    def check(value: Any) -> None:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}{_but(value)}.")

    return check


def _switch(value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false{_but(value)}.")  # noqa: TRY004 - a wrong value of the file


def _texts(value: Any) -> None:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise ValueError(f'must be a list of texts, such as ["custom_id", "text"]{_but(value)}.')


def _outcomes(value: Any) -> None:
    if not isinstance(value, list) or not all(item in ACCEPTABLE for item in value):
        raise ValueError(f"must be a list out of {', '.join(ACCEPTABLE)}{_but(value)}.")


def _template(value: Any) -> None:
    _text(value)
    try:
        Template(value)
    except UsageError as error:
        raise ValueError(f"is wrong: {error}") from None


def _rate(value: Any) -> None:
    _text(value)
    Rate.parse(value)


def _halt(value: Any) -> None:
    if type(value) is not int:
        _text(value)
    HaltAt.parse(value)


def _fail_on(value: Any) -> None:
    _text(value)
    FailOn.parse(value)


def _parameter(name: str) -> Check:
    def check(value: Any) -> None:
        _json_value(value)
        if name == "system" and not isinstance(value, list):
            _text(value)
        Defaults(extra={name: value})

    return check


def _json_value(value: Any) -> None:
    if isinstance(value, dt.date | dt.time):
        raise ValueError("holds a date, which JSON has not: put it in quotation marks.")  # noqa: TRY004 - a wrong value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that JSON has not (inf or nan).")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _json_value(inner)


def _but(value: Any) -> str:
    text = shown(value) if isinstance(value, str) else str(value) if type(value) in {int, float} else kind(value)
    return f", not {'a date' if isinstance(value, dt.date | dt.time) else text}"


TOP: Mapping[str, Check] = {
    "input": _text,
    "format": _one_of("jsonl", "csv", "tsv", "txt"),
    "prompt": _template,
    "accept": _outcomes,
}
TABLES: Mapping[str, Mapping[str, Check]] = {
    "request": {name: _parameter(name) for name in MESSAGES_PARAMETERS - {"messages"}},
    "limits": {
        "rpm": _whole(1, 10**9),
        "rate": _rate,
        "itpm": _whole(1, 10**12),
        "otpm": _whole(1, 10**12),
        "burst": _switch,
        "concurrency": _whole(1, LARGEST_CONCURRENCY),
        "max_outage_s": _seconds(zero=False),
    },
    "export": {"columns": _texts, "flatten": _switch, "format": _one_of("csv", "jsonl", "batch-results")},
    "run": {
        "timeout_s": _seconds(zero=False),
        "drain_s": _seconds(zero=True),
        "first": _whole(0, 10**12),
        "schema": _text,
        "halt": _halt,
        "fail_on": _fail_on,
        "surrogates": _one_of("refuse", "replace"),
        "skip_invalid": _switch,
        "durability": _one_of("full", "fast"),
        "progress": _one_of("auto", "bar", "plain", "json", "none"),
    },
}
#: Names under which somebody may try to say where requests go, or as whom.
_CREDENTIALS = frozenset(
    {
        *("base_url", "baseurl", "url", "endpoint", "host", "address", "proxy", "anthropic_base_url"),
        *("api_key", "apikey", "key", "auth_token", "token", "credential", "credentials", "profile"),
        *("anthropic_api_key", "anthropic_auth_token", "insecure_base_url", "headers", "extra_headers", "x_api_key"),
    }
)
