"""Strict JSON from the bytes of one line: whatever json.loads lets pass but a request must not carry is refused."""

import json
import re
from collections import Counter
from collections.abc import Callable
from math import isfinite
from typing import Any, Literal, NoReturn

from batchrunner.jobfile.faults import LineError, RefusedError, shown
from batchrunner.jobfile.lines import Line

#: What becomes of half a character (`\ud800` without its partner): nobody can encode it as UTF-8.
Surrogates = Literal["refuse", "replace"]

#: Objects and lists inside each other.
MAX_DEPTH = 200
_TOO_DEEP = f"objects and lists nested more than {MAX_DEPTH} deep"

#: Every escape of a text in JSON, so that `\\ud800` (a backslash and five letters) is told from `\ud800`.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_SURROGATE_HINT = re.compile(r"\\u[dD][89a-fA-F]")

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")).encode


def compact(value: Any) -> str:
    """Return *value* as JSON text without blanks, characters as they are, keys in their order."""
    return _encode(value)


def decoder(surrogates: Surrogates = "refuse") -> Callable[[Line], Any]:
    """Return the function that gives the JSON value of a line or raises `RefusedError`.

    Refused are: a line with a fault, bytes that are not UTF-8, and what `parse_strictly` refuses.
    """
    replace = surrogates == "replace"

    def decode(line: Line) -> Any:
        if line.fault is not None:
            raise RefusedError(line.fault)
        try:
            text = line.data.decode()
        except UnicodeDecodeError as error:
            raise RefusedError(_not_utf8(error), error.start) from None
        return parse_strictly(text, replace_surrogates=replace)

    return decode


def decode_line(line: Line, surrogates: Surrogates = "refuse") -> Any:
    """Return the JSON value of one line; LineError if it has none."""
    try:
        return decoder(surrogates)(line)
    except RefusedError as refused:
        raise line_error(line, refused) from None


def parse_strictly(text: str, *, replace_surrogates: bool = False) -> Any:
    """Return the JSON value of a text.

    Refused are: anything that is not exactly one JSON value, NaN and infinities (also as `1e999`), a key twice in an
    object, integers of more digits than Python converts, more than `MAX_DEPTH` levels, and lone surrogates unless they
    are to be replaced by U+FFFD.
    """
    if _SURROGATE_HINT.search(text):
        text = _whole_characters(text, replace=replace_surrogates)
    value = _parse(text)
    # Each level opens and closes, so short texts need no counting; braces in prompts are the usual reason for it.
    if len(text) > 2 * MAX_DEPTH and text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise RefusedError(_TOO_DEEP)
    return value


def line_error(line: Line, refused: RefusedError) -> LineError:
    """Return what is wrong as a fault of *line*, its place counted from the start of the file."""
    # A table's row became JSON here: places in that mean nothing in the file.
    at = None if refused.at is None or line.row is not None else line.offset + refused.at
    return LineError(line.number, at, refused.cause, line.row)


def _parse(text: str) -> Any:
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise RefusedError(_not_json(error), _byte(text, error.pos)) from None
    except RefusedError:
        raise
    except RecursionError:
        raise RefusedError(_TOO_DEEP) from None
    except ValueError:  # Python's guard: the time to convert digits grows with their square.
        raise RefusedError("an integer has too many digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise RefusedError(f"the key {shown(twice)} stands twice in one object")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise RefusedError(f"the number {shown(digits)} is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise RefusedError(f"{name} is not JSON: write null or a number")


_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)


def _depth(value: Any) -> int:
    """Return how many objects and lists stand inside each other, at most one more than is allowed."""
    level, depth = [value], 0
    while depth <= MAX_DEPTH:
        inside = [item for item in level if isinstance(item, dict | list)]
        if not inside:
            break
        depth += 1
        level = [child for item in inside for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _whole_characters(text: str, *, replace: bool) -> str:
    """Return *text* with U+FFFD for each escaped half of a character, or refuse the first one."""
    lone = next((match for match in _ESCAPE.finditer(text) if match["lone"]), None)
    if lone is None:
        return text
    if not replace:
        raise RefusedError(
            f"{lone[0]} is half of a character (lone surrogate, column {lone.start() + 1}); mend it or give --surrogates=replace",
            _byte(text, lone.start()),
        )
    return _ESCAPE.sub(lambda match: r"\ufffd" if match["lone"] else match[0], text)


def _byte(text: str, position: int) -> int:
    # Settings come from the command line, where bytes that are no UTF-8 arrive as half characters.
    return len(text[:position].encode(errors="surrogatepass"))


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8: byte 0x{error.object[error.start]:02x} at byte {error.start + 1} of the line: save the file as UTF-8"


def _not_json(error: json.JSONDecodeError) -> str:
    """Return a message with the column and, where the usual reason is known, what it is."""
    text, column = error.doc, error.pos + 1
    if text.startswith("\ufeff"):
        return "a byte order mark in the middle of the file: were files joined? Remove it"
    if "\0" in text:
        return f"a NUL byte (column {text.index(chr(0)) + 1}): the file is damaged or not text"
    if not text[error.pos :].strip():
        return f"the JSON ends too early (column {column}): each request must stand on one line, whole"
    if error.msg.startswith("Unterminated string"):
        return f"a string that begins at column {column} does not end: each request must stand on one line, whole"
    if error.msg == "Extra data":
        bare_cr = "\r" in text[: error.pos]
        remedy = "lines must end in LF or CRLF, not in CR alone" if bare_cr else "each request needs a line of its own"
        return f"more than one JSON value (column {column}): {remedy}"
    return f"not JSON: {error.msg} (column {column}): {shown(text[error.pos : error.pos + 20])}"
