"""Answers that are JSON: read for `--flatten`."""

import json
import re
from typing import Any

# Models like to put JSON into a fence of Markdown, whatever they were asked for.
_FENCE = re.compile(r"\s*```(?:json|JSON)?[ \t]*\r?\n(.*)\n[ \t]*```\s*", re.DOTALL)


def as_object(text: str | None) -> dict[str, Any] | None:
    """Return *text* as the JSON object that it is, a Markdown fence around it or not; None if it is none."""
    if not text:
        return None
    fenced = _FENCE.fullmatch(text)
    body = fenced[1] if fenced else text
    if not body.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(body, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_json(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
