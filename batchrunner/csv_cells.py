"""CSV that a spreadsheet may open: cells escaped lest they run as formulas, lines that come back exactly."""

import csv
import re
from collections.abc import Callable, Iterable
from typing import Any

# Spreadsheets take a cell that starts like this for a formula; the blanks before it they may drop. Quotes are looked
# through, so that a cell that stands as if it had been escaped is escaped too, and `unescape` is exact.
_FORMULA = re.compile(r"'*\s*[=+\-@\t\r\n\0＝＋－＠]")


def escape(cell: Any) -> Any:
    """Return *cell* with a `'` in front if it is a text that a spreadsheet would take for a formula."""
    # Numbers stay numbers: -1.5 is no formula.
    return "'" + cell if isinstance(cell, str) and _FORMULA.match(cell) else cell


def unescape(cell: str) -> str:
    """Return what *cell* of a CSV export was before it was escaped."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def encoded(text: str) -> bytes:
    r"""Return *text* in UTF-8. A lone surrogate has none: as `\ud800` it is the same in JSON, and readable in CSV."""
    return text.encode("utf-8", "backslashreplace")


class CsvWriter:
    """Writes rows of cells as UTF-8 that ends in line feeds, quoted only where needed, escaped unless *raw*."""

    def __init__(self, write: Callable[[bytes], object], *, raw: bool) -> None:
        self.escaped_cells = 0
        self._raw = raw
        # With this end of line csv quotes cells with either of its characters, on every Python.
        self._csv = csv.writer(_LineFeeds(write), lineterminator="\r\n")

    def row(self, cells: Iterable[Any]) -> None:
        """Write one line; texts, numbers and None (an empty cell)."""
        if not self._raw:
            # Nothing that begins with a letter or a digit is a formula, and that is quickly seen of millions of cells.
            cells = [self._escaped(c) if isinstance(c, str) and not c[:1].isalnum() else c for c in cells]
        self._csv.writerow(cells)

    def _escaped(self, cell: Any) -> Any:
        safe = escape(cell)
        if safe is not cell:
            self.escaped_cells += 1
        return safe


class _LineFeeds:
    """Takes one CSV line at a time, ends it in a line feed alone, and passes it on."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def write(self, line: str) -> None:
        self._write(encoded(line.removesuffix("\r\n") + "\n"))
