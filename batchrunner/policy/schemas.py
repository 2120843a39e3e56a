"""Whether the text of an answer is what was asked for: JSON that fits a schema.

`jsonschema` checks it, where it is installed (the extra `schema`). Without it only the kind of JSON value is checked.
"""

import importlib.util
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from batchrunner.errors import UsageError

#: Says what is wrong with a parsed answer; None: nothing.
Check = Callable[[Any], str | None]

_HOW_TO = "It needs jsonschema: pip install 'batchrunner[schema]'."
_LONGEST = 120
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "integer": int,
}


def is_checked_whole() -> bool:
    """Whether answers can be checked against the whole of a schema here."""
    return importlib.util.find_spec("jsonschema") is not None


def check_schema(schema: Any) -> None:
    """Raise `UsageError` if no answer could be checked against *schema*: it is none, or `jsonschema` is missing."""
    if not isinstance(schema, dict):
        raise UsageError("A JSON schema is a JSON object.")
    if not is_checked_whole():
        raise UsageError(f"Answers cannot be checked against a schema here. {_HOW_TO}")
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for

    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        raise UsageError(
            f"The JSON schema is wrong at {_place(error.absolute_path)}: {error.message[:200]}."
        ) from error


def schema_asked(params: str) -> str | None:
    """Return the JSON schema that a request body (JSON text) asks its answer to fit, as JSON text."""
    if '"output_config"' not in params:  # spares nearly all requests the reading
        return None
    try:
        config = json.loads(params).get("output_config")
        wanted = config.get("format") if isinstance(config, dict) else None
        if isinstance(wanted, dict) and wanted.get("type") == "json_schema" and isinstance(wanted.get("schema"), dict):
            return json.dumps(wanted["schema"], sort_keys=True)
    except (ValueError, RecursionError, AttributeError):
        pass
    return None


def misfit(text: str, schema: str) -> str | None:
    """Return how *text* falls short of *schema* (JSON text); None if it fits. Words of the answer are not repeated."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return "it is not JSON"
    return _check(schema)(value)


@lru_cache(maxsize=64)
def _check(schema: str) -> Check:
    parsed = json.loads(schema)
    return _whole(parsed) if is_checked_whole() else _kind_only(parsed)


def _whole(schema: Any) -> Check:
    from jsonschema.exceptions import ValidationError, best_match
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    # A registry of its own, and empty: nothing that a schema refers to is fetched from anywhere.
    validator = validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())

    def check(value: Any) -> str | None:
        try:
            worst: ValidationError | None = best_match(validator.iter_errors(value))
        except Exception as error:  # noqa: BLE001 - a schema may be wrong in as many ways as there are: none may end a run
            return f"the schema itself cannot be used ({type(error).__name__})"
        if worst is None:
            return None
        wanted = json.dumps(worst.validator_value, ensure_ascii=False, default=str)
        if len(wanted) > _LONGEST:
            wanted = f"{wanted[: _LONGEST - 1]}…"
        return f"{_place(worst.absolute_path)} breaks {worst.validator}: {wanted}"

    return check


def _kind_only(schema: Any) -> Check:
    named = schema.get("type") if isinstance(schema, dict) else None
    names = [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)]

    def check(value: Any) -> str | None:
        if not names or any(_is_kind(value, name) for name in names):
            return None
        return f"$ breaks type: {json.dumps(named)[:_LONGEST]}"

    return check


def _is_kind(value: Any, name: str) -> bool:
    if isinstance(value, bool) and name != "boolean":
        return False
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS.get(name, object))


def _place(path: Any) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
