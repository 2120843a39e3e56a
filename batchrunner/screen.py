"""What a terminal shows. Text of others (answers, ids, messages, paths) reaches it through here, without its tricks."""

import math
import unicodedata
from collections.abc import Sequence

# Control, format (bidi, zero-width), surrogates, line and paragraph separators: they move, hide or reorder what is
# shown, or make the terminal act. Ordinary text of any script has none of them.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_WIDE = frozenset({"W", "F"})
_COMBINING = frozenset({"Mn", "Me"})

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def visible(text: str, *, keep_lines: bool = False) -> str:
    r"""Return *text* with everything that a terminal would not simply show as an escape such as `\x1b` or `\u202e`.

    A line end becomes `⏎`, or stays one with *keep_lines*.
    """
    if text.isprintable():
        return text
    return "".join(_shown(char, keep_lines=keep_lines) for char in text)


def _shown(char: str, *, keep_lines: bool) -> str:
    if char == "\n":
        return char if keep_lines else "⏎"
    if unicodedata.category(char) not in _UNSEEN:
        return char
    return char.encode("unicode_escape").decode("ascii")


def cells(text: str) -> int:
    """Return how many columns of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cells_of, text))


def _cells_of(char: str) -> int:
    if unicodedata.category(char) in _COMBINING:
        return 0
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1


def clip(text: str, width: int) -> str:
    """Return *text* in at most *width* columns, cut in the middle (`beginning…end`) if it is longer; *width* >= 1."""
    if cells(text) <= width:
        return text
    head = width // 2
    return _first(text, head) + "…" + _first(text[::-1], width - 1 - head)[::-1]


def _first(text: str, width: int) -> str:
    taken = 0
    for index, char in enumerate(text):
        taken += _cells_of(char)
        if taken > width:
            return text[:index]
    return text


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> str:
    """Return *rows* as lines of aligned columns, made visible; the columns numbered in *right* (from 0) are flush right.

    The last column of a row may be as long as it likes; rows may be of different lengths.
    """
    seen = [[visible(cell) for cell in row] for row in rows]
    widths = [0] * max((len(row) for row in seen), default=0)
    for row in seen:
        for column, cell in enumerate(row):
            widths[column] = max(widths[column], cells(cell))
    return "\n".join(
        "  ".join(_padded(cell, widths[i], to_right=i in right) for i, cell in enumerate(row)).rstrip() for row in seen
    )


def _padded(cell: str, width: int, *, to_right: bool) -> str:
    blanks = " " * (width - cells(cell))
    return blanks + cell if to_right else cell + blanks


def duration(seconds: float) -> str:
    """Return a length of time for people: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h`."""
    if 0 <= seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def short(number: float) -> str:
    """Return *number* as limits are spoken of: `400k`, `2M`, `80k`, `1,500`."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if number >= 10 * unit or (number >= unit and number % unit == 0):
            return f"{round(number / unit, 1):g}{name}"
    return f"{number:,.0f}"


def usd(amount: float) -> str:
    """Return an amount of US dollars for people: `$1,234.50`, `$0.0312`, `$0.0000042`, `-$0.20`; at least two figures."""
    size = abs(amount)
    if size >= 1 or not size:
        said = f"{size:,.2f}"
    else:
        places = 4 if size >= 0.01 else 1 - math.floor(math.log10(size))
        head, _, tail = f"{size:.{places}f}".partition(".")
        said = f"{head}.{tail.rstrip('0') if size >= 0.01 else tail:0<2}"
    return f"-${said}" if amount < 0 else f"${said}"


def count(number: int) -> str:
    """Return *number* with its thousands set apart: `1,234,567`."""
    return f"{number:,}"
