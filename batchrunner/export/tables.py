"""Rows as CSV and as JSON lines."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Protocol

from batchrunner.csv_cells import CsvWriter, encoded
from batchrunner.export.columns import Column, Layout, Origin
from batchrunner.export.long_cells import LongCells
from batchrunner.export.settings import Sink
from batchrunner.store.found import ExportRow

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: What a CSV cell takes as it is.
_PLAIN = {str, int, float, type(None)}
_dumped = json.JSONEncoder(ensure_ascii=False).encode


class Rows(Protocol):
    """Writes the rows of an export in one format."""

    @property
    def escaped_cells(self) -> int:
        """Cells that got a `'` in front."""
        ...

    def write(self, row: ExportRow) -> None:
        """Write one request."""
        ...


class JsonRows:
    """JSON lines: an object per request; without chosen columns, the metadata in it as one object."""

    escaped_cells = 0

    def __init__(self, sink: Sink, layout: Layout) -> None:
        self._sink = sink
        self._runs = list(_runs_of_a_kind(layout.columns))
        self._values = layout.reader()

    def write(self, row: ExportRow) -> None:
        """Write one object."""
        values = iter(self._values(row))
        fields = ", ".join(
            # Metadata and messages go in as the text they are: nothing is lost by reading and writing their numbers.
            f"{_dumped(names[0])}: {one_line(next(values))}"
            if exact
            else _dumped(dict(zip(names, values, strict=False)))[1:-1]
            for exact, names in self._runs
        )
        self._sink.write(encoded(f"{{{fields}}}\n"))


def _runs_of_a_kind(columns: Iterable[Column]) -> Iterator[tuple[bool, list[str]]]:
    """Yield the names of exact JSON columns one by one, those of the others in runs, to be written together."""
    for exact, run in groupby(columns, key=lambda column: column.origin is Origin.JSON):
        names = [column.name for column in run]
        yield from ((True, [name]) for name in names) if exact else ((False, names),)


class CsvRows:
    """CSV: a header, then a line per request with a column per metadata key."""

    def __init__(self, sink: Sink, layout: Layout, *, raw: bool, long_cells: LongCells | None = None) -> None:
        if long_cells is not None:
            sink.write(_BYTE_ORDER_MARK)
        self._names = [column.name for column in layout.columns]
        self._values = layout.reader()
        self._is_plain = layout.is_plain
        self._long_cells = long_cells
        self._csv = CsvWriter(sink.write, raw=raw)
        self._csv.row(self._names)

    @property
    def escaped_cells(self) -> int:
        """Cells that got a `'` in front."""
        return self._csv.escaped_cells

    def write(self, row: ExportRow) -> None:
        """Write one line."""
        cells = self._values(row) if self._is_plain else list(map(_cell, self._values(row)))
        if self._long_cells is not None:
            cells = [
                self._long_cells.fit(cell, row["custom_id"], name)
                for name, cell in zip(self._names, cells, strict=True)
            ]
        self._csv.row(cells)


def one_line(text: str | None) -> str:
    """Return JSON *text* without line ends; `null` for None."""
    # A line end cannot stand in a JSON string, only between its parts: a gateway may have set the answer out nicely.
    return "null" if text is None else text.replace("\r", " ").replace("\n", " ")


def _cell(value: Any) -> Any:
    return value if type(value) in _PLAIN else _dumped(value)
