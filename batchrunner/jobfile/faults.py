"""What is wrong with one line: refused inside this package, a `LineError` at its border."""

from collections.abc import Iterable

from batchrunner.errors import InputError

#: No message shows more of a line than this many characters.
SHOWN_CHARS = 60


class RefusedError(ValueError):
    """A value that cannot become a request. Knows nothing of lines; whoever knows the line makes a `LineError` of it.

    *cause* is one line for people; *at* counts bytes from the start of the line to the fault, None if no place is known.
    """

    def __init__(self, cause: str, at: int | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.at = at


class LineError(InputError):
    """One line cannot be taken; the lines after it can.

    *line* counts from 1, *offset* is the byte of the file (from 0) where the fault shows, None if it has no one place,
    *cause* is the message without the line number. *row* is the number of a table's row, which stands beside the line's.
    """

    def __init__(self, line: int, offset: int | None, cause: str, row: int | None = None) -> None:
        place = f"line {line}" if row is None else f"line {line} (row {row})"
        super().__init__(f"{place}: {cause}")
        self.line = line
        self.offset = offset
        self.cause = cause


def shown(text: str) -> str:
    """Return *text* quoted on one line, control and bidi characters escaped, cut to `SHOWN_CHARS`."""
    quoted = repr(text[:SHOWN_CHARS])
    if len(text) <= SHOWN_CHARS and len(quoted) <= SHOWN_CHARS:
        return quoted
    return quoted[: SHOWN_CHARS - 1] + "…"


def shown_names(names: Iterable[str]) -> str:
    """Return field names for a message, as many as fit in `SHOWN_CHARS`."""
    text = ""
    for name in names:
        longer = f"{text}, {shown(name)}" if text else shown(name)
        if len(longer) > SHOWN_CHARS - 3:
            return f"{text}, …" if text else longer
        text = longer
    return text or "no field"


def kind(value: object) -> str:
    """Return what JSON calls the type of *value*: `a string`, `null`, ..."""
    names = {
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")
