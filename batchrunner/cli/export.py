"""`export`: the answers as CSV or JSON lines."""

import sys
from pathlib import Path

import click

from batchrunner.cli import options
from batchrunner.cli.names import find_store
from batchrunner.cli.showing import reader_may_leave
from batchrunner.export import ExportReport, Format, Sink
from batchrunner.export import export as write_export
from batchrunner.screen import count, visible
from batchrunner.store.read import Reader


@click.command()
@options.jobfile
@options.db
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write to this file instead of stdout.")
@click.option(
    "--format",
    "fmt",
    type=click.Choice([str(f) for f in Format]),
    help="CSV or JSON lines.  [default: by the suffix of -o, else csv]",
)
@click.option("-f", "--force", is_flag=True, help="Replace the file if it exists.")
@click.option("--raw-csv", is_flag=True, help="Leave cells as they are that a spreadsheet would take for formulas.")
@reader_may_leave()
def export(jobfile: Path, db: Path | None, output: Path | None, fmt: str | None, *, force: bool, raw_csv: bool) -> None:
    """Write a row for every request of JOBFILE, in its order, with status, answer, tokens and metadata.

    JOBFILE is the job file or its store. It works while a run is going: what has no answer yet is marked pending.

    \b
    Example:  batchrunner export jobs.jsonl -o results.csv
              batchrunner export jobs.jsonl --format jsonl | jq -r .text
    """
    target = None if output is None or str(output) == "-" else output
    wanted = Format(fmt) if fmt else Format.of(target) if target else Format.CSV
    with Reader(find_store(jobfile, db)) as reader:
        report = write_export(reader, target or _stdout(), wanted, raw=raw_csv, overwrite=force, sources=[jobfile])
    click.echo(_closing_line(report, target), err=True)
    if report.escaped_cells:
        cells = "1 cell" if report.escaped_cells == 1 else f"{count(report.escaped_cells)} cells"
        click.echo(
            f"{cells} got a ' in front, lest a spreadsheet take them for formulas; use --raw-csv or --format jsonl for exact data",
            err=True,
        )


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


def _closing_line(report: ExportReport, target: Path | None) -> str:
    rows = "1 row" if report.rows == 1 else f"{count(report.rows)} rows"
    where = visible(str(target)) if target else "stdout"
    left_out = f" ({count(report.removed)} no longer in the input left out)" if report.removed else ""
    return (
        f"wrote {rows} to {where}: {count(report.succeeded)} succeeded, {count(report.failed)} failed, "
        f"{count(report.pending)} pending{left_out}"
    )
