"""`errors`: what failed, why, and the command that mends each kind."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batchrunner.advice import ADVICE
from batchrunner.cli import options
from batchrunner.cli.names import Names, find_store
from batchrunner.cli.showing import as_json_option, attempts, fitting, reader_may_leave, say, screen_width, wrapped
from batchrunner.model import ErrorClass
from batchrunner.screen import clip, count, visible
from batchrunner.store.found import FailureGroup
from batchrunner.store.read import Reader

_GROUPS_SHOWN = 30


@click.command()
@options.jobfile
@options.db
@as_json_option
@click.option(
    "--class", "error_class", type=click.Choice([str(c) for c in ErrorClass]), help="Only failures of this class."
)
@click.option("--rows", is_flag=True, help="List each failed request.")
@reader_may_leave()
def errors(jobfile: Path, db: Path | None, *, as_json: bool, error_class: str | None, rows: bool) -> None:
    """Show what failed in JOBFILE, why, and the command that mends it.

    JOBFILE is the job file or its store.

    \b
    Example:  batchrunner errors jobs.jsonl
              batchrunner errors jobs.jsonl --class invalid --rows
    """
    with Reader(find_store(jobfile, db)) as reader:
        names = Names.of(jobfile, db, reader.job())
        if as_json:
            click.echo(json.dumps(_report(reader, error_class, names, rows=rows), indent=2))
        elif rows:
            for failed in reader.failed_requests(error_class):
                place = f"{failed.custom_id}  line {failed.line}  {failed.error_class}  {attempts(failed.attempts)}"
                say(fitting(f"{visible(place)}  {visible(failed.message)}"))
        else:
            for line in _lines(reader, error_class, names, datetime.now(UTC)):
                say(line)


def _report(reader: Reader, error_class: str | None, names: Names, *, rows: bool) -> dict[str, Any]:
    report: dict[str, Any] = {
        "store": str(reader.path),
        "failed": reader.progress().failed,
        "groups": [_group_report(group, names) for group in reader.failure_groups(error_class)],
        **dataclasses.asdict(reader.unsettled(error_class)),
    }
    if rows:
        report["rows"] = [dataclasses.asdict(failed) for failed in reader.failed_requests(error_class)]
    return report


def _group_report(group: FailureGroup, names: Names) -> dict[str, Any]:
    advice = ADVICE[ErrorClass(group.error_class)]
    explained = {
        "meaning": advice.meaning,
        "remedy": advice.remedy,
        "command": advice.command_for(names.job, names.input),
    }
    return dataclasses.asdict(group) | explained


def _lines(reader: Reader, error_class: str | None, names: Names, now: datetime) -> Iterator[str]:
    if reader.job() is None:
        yield "No request has failed: the job file is not taken in completely yet, so nothing was sent."
        return
    groups = reader.failure_groups(error_class, limit=_GROUPS_SHOWN)
    if not groups:
        yield f"No request has failed{f' as {error_class}' if error_class else ''}."
    for group in groups:
        yield from _group_lines(group, names)
        yield ""
    rest = reader.progress().failed - sum(group.count for group in groups)
    if groups and rest and error_class is None:
        yield f"{count(rest)} more failed in smaller groups; --rows lists every failed request."
    unsettled = reader.unsettled(error_class)
    yield from _pending_line(unsettled.retrying, "met an error and will be tried again")
    yield from _pending_line(unsettled.put_back, "had failed before being put back")
    yield from _run_line(reader, now, advised=bool(groups))


def _group_lines(group: FailureGroup, names: Names) -> Iterator[str]:
    advice = ADVICE[ErrorClass(group.error_class)]
    width = screen_width()
    yield clip(f"{count(group.count)} × {group.error_class}: {visible(group.message)}", width)
    more = ", ..." if group.count > len(group.custom_ids) else ""
    yield clip(visible(f"    such as {', '.join(group.custom_ids)}{more}"), width)
    yield from wrapped(f"    between {group.first_at} and {group.last_at}", "    ")
    yield from wrapped(f"    {advice.meaning} {advice.remedy}", "    ")
    yield visible(f"    {advice.command_for(names.job, names.input)}")


def _pending_line(classes: Mapping[str, int], what: str) -> Iterator[str]:
    if classes:
        listed = ", ".join(f"{name} {count(number)}" for name, number in classes.items())
        number = sum(classes.values())
        yield f"{count(number)} pending request{'' if number == 1 else 's'} {what}: {listed}."


def _run_line(reader: Reader, now: datetime, *, advised: bool) -> Iterator[str]:
    run = next(iter(reader.latest_runs(1)), None)
    if run is None:
        return
    if run.is_alive(now):
        if advised:
            yield f"Process {run.pid} on {visible(run.host)} works on this store; these commands must wait for its end."
    elif run.reason:
        yield from wrapped(visible(f"The last run {run.ending} at {run.ended_at}: {run.reason}"), "    ")
