"""Writing an export: streamed; a file appears whole or not at all."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from batchrunner.errors import UsageError
from batchrunner.export.columns import make_layout
from batchrunner.export.lines import BatchResults, JobLines
from batchrunner.export.long_cells import LongCells
from batchrunner.export.settings import ExportReport, Format, Options, Sink
from batchrunner.export.tables import CsvRows, JsonRows, Rows
from batchrunner.export.targets import kept_files, writing_to
from batchrunner.model import State
from batchrunner.outfile import appearing_whole, check_target
from batchrunner.store.read import Reader

_PLAIN = Options()


def export(
    reader: Reader,
    target: Path | Sink,
    fmt: Format,
    options: Options = _PLAIN,
    *,
    overwrite: bool = False,
    sources: Iterable[Path] = (),
) -> ExportReport:
    """Write a row for every chosen request of the latest input, in its order, to the file or stream *target*.

    CSV cells that a spreadsheet would take for a formula get a `'` in front, unless `options.raw`. A file is made under
    another name in the same directory, readable by its owner only, and moved in place when it is whole and on the disk.
    One that is there already is replaced only with *overwrite*; the store, its input and *sources* never are.
    Raises `UsageError` if the target, the options or the store will not do, `ExportError` if writing fails,
    `BrokenPipeError` if the stream's reader has gone.
    """
    kept = kept_files(reader, sources)
    _check(fmt, options, target)
    if options.chosen.where is not None:
        reader.check_condition(options.chosen.where)  # before the first byte is out
    with writing_to(target, reader.path):
        if not isinstance(target, Path):
            return _write(reader, target, fmt, options)
        return _write_file(reader, target, fmt, options, overwrite=overwrite, kept=kept)


def _check(fmt: Format, options: Options, target: Path | Sink) -> None:
    if (options.columns or options.flatten) and fmt not in {Format.CSV, Format.JSONL}:
        raise UsageError(f"{fmt} lines have a form of their own; leave out --columns and --flatten.")
    if options.excel and fmt is not Format.CSV:
        raise UsageError(f"--excel is about CSV, and this export is {fmt}.")
    if options.excel and not isinstance(target, Path):
        raise UsageError("--excel needs a file (-o): cells too long for Excel go to another one beside it.")


def _write_file(
    reader: Reader, target: Path, fmt: Format, options: Options, *, overwrite: bool, kept: Sequence[Path]
) -> ExportReport:
    check_target(target, overwrite=overwrite, kept=kept)
    with appearing_whole(target) as sink:
        beside = LongCells(target, overwrite=overwrite, kept=[*kept, target]) if options.excel else None
        with beside or contextlib.nullcontext():  # in place before the export that refers to it
            report = _write(reader, sink, fmt, options, beside)
            check_target(target, overwrite=overwrite, kept=kept)  # writing takes time: somebody may have been faster
    return report


def _write(
    reader: Reader, sink: Sink, fmt: Format, options: Options, long_cells: LongCells | None = None
) -> ExportReport:
    rows, extra = _rows(reader, sink, fmt, options, long_cells)
    states: Counter[str] = Counter()
    for row in reader.export_rows(options.chosen, extra):
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
        long_cells=long_cells.cells if long_cells else 0,
        side_file=long_cells.path if long_cells and long_cells.cells else None,
    )


def _rows(
    reader: Reader, sink: Sink, fmt: Format, options: Options, long_cells: LongCells | None
) -> tuple[Rows, Sequence[str]]:
    """Return the writer of *fmt* and what its rows must have beside the ordinary columns."""
    if fmt is Format.BATCH_RESULTS:
        return BatchResults(sink), BatchResults.extra
    if fmt is Format.JOB_FILE:
        return JobLines(sink), JobLines.extra
    layout = make_layout(reader, fmt, options)
    if fmt is Format.JSONL:
        return JsonRows(sink, layout), layout.extra
    return CsvRows(sink, layout, raw=options.raw, long_cells=long_cells), layout.extra
