"""Cells that Excel cannot hold: it cuts them off without a word, so they go to a file of their own."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batchrunner.csv_cells import encoded, escape
from batchrunner.outfile import appearing_whole, check_target
from batchrunner.screen import count

#: Characters that a cell of Excel can hold, counted in UTF-16 as it does.
EXCEL_CELL = 32_767
#: Rows that a sheet of Excel can hold, the header among them.
EXCEL_ROWS = 1_048_576


class LongCells:
    """The file beside an export that holds its longest cells, a JSON object a line. Made when there is one."""

    def __init__(self, export: Path, *, overwrite: bool, kept: Sequence[Path]) -> None:
        self.path = export.with_name(f"{export.stem}.long-cells.jsonl")
        self.cells = 0
        self._overwrite = overwrite
        self._kept = kept
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def fit(self, cell: Any, custom_id: str, column: str) -> Any:
        """Return *cell*, or if it is too long what stands in its place, and write it down."""
        if not isinstance(cell, str) or len(cell) * 2 < EXCEL_CELL or _length(cell) <= EXCEL_CELL:
            return cell
        if not self.cells:
            check_target(self.path, overwrite=self._overwrite, kept=self._kept)
            self._file = self._open.enter_context(appearing_whole(self.path))
        self.cells += 1
        record = {"custom_id": custom_id, "column": column, "text": cell}
        self._file.write(encoded(json.dumps(record, ensure_ascii=False) + "\n"))
        return f"[{count(len(cell))} characters: line {self.cells} of {self.path.name}]"


def _length(cell: str) -> int:
    return len(escape(cell).encode("utf-16-le", "surrogatepass")) // 2
