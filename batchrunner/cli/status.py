"""`status`: how far a job is, on one screen or as JSON."""

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batchrunner.cli import options
from batchrunner.cli.names import Names, find_store
from batchrunner.cli.showing import as_json_option, attempts, fitting, reader_may_leave, say, wrapped
from batchrunner.cli.survey import TOKENS, Survey, next_commands, take_survey
from batchrunner.cli.watching import EVERY_S, WatchCommand, watch
from batchrunner.endpoint_words import endpoint_told
from batchrunner.errors import UsageError
from batchrunner.screen import count, duration, short, visible
from batchrunner.store.found import PossibleDuplicate, Run
from batchrunner.store.owner import owner_lives
from batchrunner.store.read import Reader
from batchrunner.store.rescue import rescue_files

#: Labels of the screen are this wide.
_LABEL = 11
#: So many of the changes that a run took in are shown; `runs` has them all.
_MOST_CHANGES = 3
#: Shorter waits are nobody's concern.
_WORTH_A_LINE_S = 5.0


def _number(_context: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    if value is not None and math.isnan(value):  # neither below nor above any limit
        raise click.BadParameter("nan is no number of seconds.")
    return value


@click.command(cls=WatchCommand)
@options.jobfile
@options.db
@as_json_option
@click.option(
    "--possible-duplicates", is_flag=True, help="List the attempts that may have been paid without an answer."
)
@click.option(
    "--watch",
    "every_s",
    type=click.FloatRange(0.1, 86_400),
    callback=_number,
    metavar="[SECONDS]",
    help=f"Show it again and again until the run is over.  [default: every {EVERY_S:g}]",
)
@reader_may_leave()
def status(jobfile: Path, db: Path | None, *, as_json: bool, possible_duplicates: bool, every_s: float | None) -> None:
    """Show how far JOBFILE is: also while a run works on it.

    JOBFILE is the job file or its store.

    \b
    Example:  batchrunner status jobs.jsonl
              batchrunner status jobs.jsonl --json | jq .pending
              batchrunner status jobs.jsonl --watch 10
    """
    store = find_store(jobfile, db)
    if every_s is not None:
        if possible_duplicates:
            raise UsageError("--watch shows the status; leave out --possible-duplicates.")
        watch(lambda: _look(store, jobfile, db, as_json=as_json), lambda: time.sleep(every_s))
        return
    now = datetime.now(UTC)
    with Reader(store) as reader:
        survey = take_survey(reader, now)
        commands = next_commands(survey, Names.of(jobfile, db, survey.job))
        if as_json:
            report = _report(survey, commands)
            if possible_duplicates:
                report["possible_duplicate_attempts"] = [
                    dataclasses.asdict(found) for found in reader.possible_duplicates(now)
                ]
            click.echo(json.dumps(report, indent=2))
        elif possible_duplicates:
            for found in reader.possible_duplicates(now):
                say(fitting(duplicate_line(found)))
            click.echo(f"{attempts(survey.possible_duplicates)} may have been paid for without an answer", err=True)
        else:
            for line in status_lines(survey, commands):
                say(line)


def _look(store: Path, jobfile: Path, db: Path | None, *, as_json: bool) -> tuple[list[str], bool]:
    """Return the status at this moment in lines, and whether a run is under way."""
    with Reader(store) as reader:
        survey = take_survey(reader, datetime.now(UTC))
    commands = next_commands(survey, Names.of(jobfile, db, survey.job))
    # As long as the job file is being read there is no run on record yet.
    more = survey.running or (survey.job is None and owner_lives(store))
    if as_json:
        return [json.dumps(_report(survey, commands))], more
    return list(status_lines(survey, commands)), more


def _report(survey: Survey, commands: Sequence[tuple[str, str]]) -> dict[str, Any]:
    rescued = [str(path) for path in rescue_files(survey.store)]
    return survey.as_json() | {"rescue_files": rescued, "next": [command for command, _ in commands]}


def status_lines(survey: Survey, commands: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of the status screen; commands stay whole, so that they can be copied."""
    for line in _facts(survey):
        yield from wrapped(line, " " * _LABEL)
    for position, (command, purpose) in enumerate(commands):
        if position == 0:
            yield ""
        yield _labelled("" if position else "next", f"{command}   # {purpose}")


def _facts(survey: Survey) -> Iterator[str]:
    yield fitting(_labelled("store", str(survey.store)))
    for path in rescue_files(survey.store):
        yield _labelled("rescued", f"{path}: answers that a run could not write; the next one takes them in")
    if survey.job is None:
        yield _labelled("input", "not taken in completely yet, so nothing was sent")
    else:
        yield fitting(_labelled("input", survey.job.input_path))
        yield from _progress_lines(survey)
    if survey.run is not None:
        yield ""
        yield from _run_lines(survey, survey.run)
    yield from _spend_lines(survey)


def _progress_lines(survey: Survey) -> Iterator[str]:
    p = survey.progress
    width = len(count(p.requests))
    simulated = "  (answers of the simulator: nothing was paid)" if survey.job and survey.job.simulated else ""
    yield _labelled("requests", count(p.requests) + simulated)
    for name, number in (("succeeded", p.succeeded), ("failed", p.failed), ("pending", p.pending)):
        yield _labelled(name, f"{count(number):>{width}}  {_percent(number, p.requests)}")
    if survey.retrying.count:
        next_at = f"  of the pending, waiting for another try; the next at {survey.retrying.next_at}"
        yield _labelled("retrying", f"{count(survey.retrying.count):>{width}}{next_at}")
    if survey.in_batches:
        where = "  of the pending, in message batches; `batchrunner batches` lists them"
        yield _labelled("in batches", f"{count(survey.in_batches):>{width}}{where}")
    if p.removed:
        yield _labelled("removed", f"{count(p.removed):>{width}}  not in the input any more: kept, not sent")


def _run_lines(survey: Survey, run: Run) -> Iterator[str]:
    who = f"process {run.pid} on {run.host}, since {run.started_at}"
    if survey.running:
        yield _labelled("running", f"{who}; last sign of life {duration(survey.silent_s)} ago")
        yield from _change_lines(run)
    elif run.ended_at is None:
        yield _labelled("last run", f"{who}: died; last sign of life {duration(survey.silent_s)} ago")
    else:
        reason = f": {run.reason}" if run.reason else ""
        yield _labelled("last run", f"{run.ending} at {run.ended_at}{reason}")
    if survey.rate_per_s is not None:
        left = f", about {duration(survey.eta_s)} left" if survey.eta_s is not None else ""
        finished = f"{count(survey.run_finished)} requests in {duration(survey.run_s)}"
        yield _labelled("rate", f"{survey.rate_per_s:,.1f} requests/s ({finished}){left}")
    for label, endpoint in zip(("endpoints", *[""] * len(run.endpoints)), run.endpoints, strict=False):
        yield _labelled(label, endpoint_told(endpoint).removeprefix("endpoint "))
    yield from _held_lines(survey)


def _held_lines(survey: Survey) -> Iterator[str]:
    """Say what each lane waited for longest, if that is worth a line."""
    worth = [lane for lane in survey.held_back if lane.waited_s[lane.reason] >= _WORTH_A_LINE_S]
    for label, lane in zip(("held back", *[""] * len(worth)), worth, strict=False):
        where = f"{lane.lane}: " if len(survey.held_back) > 1 else ""
        limit = f" of {short(lane.limit_per_minute)}/min" if lane.limit_per_minute else ""
        used = f" {lane.used_share:.0%}".replace("%", " %") if lane.used_share is not None else ""
        refused = f"; {count(lane.refused)} refused with 429" if lane.refused else ""
        waited = duration(lane.waited_s[lane.reason])
        yield _labelled(label, f"{where}{lane.reason}{used}{limit}, waited {waited} for it{refused}")


def _change_lines(run: Run) -> Iterator[str]:
    if run.is_paused:
        yield _labelled("paused", "nothing new is sent; `batchrunner unpause` goes on")
    for label, change in zip(("changed", *[""] * _MOST_CHANGES), run.changes[-_MOST_CHANGES:], strict=False):
        yield _labelled(label, f"{change.at}  {change.what}")


def _spend_lines(survey: Survey) -> Iterator[str]:
    if survey.spend:
        yield _labelled("tokens", ", ".join(f"{count(survey.total(n))} {words}" for n, words in TOKENS.items()))
        for label, text in survey.money.lines():
            yield _labelled(label, text)
    if survey.possible_duplicates:
        paid = f"{attempts(survey.possible_duplicates)} may have been paid for without an answer"
        yield _labelled("duplicates", f"{paid}; --possible-duplicates lists them")


def duplicate_line(found: PossibleDuplicate) -> str:
    """Return *found* as one line."""
    line = f"line {found.line}" if found.line is not None else "no line of the input any more"
    again = "sent again" if found.sent_again else "not sent again"
    return visible(f"{found.custom_id}  {line}  attempt {found.number}  {found.started_at}  {found.reason}  {again}")


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{visible(text)}"


def _percent(part: int, whole: int) -> str:
    # Rounded down: 100 % means all of them.
    return f"{part * 1000 // whole / 10:.1f} %" if whole else ""
