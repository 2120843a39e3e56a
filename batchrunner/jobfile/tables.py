"""CSV and TSV: each row becomes a line whose data is the row as a JSON object, keyed by the header."""

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from batchrunner.errors import InputError
from batchrunner.jobfile.decode import compact
from batchrunner.jobfile.faults import SHOWN_CHARS, shown, shown_names
from batchrunner.jobfile.lines import MAX_LINE_BYTES, Line

_ID_COLUMNS = ("custom_id", "id")


def table_lines(
    blocks: Iterable[bytes],
    delimiter: str,
    name: str,
    fields: Collection[str] | None,
    *,
    offset: int = 0,
    max_row_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Line]:
    """Yield the rows of a table given in blocks, the first of which stands at *offset*.

    A line's number is that of the line on which its row begins, for a cell may hold line ends. A row with a fault does
    not harm the next one. *fields* are the columns the job asks for, None if it has no template.
    InputError if the header cannot be used or a row has no end.
    """
    if csv.field_size_limit() < max_row_bytes:  # The limit is the process's, so it is only ever raised.
        csv.field_size_limit(max_row_bytes)
    feed = _Feed(blocks, name, offset, max_row_bytes)
    header = _header(feed, delimiter, name, fields)
    if header is None:
        return
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    row = 0
    while True:
        feed.begin_row()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            row += 1
            yield Line(feed.row_line, feed.row_offset, b"", _not_csv(error), row)
            continue
        if cells:  # A blank line has none.
            row += 1
            data, fault = _data(header, cells)
            yield Line(feed.row_line, feed.row_offset, data, fault, row)


class _Feed:
    """Hands out the lines of a file with their ends, for csv.reader, and knows where each row began."""

    def __init__(self, blocks: Iterable[bytes], name: str, offset: int, max_row_bytes: int) -> None:
        self._lines = self._split(blocks)
        self._name = name
        self._max_row_bytes = max_row_bytes
        self._line = 0
        self._offset = offset
        self._waiting = 0  # bytes of a line that has not ended yet
        self.row_line = 1
        self.row_offset = offset

    def begin_row(self) -> None:
        """Note that the next line begins a row."""
        self.row_line, self.row_offset = self._line + 1, self._offset

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        data = next(self._lines)
        self._line += 1
        self._offset += len(data)
        self._check()
        # Bytes that are no UTF-8 get through, so that only their row is refused.
        return data.decode(errors="surrogateescape")

    def _check(self) -> None:
        if self._offset + self._waiting - self.row_offset > self._max_row_bytes:
            raise InputError(
                f"{self._name}: the row that begins on line {self.row_line:,} is longer than {self._max_row_bytes:,} "
                'bytes, what the API takes in one request. Does a quote (") open there that never closes?'
            )

    def _split(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        parts: list[bytes] = []
        for block in blocks:
            *ended, last = block.split(b"\n")
            for piece in ended:
                parts.append(piece)
                self._waiting = 0
                yield b"".join(parts) + b"\n"
                parts.clear()
            if last:
                parts.append(last)
                self._waiting += len(last)
                self._check()
        self._waiting = 0
        if parts:
            yield b"".join(parts)


def _header(feed: _Feed, delimiter: str, name: str, fields: Collection[str] | None) -> list[str] | None:
    """Return the names of the columns, None if the file has no row at all."""
    header: list[str] = []
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    while not header:
        feed.begin_row()
        try:
            header = next(rows)
        except StopIteration:
            return None
        except csv.Error as error:
            raise InputError(f"{name}: the header (line {feed.row_line}) is damaged: {_not_csv(error)}.") from None
    _check_names(header, name)
    if fields is None:
        short = [column for column in header if len(column) <= SHOWN_CHARS and column.isprintable()]
        example = next((column for column in short if column not in _ID_COLUMNS), short[0] if short else "column")
        raise InputError(
            f"{name} is a table: say how a row becomes a prompt, such as --prompt 'Solve: {{{example}}}'. "
            f"Its columns are {shown_names(header)}."
        )
    if missing := [field for field in fields if field not in header]:
        hint = f" Are its cells separated by something else than {_NAMES[delimiter]}?" if len(header) == 1 else ""
        raise InputError(
            f"{name}: no column {shown(missing[0])} for the template; the columns are {shown_names(header)}.{hint}"
        )
    return header


_NAMES = {",": "commas", "\t": "tabs"}


def _check_names(header: Sequence[str], name: str) -> None:
    try:
        "".join(header).encode()
    except UnicodeEncodeError:
        raise InputError(f"{name}: the header is not UTF-8: save the file as UTF-8.") from None
    for number, column in enumerate(header, 1):
        if not column or column.isspace():
            hint = "; pandas writes such a one unless told index=False" if number == 1 else ""
            raise InputError(f"{name}: column {number} has no name in the header: give each column a name{hint}.")
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise InputError(
            f"{name}: the column {shown(twice[0])} stands twice in the header: give each a name of its own."
        )


def _data(header: Sequence[str], cells: Sequence[str]) -> tuple[bytes, str | None]:
    """Return the row as JSON and what is wrong with it, if anything is: then the data only tells it from other rows."""
    if len(cells) != len(header):
        hint = ": a cell with a separator or a quote in it must stand in quotes" if len(cells) > len(header) else ""
        plural = "cell" if len(cells) == 1 else "cells"
        return compact(list(cells)).encode(
            errors="surrogatepass"
        ), f"{len(cells):,} {plural}, but the header has {len(header):,}{hint}"
    row: dict[str, str | None] = dict(zip(header, cells, strict=True))
    for column in _ID_COLUMNS:
        if row.get(column) == "":  # Nothing in the cell is no id, as null is in JSON.
            row[column] = None
    try:
        return compact(row).encode(), None
    except UnicodeEncodeError:
        return compact(row).encode(errors="surrogatepass"), _not_utf8(row)


def _not_utf8(row: dict[str, str | None]) -> str:
    column, char = next((c, char) for c, text in row.items() for char in text or "" if "\ud800" <= char <= "\udfff")
    return f"not UTF-8: byte 0x{ord(char) - 0xDC00:02x} in the column {shown(column)}: save the file as UTF-8"


def _not_csv(error: csv.Error) -> str:
    text = str(error)
    if text == "unexpected end of data":
        return 'a quote (") opens in this row and never closes'
    if text.endswith("expected after '\"'"):
        return 'a quoted cell goes on after its closing quote: a quote inside a quoted cell is written twice ("")'
    if text.startswith("new-line character"):
        return "a lone carriage return outside of quotes: lines must end in LF or CRLF"
    return f"not CSV: {text}"
