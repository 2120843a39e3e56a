"""`errors`: what failed, why, and the command that mends each kind."""

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from batchrunner.advice import Advice
from batchrunner.cases import advice_for
from batchrunner.cli import options
from batchrunner.cli.names import Names, find_store
from batchrunner.cli.showing import as_json_option, attempts, fitting, reader_may_leave, say, screen_width, wrapped
from batchrunner.errors import UsageError
from batchrunner.model import ErrorClass, State
from batchrunner.screen import clip, count, visible
from batchrunner.store.found import FailureGroup, Named
from batchrunner.store.read import Reader

_GROUPS_SHOWN = 30
_INDENT = "    "


class _Only(NamedTuple):
    """Which failures are asked for; all, unless something is named."""

    error_class: str | None
    signatures: tuple[str, ...]


@click.command()
@options.jobfile
@options.db
@as_json_option
@click.option(
    "--class", "error_class", type=click.Choice([str(c) for c in ErrorClass]), help="Only failures of this class."
)
@click.option(
    "--signature",
    "signatures",
    multiple=True,
    metavar="KEY|TEXT",
    help="Only this group: its key as shown, or the text of its message; repeatable.",
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="What failed for this request; repeatable.")
@click.option("--rows", is_flag=True, help="List each failed request.")
@reader_may_leave()
def errors(
    jobfile: Path,
    db: Path | None,
    *,
    as_json: bool,
    error_class: str | None,
    signatures: tuple[str, ...],
    ids: tuple[str, ...],
    rows: bool,
) -> None:
    """Show what failed in JOBFILE, why, what to check, and the command that mends it.

    JOBFILE is the job file or its store. Failures are grouped by class and by message, numbers and ids left aside.

    \b
    Example:  batchrunner errors jobs.jsonl
              batchrunner errors jobs.jsonl --class invalid --rows
              batchrunner errors jobs.jsonl --id row-17
    """
    if ids and (error_class or signatures or rows):
        raise UsageError("--id says which requests to show; leave out --class, --signature and --rows.")
    with Reader(find_store(jobfile, db)) as reader:
        names = Names.of(jobfile, db, reader.job())
        if ids:
            _show_named(reader, ids, names, as_json=as_json)
            return
        only = _Only(error_class, signatures)
        if as_json:
            click.echo(json.dumps(_report(reader, only, names, rows=rows), indent=2))
        elif rows:
            for failed in reader.failed_requests(*only):
                place = f"{failed.custom_id}  line {failed.line}  {failed.error_class}  {attempts(failed.attempts)}"
                say(fitting(f"{visible(place)}  {visible(failed.message)}"))
        else:
            for line in _lines(reader, only, names, datetime.now(UTC)):
                say(line)


def _report(reader: Reader, only: _Only, names: Names, *, rows: bool) -> dict[str, Any]:
    report: dict[str, Any] = {
        "store": str(reader.path),
        "failed": reader.progress().failed,
        "groups": [_group_report(group, names) for group in reader.failure_groups(*only)],
        **dataclasses.asdict(reader.unsettled(only.error_class)),
    }
    if rows:
        report["rows"] = [dataclasses.asdict(failed) for failed in reader.failed_requests(*only)]
    return report


def _group_report(group: FailureGroup, names: Names) -> dict[str, Any]:
    advice = advice_for(ErrorClass(group.error_class), group.message)
    return dataclasses.asdict(group) | _explained(advice, names, f"--signature {group.key}")


def _explained(advice: Advice, names: Names, which: str) -> dict[str, Any]:
    return {
        "meaning": advice.meaning,
        "causes": list(advice.causes),
        "remedy": advice.remedy,
        "command": advice.command_for(names.job, names.input, which),
    }


def _lines(reader: Reader, only: _Only, names: Names, now: datetime) -> Iterator[str]:
    if reader.job() is None:
        yield "No request has failed: the job file is not taken in completely yet, so nothing was sent."
        return
    groups = reader.failure_groups(*only, limit=_GROUPS_SHOWN)
    if not groups:
        yield f"No request has failed{f' as {only.error_class}' if only.error_class else ''}."
    for group in groups:
        yield from _group_lines(group, names)
        yield ""
    rest = reader.progress().failed - sum(group.count for group in groups)
    if groups and rest and not any(only):
        yield f"{count(rest)} more failed in smaller groups; --rows lists every failed request."
    unsettled = reader.unsettled(only.error_class)
    yield from _pending_line(unsettled.retrying, "met an error and will be tried again")
    yield from _pending_line(unsettled.put_back, "had failed before being put back")
    yield from _run_line(reader, now, advised=bool(groups))


def _group_lines(group: FailureGroup, names: Names) -> Iterator[str]:
    yield clip(f"{count(group.count)} × {group.error_class}: {visible(group.message)}", screen_width())
    more = ", ..." if group.count > len(group.custom_ids) else ""
    yield clip(visible(f"{_INDENT}such as {', '.join(group.custom_ids)}{more}"), screen_width())
    when = f"between {group.first_at} and {group.last_at}"
    yield from wrapped(visible(f"{_INDENT}{when}; signature {group.key}"), _INDENT)
    advice = advice_for(ErrorClass(group.error_class), group.message)
    yield from _advice_lines(advice, names, f"--signature {group.key}")


def _advice_lines(advice: Advice, names: Names, which: str) -> Iterator[str]:
    yield from wrapped(f"{_INDENT}{advice.meaning} To be checked, in this order:", _INDENT)
    for number, cause in enumerate(advice.causes, 1):
        yield from wrapped(f"{_INDENT}  {number}. {cause}", f"{_INDENT}     ")
    yield from wrapped(f"{_INDENT}{advice.remedy}", _INDENT)
    yield visible(f"{_INDENT}{advice.command_for(names.job, names.input, which)}")


def _show_named(reader: Reader, ids: tuple[str, ...], names: Names, *, as_json: bool) -> None:
    found = [_named(reader, custom_id) for custom_id in ids]
    if as_json:
        requests = [_named_report(named, names) for named in found]
        click.echo(json.dumps({"store": str(reader.path), "requests": requests}, indent=2))
        return
    for named in found:
        for line in _named_lines(named, names):
            say(line)


def _named(reader: Reader, custom_id: str) -> Named:
    named = reader.named(custom_id)
    if named is None:
        near = reader.similar_ids(custom_id)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"No request has the id {custom_id}.{hint}")
    return named


def _named_report(named: Named, names: Names) -> dict[str, Any]:
    advice = _advice_on(named)
    return dataclasses.asdict(named) | (_explained(advice, names, _just(named)) if advice else {})


def _named_lines(named: Named, names: Names) -> Iterator[str]:
    place = "no line of the input any more" if named.line is None else f"line {named.line}"
    words = [named.custom_id, place, named.state, attempts(named.attempts)]
    yield clip(visible("  ".join(words)), screen_width())
    if named.error_class is not None:
        when = "" if named.state == State.FAILED else "its latest attempt: "
        yield from wrapped(visible(f"{_INDENT}{when}{named.error_class}: {named.message}"), _INDENT)
    if advice := _advice_on(named):
        yield from _advice_lines(advice, names, _just(named))
    yield ""


def _advice_on(named: Named) -> Advice | None:
    if named.state != State.FAILED or named.error_class is None:
        return None
    return advice_for(ErrorClass(named.error_class), named.message or "")


def _just(named: Named) -> str:
    return f"--id {shlex.quote(named.custom_id)}"


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
        yield from wrapped(visible(f"The last run {run.ending} at {run.ended_at}: {run.reason}"), _INDENT)
