"""What kinds of files a job may come in, how one is told from its name, and how each becomes lines."""

from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from pathlib import PurePath

from batchrunner.jobfile.decode import compact
from batchrunner.jobfile.lines import Line, LineReader, read_lines, split_lines
from batchrunner.jobfile.source import PathOrStream
from batchrunner.jobfile.tables import table_lines

#: The name that stands for the standard input.
STDIN = "-"


class Format(StrEnum):
    """How the bytes of a job file are to be read; any of them may be packed by gzip."""

    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    TXT = "txt"  #: One prompt a line.

    @classmethod
    def of(cls, name: str) -> "Format":
        """Return the format that the suffix of *name* tells, JSON lines if it tells none."""
        return cls.told(name) or cls.JSONL

    @classmethod
    def told(cls, name: str) -> "Format | None":
        """Return the format that the suffix of *name* tells, None if it tells none."""
        path = PurePath(name)
        suffix = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
        tables = {".csv": cls.CSV, ".tsv": cls.TSV, ".tab": cls.TSV}
        return {**tables, ".txt": cls.TXT, ".jsonl": cls.JSONL, ".ndjson": cls.JSONL, ".json": cls.JSONL}.get(suffix)


def open_lines(source: PathOrStream, form: Format, name: str, fields: Collection[str] | None) -> LineReader:
    """Return the lines of a job file in *form*, each with JSON as its data; see `read_lines`.

    *fields* are the fields of a row that the job's template asks for, None without a template.
    """
    if form is Format.JSONL:
        return read_lines(source)
    if form is Format.TXT:
        return read_lines(source, split=lambda blocks, offset: _prompts(blocks, offset, as_rows=fields is not None))
    delimiter = "," if form is Format.CSV else "\t"
    return read_lines(source, split=lambda blocks, offset: table_lines(blocks, delimiter, name, fields, offset=offset))


def _prompts(blocks: Iterable[bytes], offset: int, *, as_rows: bool) -> Iterator[Line]:
    """Yield each line of text as a JSON string, or *as_rows* as an object whose `line` it is."""
    for line in split_lines(blocks, offset=offset):
        if line.fault is not None:
            yield line
            continue
        try:
            text = line.data.decode()
        except UnicodeDecodeError as error:
            byte = f"byte 0x{line.data[error.start]:02x} at byte {error.start + 1} of the line"
            yield line._replace(data=b"", fault=f"not UTF-8: {byte}: save the file as UTF-8")
            continue
        if "\0" in text:
            yield line._replace(data=b"", fault="a NUL byte: the file is damaged or not text")
            continue
        yield line._replace(data=compact({"line": text} if as_rows else text).encode())
