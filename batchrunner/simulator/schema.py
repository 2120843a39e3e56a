"""The smallest value that fits a JSON schema, for requests that ask for structured output."""

from collections.abc import Mapping
from typing import Any

_DEEPEST = 20  # a schema that refers to itself has no smallest value


def schema_asked(params: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the JSON schema that a request wants its answer to fit, if there is one."""
    config = params.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    schema = wanted.get("schema")
    return schema if isinstance(schema, dict) else None


def fitting_value(schema: Mapping[str, Any], word: str) -> Any:
    """Return a value that fits *schema*, with *word* for free strings. What it does not understand becomes null."""
    return _value(schema, schema, word, _DEEPEST)


def _value(schema: object, root: Mapping[str, Any], word: str, depth: int) -> Any:
    if not isinstance(schema, dict) or depth == 0:
        return None
    if "const" in schema:
        return schema["const"]
    if isinstance(values := schema.get("enum"), list) and values:
        return values[0]
    for name in ("anyOf", "oneOf", "allOf"):
        if isinstance(choices := schema.get(name), list) and choices:
            return _value(choices[0], root, word, depth - 1)
    if isinstance(reference := schema.get("$ref"), str):
        return _value(_resolved(reference, root), root, word, depth - 1)
    return _typed(schema, root, word, depth)


def _typed(schema: Mapping[str, Any], root: Mapping[str, Any], word: str, depth: int) -> Any:
    kinds = schema.get("type", "object" if "properties" in schema else None)
    kind = kinds[0] if isinstance(kinds, list) and kinds else kinds
    match kind:
        case "object":
            properties = schema.get("properties")
            fields = properties.items() if isinstance(properties, dict) else ()
            return {name: _value(inner, root, word, depth - 1) for name, inner in fields}
        case "array":
            return [_value(schema["items"], root, word, depth - 1)] if "items" in schema else []
        case "string":
            return word
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return None


def _resolved(reference: str, root: Mapping[str, Any]) -> object:
    found: object = root
    for name in reference.removeprefix("#/").split("/"):
        found = found.get(name) if isinstance(found, dict) else None
    return found
