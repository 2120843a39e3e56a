"""Templates: `Solve: {question}` filled from the fields of a row, and nothing else."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from batchrunner.errors import UsageError
from batchrunner.jobfile.faults import RefusedError, kind, shown, shown_names

_ALLOWED = (
    "a template takes {name}, where name is a field of the row, {name[key]} or {name[0]} for what is inside it, "
    "and {{ or }} for a brace"
)
_TOKEN = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]")
_PATH = re.compile(r"(?P<base>[^\[\]]+)(?P<keys>(?:\[[^\[\]]+\])*)")
_KEY = re.compile(r"\[([^\[\]]+)\]")
# str.format would read these as attribute access, conversion and format; a name with them is surely one of those.
_NO_NAME = re.compile(r"[.!:]|\A\s|\s\Z|\A\Z")
#: Before keys in brackets this means the whole row, if no field has that name.
_ROW = "row"


class _Place(NamedTuple):
    """Where in a row a value stands."""

    base: str
    keys: tuple[str, ...] = ()

    def find(self, row: Mapping[str, Any]) -> Any:
        """Return the value in *row*; RefusedError if there is none."""
        if self.base in row:
            value, keys, seen = row[self.base], self.keys, self.base
        elif self.base == _ROW and self.keys:
            value, keys, seen = row, self.keys, _ROW
        else:
            raise RefusedError(f"no field {shown(self.base)} for the template; the line has {shown_names(row)}")
        for key in keys:
            value = _inside(value, key, seen)
            seen += f"[{key}]"
        return value


class Template:
    """A parsed template; UsageError at construction if the text is none. *what* names it in messages."""

    def __init__(self, text: str, what: str = "the prompt template") -> None:
        self.text = text
        self._parts, self._tail = _parse(text, what)
        #: The fields taken whole, in order of first use.
        self.fields: tuple[str, ...] = tuple(dict.fromkeys(filter(None, map(_whole, self._places()))))
        #: The fields of a row that must be there, in order of first use.
        self.needed: tuple[str, ...] = tuple(dict.fromkeys(map(_top, self._places())))

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def render(self, row: Mapping[str, Any]) -> str:
        """Return the text with the row's fields in it: strings as they are, other values as JSON.

        Braces in a row's values mean nothing. RefusedError if a field is missing.
        """
        out: list[str] = []
        for literal, place in self._parts:
            value = row[place.base] if not place.keys and place.base in row else place.find(row)
            out += (literal, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        out.append(self._tail)
        return "".join(out)

    def _places(self) -> list[_Place]:
        return [place for _, place in self._parts]


class Pattern(NamedTuple):
    """A JSON value whose strings are templates."""

    fill: Callable[[Mapping[str, Any]], Any]  #: RefusedError if a field is missing.
    needed: tuple[str, ...]  #: The fields of a row that must be there.


def pattern(value: Any, what: str) -> Pattern:
    """Return *value* with each string in it as a template; UsageError if one is none. *what* names it in messages."""
    if isinstance(value, str):
        template = Template(value, what)
        return Pattern(template.render, template.needed)
    if isinstance(value, Mapping):
        named = {key: pattern(item, what) for key, item in value.items()}
        needed = tuple(name for item in named.values() for name in item.needed)
        return Pattern(lambda row: {key: item.fill(row) for key, item in named.items()}, needed)
    if isinstance(value, list):
        items = [pattern(item, what) for item in value]
        return Pattern(lambda row: [i.fill(row) for i in items], tuple(name for i in items for name in i.needed))
    return Pattern(lambda _: value, ())


def _whole(place: _Place) -> str | None:
    if not place.keys:
        return place.base
    return place.keys[0] if place.base == _ROW and len(place.keys) == 1 else None


def _top(place: _Place) -> str:
    return place.keys[0] if place.base == _ROW and place.keys else place.base


def _inside(value: Any, key: str, seen: str) -> Any:
    if isinstance(value, Mapping):
        if key in value:
            return value[key]
        raise RefusedError(f"no {shown(key)} in {shown(seen)} for the template; there is {shown_names(value)}")
    if not isinstance(value, list):
        raise RefusedError(f"{shown(seen)} is {kind(value)}: the template asks for [{key}] in it")
    if not key.isdecimal():
        raise RefusedError(f"{shown(seen)} is a list: the template asks for {shown(key)}, which is no place in it")
    if len(key) > 9 or int(key) >= len(value):
        raise RefusedError(f"{shown(seen)} has {len(value):,} items, counted from 0: the template asks for [{key}]")
    return value[int(key)]


def _parse(text: str, what: str) -> tuple[list[tuple[str, _Place]], str]:
    """Return the pairs (text before a field, where it stands) and the text after the last."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not valid UTF-8.") from None
    parts, literal, end = [], "", 0
    for token in _TOKEN.finditer(text):
        literal += text[end : token.start()]
        end = token.end()
        if token[0] in {"{{", "}}"}:
            literal += token[0][0]
        else:
            parts.append((literal, _place(token, what)))
            literal = ""
    return parts, literal + text[end:]


def _place(token: re.Match[str], what: str) -> _Place:
    name = token["name"]
    if name is None:
        raise UsageError(f"{what} has a single {token[0]} at character {token.start() + 1}: {_ALLOWED}.")
    path = _PATH.fullmatch(name)
    if path is None or _NO_NAME.search(path["base"]):
        raise UsageError(f"{shown(token[0])} in {what} is not understood: {_ALLOWED}.")
    return _Place(path["base"], tuple(_KEY.findall(path["keys"])))
