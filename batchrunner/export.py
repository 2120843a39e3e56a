"""The answers as a file: CSV for spreadsheets, JSON lines for programs. Streamed; a file appears whole or not at all."""

import contextlib
import csv
import errno
import json
import os
import re
import sqlite3
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from batchrunner.errors import BatchrunnerError, Exit, UsageError
from batchrunner.model import State
from batchrunner.store.files import lock_path
from batchrunner.store.read import EXPORT_COLUMNS, Reader

# Spreadsheets take a cell that starts like this for a formula; the blanks before it they may drop. Quotes are looked
# through, so that a cell that stands as if it had been escaped is escaped too, and `unescape` is exact.
_FORMULA = re.compile(r"'*\s*[=+\-@\t\r\n\0＝＋－＠]")

_STORE_COMPANIONS = ("-wal", "-shm", "-journal", ".new")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_BUFFER_BYTES = 1024 * 1024


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
    with _appearing_whole(target) as sink:
        report = _write(reader, sink, fmt, raw=raw)
        check_target(target, overwrite=overwrite, kept=kept)  # writing takes time: somebody may have been faster
    return report


def check_target(target: Path, *, overwrite: bool, kept: Iterable[Path]) -> None:
    """Raise `UsageError` unless *target* can be written: a new file, or with *overwrite* one that is none of *kept*."""
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        mode = None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UsageError(f"{target} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    if any(_is_same(target, path) for path in kept):
        raise UsageError(f"{target} is the job file or part of its store; give the export another name.")
    if mode is None:
        if not target.parent.is_dir():
            raise UsageError(f"There is no directory {target.parent} to write {target.name} to; make it first.")
    elif stat.S_ISDIR(mode):
        raise UsageError(f"{target} is a directory; name a file in it.")
    elif stat.S_ISLNK(mode):
        raise UsageError(f"{target} is a symbolic link, which an export does not follow; name the file itself.")
    elif not stat.S_ISREG(mode):
        raise UsageError(f"{target} is a pipe or a device; leave -o away and redirect the output to it.")
    elif not overwrite:
        raise UsageError(f"{target} exists; -f replaces it.")


def _store_files(store: Path) -> list[Path]:
    return [store, lock_path(store), *(store.with_name(store.name + suffix) for suffix in _STORE_COMPANIONS)]


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there; a name may still be that of a file to come
        return one.absolute() == other.absolute()


@contextlib.contextmanager
def _appearing_whole(target: Path) -> Iterator[Sink]:
    # mkstemp: a name nobody can foresee, made by us or not at all, mode 0600.
    fd, name = tempfile.mkstemp(prefix=".batchrunner-", suffix=".part", dir=target.parent)
    draft = Path(name)
    try:
        with open(fd, "wb", buffering=_BUFFER_BYTES) as file:  # noqa: PTH123 - a descriptor, not a path
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    """Make a new name in *directory* survive a power cut; a file system that cannot do so has done what it can."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


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

    def write(self, row: sqlite3.Row) -> None:
        """Write one object."""
        *cells, metadata = row
        fields = json.dumps(dict(zip(EXPORT_COLUMNS, cells, strict=True)), ensure_ascii=False)
        # The metadata goes in as the text it is: nothing is lost by reading and writing its numbers.
        line = f'{fields[:-1]}, "metadata": {metadata or "null"}}}\n'
        self._sink.write(_encoded(line))


class _CsvRows:
    """CSV: a header, then a line per request with a column per metadata key."""

    def __init__(self, sink: Sink, keys: Iterable[str], *, raw: bool) -> None:
        self.escaped_cells = 0
        self._raw = raw
        self._keys = list(keys)
        # With this end of line csv quotes cells with either of its characters, on every Python.
        self._csv = csv.writer(_LineFeeds(sink), lineterminator="\r\n")
        self._write([*EXPORT_COLUMNS, *column_names(self._keys)])

    def write(self, row: sqlite3.Row) -> None:
        """Write one line."""
        *cells, metadata = row
        if self._keys:
            values = json.loads(metadata or "{}")
            cells += [_metadata_cell(values.get(key)) for key in self._keys]
        self._write(cells)

    def _write(self, cells: list[Any]) -> None:
        self._csv.writerow(cells if self._raw else map(self._escaped, cells))

    def _escaped(self, cell: Any) -> Any:
        # Numbers stay numbers: -1.5 is no formula.
        if not isinstance(cell, str) or not _FORMULA.match(cell):
            return cell
        self.escaped_cells += 1
        return "'" + cell


class _LineFeeds:
    """Takes one CSV line at a time, ends it in a line feed alone, and passes it on as UTF-8."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, line: str) -> None:
        self._sink.write(_encoded(line.removesuffix("\r\n") + "\n"))


def _encoded(text: str) -> bytes:
    # A lone surrogate has no UTF-8. As `\ud800` it is the same in JSON, and readable in CSV.
    return text.encode("utf-8", "backslashreplace")


def unescape(cell: str) -> str:
    """Return what *cell* of a CSV export was before it was escaped."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


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
