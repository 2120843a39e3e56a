"""`export`: the answers as CSV, JSON lines or batch results, and what is left as a job file."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from batchrunner.cli import options
from batchrunner.cli.names import find_store
from batchrunner.cli.showing import many, reader_may_leave
from batchrunner.errors import UsageError
from batchrunner.export import ExportReport, Format, Options, Sink, export_ledger
from batchrunner.export import export as write_export
from batchrunner.export.columns import parse_columns
from batchrunner.export.long_cells import EXCEL_ROWS
from batchrunner.model import State
from batchrunner.screen import count, usd, visible
from batchrunner.store.read import Reader
from batchrunner.store.rows import Chosen


@click.command()
@options.jobfile
@options.db
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file instead of stdout.")
@click.option(
    "--format",
    "fmt",
    type=click.Choice([str(f) for f in Format if f is not Format.JOB_FILE]),
    help="CSV, JSON lines, or result lines of the Message Batches API.  [default: by the suffix of -o, else csv]",
)
@click.option("-f", "--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--columns", metavar="A,B,C", help="Only these columns, in this order; metadata keys count as columns.")
@click.option("--where", metavar="SQL", help='Only rows for which this holds: "output_tokens > 500".')
@click.option("--failed", is_flag=True, help="Only failed requests.")
@click.option("--pending", is_flag=True, help="What is left, as a job file that `run` takes.")
@click.option("--flatten/--no-flatten", help="Answers that are JSON objects become columns `answer.key`.")
@click.option("--ledger", is_flag=True, help="A row per attempt, with what it cost: to be held against an invoice.")
@click.option(
    "--excel", is_flag=True, help="CSV for Excel: with a byte order mark, too long cells in a file beside it."
)
@click.option("--raw-csv", is_flag=True, help="Leave cells as they are that a spreadsheet would take for formulas.")
@reader_may_leave()
def export(jobfile: Path, db: Path | None, output: Path | None, *, force: bool, **given: Any) -> None:
    """Write a row for every request of JOBFILE, in its order, with status, answer, tokens and metadata.

    JOBFILE is the job file or its store. It works while a run is going: what has no answer yet is marked pending.

    \b
    Example:  batchrunner export jobs.jsonl -o results.csv
              batchrunner export jobs.jsonl --format jsonl | jq -r .text
              batchrunner export jobs.jsonl --failed --columns custom_id,error_message
              batchrunner export jobs.jsonl --pending -o left.jsonl
              batchrunner export jobs.jsonl --ledger -o ledger.csv
    """
    target = None if output is None or str(output) == "-" else output
    if given.pop("ledger"):
        _ledger(jobfile, db, target, force=force, given=given)
        return
    fmt = _format(given, target)
    wanted = _options(given, fmt)
    with Reader(find_store(jobfile, db)) as reader:
        report = write_export(reader, target or _stdout(), fmt, wanted, overwrite=force, sources=[jobfile])
    for line in _closing_lines(report, target):
        click.echo(line, err=True)


#: What speaks of requests, not of attempts.
_OF_REQUESTS = {"columns": "--columns", "where": "--where", "failed": "--failed", "pending": "--pending"} | {
    "flatten": "--flatten",
    "excel": "--excel",
}


def _ledger(jobfile: Path, db: Path | None, target: Path | None, *, force: bool, given: dict[str, Any]) -> None:
    asked = [flag for name, flag in _OF_REQUESTS.items() if given[name] and not options.is_from_definition(name)]
    if asked:
        raise UsageError(f"--ledger writes every attempt; leave out {', '.join(asked)}.")
    named = given["fmt"] if not options.is_from_definition("fmt") else None
    fmt = Format(named) if named else Format.of(target) if target else Format.CSV
    with Reader(find_store(jobfile, db)) as reader:
        report = export_ledger(
            reader, target or _stdout(), fmt, raw=given["raw_csv"], overwrite=force, sources=[jobfile]
        )
    where = visible(str(target)) if target else "stdout"
    unsaid = f" (at most {usd(report.unsaid_usd)})" if report.unsaid_usd else ""
    unknown = f", {many(report.unpriced, 'answer')} without a known cost{unsaid}" if report.unpriced else ""
    more = (
        f"; at most {usd(report.possible_usd)} more for {many(report.possibly_billed, 'attempt')} that may have been billed"
        if report.possibly_billed
        else ""
    )
    click.echo(
        f"wrote {many(report.rows, 'attempt')} to {where}: {usd(report.known_usd)} known{unknown}{more}", err=True
    )


def _options(given: dict[str, Any], fmt: Format) -> Options:
    if fmt not in {Format.CSV, Format.JSONL}:  # lines of a form of their own: what a definition says is about tables
        given = {**given, **dict.fromkeys(filter(options.is_from_definition, ("columns", "flatten")))}
    if given["failed"] and given["pending"]:
        raise UsageError("A request is failed or pending, not both: give --failed or --pending.")
    only = State.FAILED if given["failed"] else State.PENDING if given["pending"] else None
    return Options(
        chosen=Chosen(only, given["where"]),
        columns=parse_columns(given["columns"]) if given["columns"] is not None else (),
        flatten=bool(given["flatten"]),
        raw=given["raw_csv"],
        excel=given["excel"],
    )


def _format(given: dict[str, Any], target: Path | None) -> Format:
    if given["pending"]:
        if given["fmt"] and not options.is_from_definition("fmt"):
            raise UsageError(
                "--pending writes a job file; leave out --format. `--where \"status = 'pending'\"` writes rows."
            )
        return Format.JOB_FILE
    if given["fmt"]:
        return Format(given["fmt"])
    return Format.of(target) if target else Format.CSV


class _Terminal:
    """Shows data on a terminal: answers must not move its cursor, set its title or fill its clipboard."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> None:
        self._sink.write(visible(data.decode(), keep_lines=True).encode())

    def flush(self) -> None:
        self._sink.flush()


def _stdout() -> Sink:
    stdout = sys.stdout.buffer
    return _Terminal(stdout) if sys.stdout.isatty() else stdout


def _closing_lines(report: ExportReport, target: Path | None) -> Iterator[str]:
    rows = "1 row" if report.rows == 1 else f"{count(report.rows)} rows"
    where = visible(str(target)) if target else "stdout"
    left_out = f" ({count(report.removed)} no longer in the input left out)" if report.removed else ""
    yield (
        f"wrote {rows} to {where}: {count(report.succeeded)} succeeded, {count(report.failed)} failed, "
        f"{count(report.pending)} pending{left_out}"
    )
    if report.escaped_cells:
        yield (
            f"{_cells(report.escaped_cells)} got a ' in front, lest a spreadsheet take them for formulas; "
            "use --raw-csv or --format jsonl for exact data"
        )
    if report.side_file is not None:
        verb = "is" if report.long_cells == 1 else "are"
        yield (
            f"{_cells(report.long_cells)} too long for Excel {verb} in {visible(str(report.side_file))}; "
            "in place of each stands the number of its line there"
        )
    if target and report.rows >= EXCEL_ROWS and target.suffix.lower() == ".csv":
        yield f"a sheet of Excel holds {count(EXCEL_ROWS)} rows; open it with something else, or split it with --where"


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{count(number)} cells"
