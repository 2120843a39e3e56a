"""What the user says of failures and answers, read: rules, retries, a schema."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.model import ErrorClass
from batchrunner.policy.retry import Rule
from batchrunner.policy.schemas import check_schema
from batchrunner.settings import default_rules, error_class_named, with_retries, with_rules


def rules_with(
    said: Mapping[str, Mapping[str, Any]], texts: Iterable[str] = (), retries: Iterable[str] = ()
) -> dict[ErrorClass, Rule]:
    """Return the default rules with what was *said* of them, then `--rule`, then `--retries`; raises `UsageError`."""
    return with_retries(with_rules(with_rules(default_rules(), said), parse_rules(texts)), retries)


def parse_rules(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what `--rule server:attempts=10,first_s=2` asks for, by class; raises `UsageError`."""
    parsed: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, colon, pairs = text.partition(":")
        if not colon or "=" not in pairs:
            raise UsageError(f"--rule {text!r} is not CLASS:KEY=VALUE,..., such as server:attempts=10,cap_s=120.")
        rule = parsed.setdefault(error_class_named(name).value, {})
        for pair in pairs.split(","):
            key, _, value = pair.partition("=")
            rule[key.strip()] = _rule_value(value.strip())
    return parsed


def _rule_value(text: str) -> Any:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def read_schema(source: str | os.PathLike[str] | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the JSON schema that *source* is, or that the file of that name holds; raises `UsageError`."""
    if source is None:
        return None
    schema: Any = source
    if not isinstance(source, Mapping):
        try:
            schema = json.loads(Path(source).read_bytes())
        except OSError as error:
            raise UsageError(f"The schema {source} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"The schema {source} is not JSON: {error}.") from error
    check_schema(schema)
    return dict(schema)
