"""The ledger as a file: a row per attempt, for the reconciliation with an invoice."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from batchrunner.csv_cells import CsvWriter, encoded
from batchrunner.errors import UsageError
from batchrunner.export.settings import Format, Sink
from batchrunner.export.targets import kept_files, writing_to
from batchrunner.outfile import appearing_whole, check_target
from batchrunner.store.accounts import LEDGER_COLUMNS
from batchrunner.store.read import Reader


@dataclass(slots=True)
class LedgerReport:
    """What was written."""

    rows: int = 0
    known_usd: float = 0.0
    unpriced: int = 0  #: Answers without a cost.
    possibly_billed: int = 0
    possible_usd: float = 0.0
    unsaid_usd: float = 0.0  #: What answers cost at most that do not say what they took.


def export_ledger(
    reader: Reader,
    target: Path | Sink,
    fmt: Format,
    *,
    raw: bool = False,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
) -> LedgerReport:
    """Write a row for every attempt, also of requests that left the input, to the file or stream *target*.

    *fmt*: CSV or JSON lines; *raw*: leave cells as they are that a spreadsheet would take for formulas. The columns are
    `LEDGER_COLUMNS`, the order that of the requests' arrival. Files are made, and errors raised, as `export` does.
    """
    if fmt not in {Format.CSV, Format.JSONL}:
        raise UsageError(f"A ledger is CSV or JSON lines, not {fmt}.")
    kept = kept_files(reader, sources)
    with writing_to(target, reader.path):
        if not isinstance(target, Path):
            return _write(reader, target, fmt, raw=raw)
        check_target(target, overwrite=overwrite, kept=kept)
        with appearing_whole(target) as sink:
            report = _write(reader, sink, fmt, raw=raw)
            check_target(target, overwrite=overwrite, kept=kept)
    return report


def _write(reader: Reader, sink: Sink, fmt: Format, *, raw: bool) -> LedgerReport:
    report = LedgerReport()
    csv = CsvWriter(sink.write, raw=raw) if fmt is Format.CSV else None
    if csv is not None:
        csv.row(LEDGER_COLUMNS)
    for row in reader.ledger():
        report.rows += 1
        report.known_usd += row["cost_usd"] or 0.0
        report.unpriced += row["cost_usd"] is None and row["output_tokens"] is not None
        report.possibly_billed += row["possibly_billed"]
        if row["possibly_billed"]:
            report.possible_usd += row["possible_usd"] or 0.0
        else:
            report.unsaid_usd += row["possible_usd"] or 0.0
        if csv is not None:
            csv.row(tuple(row))
        else:
            sink.write(encoded(json.dumps(dict(row), ensure_ascii=False) + "\n"))
    sink.flush()
    return report
