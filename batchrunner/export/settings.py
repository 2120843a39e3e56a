"""What an export is asked for and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from batchrunner.errors import BatchrunnerError, Exit
from batchrunner.store.rows import ALL, Chosen


class ExportError(BatchrunnerError):
    """The export could not be written. Nothing is left of it, and what stood there before is untouched."""

    exit_code = Exit.STORE


class Format(StrEnum):
    """How an export is written."""

    CSV = "csv"  #: UTF-8, lines end in a line feed, cells are quoted where they must be.
    JSONL = "jsonl"  #: One object per request, exact.
    BATCH_RESULTS = "batch-results"  #: The lines that the Message Batches API gives as results.
    JOB_FILE = "job-file"  #: The lines of a job file, with everything filled in.

    @classmethod
    def of(cls, path: Path) -> "Format":
        """Return the format that the suffix of *path* means; CSV if it means none."""
        return cls.JSONL if path.suffix.lower() in {".jsonl", ".ndjson", ".json"} else cls.CSV


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take *data*."""
        ...

    def flush(self) -> object:
        """Pass on what is held back."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """What goes into an export."""

    chosen: Chosen = ALL  #: Which requests.
    columns: Sequence[str] = ()  #: Names of columns, in the order wanted; empty: all. CSV and JSON lines only.
    flatten: bool = False  #: Answers that are JSON objects become columns `answer.key`. CSV and JSON lines only.
    raw: bool = False  #: Leave CSV cells as they are that a spreadsheet would take for formulas.
    excel: bool = False  #: CSV for Excel: a byte order mark, cells that are too long in a file of their own.


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, in rows."""

    rows: int
    succeeded: int
    failed: int
    pending: int
    removed: int  #: Left out: in the store, but no line of the latest input any more.
    escaped_cells: int  #: CSV cells that got a `'` in front.
    long_cells: int = 0  #: Cells that Excel could not hold.
    side_file: Path | None = None  #: Where they are.
