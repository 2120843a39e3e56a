"""The prompt template: `Solve: {question}` filled from the fields of a row, and nothing else."""

import json
import re
from collections.abc import Mapping
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.jobfile.faults import RefusedError, shown, shown_names

_ALLOWED = "a template takes {name}, where name is a field of the row, and {{ or }} for a brace"
_TOKEN = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]")
# str.format would read these as attribute access, index, conversion and format; a name with them is surely one of those.
_NO_NAME = re.compile(r"[.\[\]!:]|\A\s|\s\Z|\A\Z")


class Template:
    """A parsed template; UsageError at construction if the text is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts, self._tail = _parse(text)
        #: The names used, in order of first use.
        self.fields: tuple[str, ...] = tuple(dict.fromkeys(name for _, name in self._parts))

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def render(self, row: Mapping[str, Any]) -> str:
        """Return the text with the row's fields in it: strings as they are, other values as JSON.

        Braces in a row's values mean nothing. RefusedError if a field is missing.
        """
        out: list[str] = []
        for literal, name in self._parts:
            if name not in row:
                raise RefusedError(f"no field {shown(name)} for the template; the line has {shown_names(row)}")
            value = row[name]
            out += (literal, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        out.append(self._tail)
        return "".join(out)


def _parse(text: str) -> tuple[list[tuple[str, str]], str]:
    """Return the pairs (text before a field, name of the field) and the text after the last."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("the prompt template is not valid UTF-8.") from None
    parts, literal, end = [], "", 0
    for token in _TOKEN.finditer(text):
        literal += text[end : token.start()]
        end = token.end()
        if token[0] in {"{{", "}}"}:
            literal += token[0][0]
        else:
            parts.append((literal, _name(token)))
            literal = ""
    return parts, literal + text[end:]


def _name(token: re.Match[str]) -> str:
    name = token["name"]
    if name is None:
        raise UsageError(f"the prompt template has a single {token[0]} at character {token.start() + 1}: {_ALLOWED}.")
    if _NO_NAME.search(name):
        raise UsageError(f"{shown(token[0])} in the prompt template is not understood: {_ALLOWED}.")
    return str(name)
