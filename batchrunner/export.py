"""The answers as a file: CSV for spreadsheets, JSON lines for programs. Streamed; a file appears whole or not at all."""

import errno
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from batchrunner.csv_cells import CsvWriter, encoded
from batchrunner.errors import BatchrunnerError, Exit, UsageError
from batchrunner.model import State
from batchrunner.outfile import appearing_whole, check_target
from batchrunner.store.files import lock_path
from batchrunner.store.found import EXPORT_COLUMNS, ExportRow
from batchrunner.store.read import Reader

_STORE_COMPANIONS = ("-wal", "-shm", "-journal", ".new")
_FULL = {errno.ENOSPC, errno.EDQUOT}


class ExportError(BatchrunnerError):
    """The export could not be written. Nothing is left of it, and what stood there before is untouched."""

    exit_code = Exit.STORE


class Format(StrEnum):
    """How an export is written."""

    CSV = "csv"  #: UTF-8, lines end in a line feed, cells are quoted where they must be.
    JSONL = "jsonl"  #: One object per request, exact.

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
class ExportReport:
    """What was written, in rows."""

    rows: int
    succeeded: int
    failed: int
    pending: int
    removed: int  #: Left out: in the store, but no line of the latest input any more.
    escaped_cells: int  #: CSV cells that got a `'` in front.


def export(
    reader: Reader,
    target: Path | Sink,
    fmt: Format,
    *,
    raw: bool = False,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
) -> ExportReport:
    """Write a row for every request of the latest input, in its order, to the file or stream *target*.

    CSV cells that a spreadsheet would take for a formula get a `'` in front, unless *raw*. A file is made under
    another name in the same directory, readable by its owner only, and moved in place when it is whole and on the disk.
    One that is there already is replaced only with *overwrite*; the store, its input and *sources* never are.
    Raises `UsageError` if the target or the store will not do, `ExportError` if writing fails, `BrokenPipeError` if
    the stream's reader has gone.
    """
    job = reader.job()
    if job is None:
        raise UsageError(f"{reader.path} has no requests yet; `batchrunner run` takes the job file in.")
    try:
        if not isinstance(target, Path):
            return _write(reader, target, fmt, raw=raw)
        kept = [*_store_files(reader.path), Path(job.input_path), reader.path.parent / job.input_path, *sources]
        return _write_file(reader, target, fmt, raw=raw, overwrite=overwrite, kept=kept)
    except BrokenPipeError:
        raise
    except OSError as error:
        what = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        where = f"{target} could not be written" if isinstance(target, Path) else "The output broke off"
        raise ExportError(f"{where}: {what}. The answers are safe in {reader.path}.") from error


def _write_file(
    reader: Reader, target: Path, fmt: Format, *, raw: bool, overwrite: bool, kept: Sequence[Path]
) -> ExportReport:
    check_target(target, overwrite=overwrite, kept=kept)
    with appearing_whole(target) as sink:
        report = _write(reader, sink, fmt, raw=raw)
        check_target(target, overwrite=overwrite, kept=kept)  # writing takes time: somebody may have been faster
    return report


def _store_files(store: Path) -> list[Path]:
    return [store, lock_path(store), *(store.with_name(store.name + suffix) for suffix in _STORE_COMPANIONS)]


def _write(reader: Reader, sink: Sink, fmt: Format, *, raw: bool) -> ExportReport:
    rows = _CsvRows(sink, metadata_keys(reader.metadata()), raw=raw) if fmt is Format.CSV else _JsonRows(sink)
    states: Counter[str] = Counter()
    for row in reader.export_rows():
        states[row["status"]] += 1
        rows.write(row)
    sink.flush()
    return ExportReport(
        rows=states.total(),
        succeeded=states[State.SUCCEEDED],
        failed=states[State.FAILED],
        pending=states[State.PENDING],
        removed=reader.progress().removed,
        escaped_cells=rows.escaped_cells,
    )


class _JsonRows:
    """JSON lines: the fields of the CSV, the metadata as one object."""

    escaped_cells = 0

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, row: ExportRow) -> None:
        """Write one object."""
        *cells, metadata = row
        fields = json.dumps(dict(zip(EXPORT_COLUMNS, cells, strict=True)), ensure_ascii=False)
        # The metadata goes in as the text it is: nothing is lost by reading and writing its numbers.
        line = f'{fields[:-1]}, "metadata": {metadata or "null"}}}\n'
        self._sink.write(encoded(line))


class _CsvRows:
    """CSV: a header, then a line per request with a column per metadata key."""

    def __init__(self, sink: Sink, keys: Iterable[str], *, raw: bool) -> None:
        self._keys = list(keys)
        self._csv = CsvWriter(sink.write, raw=raw)
        self._csv.row([*EXPORT_COLUMNS, *column_names(self._keys)])

    @property
    def escaped_cells(self) -> int:
        """Cells that got a `'` in front."""
        return self._csv.escaped_cells

    def write(self, row: ExportRow) -> None:
        """Write one line."""
        *cells, metadata = row
        if self._keys:
            values = json.loads(metadata or "{}")
            cells += [_metadata_cell(values.get(key)) for key in self._keys]
        self._csv.row(cells)


def metadata_keys(texts: Iterable[str]) -> list[str]:
    """Return the keys of all metadata objects (JSON texts), in the order in which they appear first."""
    keys: dict[str, None] = {}
    for text in texts:
        for key in json.loads(text):
            keys.setdefault(key)
    return list(keys)


def column_names(keys: Iterable[str]) -> list[str]:
    """Return a column name for each metadata key: the key, with `metadata.` in front where that name is taken."""
    names = dict.fromkeys(EXPORT_COLUMNS)
    for key in keys:
        name = key
        while name in names:
            name = f"metadata.{name}"
        names[name] = None
    return list(names)[len(EXPORT_COLUMNS) :]


def _metadata_cell(value: Any) -> Any:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return value
    return None if value is None else json.dumps(value, ensure_ascii=False)
