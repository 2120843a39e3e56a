"""`runs`: the history of a store."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batchrunner.cli import options
from batchrunner.cli.names import find_store
from batchrunner.cli.showing import as_json_option, fitting, reader_may_leave, say
from batchrunner.endpoint_words import endpoint_told
from batchrunner.screen import count, duration, table, visible
from batchrunner.store.found import Run, seconds_between
from batchrunner.store.history import PastRun
from batchrunner.store.read import Reader

_HEAD = ("run", "started", "lasted", "finished", "calls", "ending")


@click.command()
@options.jobfile
@options.db
@as_json_option
@reader_may_leave()
def runs(jobfile: Path, db: Path | None, *, as_json: bool) -> None:
    """List the runs on JOBFILE, oldest first: when, how long, how they ended and why, with which settings and changes.

    JOBFILE is the job file or its store. `finished` counts the requests whose latest attempt was made in that run.

    \b
    Example:  batchrunner runs jobs.jsonl
              batchrunner runs jobs.jsonl --json | jq '.runs[-1].settings'
    """
    now = datetime.now(UTC)
    with Reader(find_store(jobfile, db)) as reader:
        found = reader.past_runs()
    if as_json:
        click.echo(json.dumps({"store": str(reader.path), "runs": [_record(past, now) for past in found]}, indent=2))
    elif not found:
        say("No run has sent anything yet.")
    else:
        _show(found, now)


def _show(found: Sequence[PastRun], now: datetime) -> None:
    rows = [
        (
            str(past.run.id),
            past.run.started_at,
            duration(lasted_s(past.run, now)),
            count(past.finished),
            count(past.calls),
            ending_of(past.run, now),
        )
        for past in found
    ]
    head, *lines = table([_HEAD, *rows], right=frozenset({0, 2, 3, 4})).split("\n")
    say(fitting(head))
    for line, past in zip(lines, found, strict=True):
        say(fitting(line))
        if past.run.reason:
            say(fitting(f"     {visible(past.run.reason)}"))
        say(fitting(f"     {visible(settings_line(past.settings))}"))
        for endpoint in past.run.endpoints:
            say(fitting(f"     {visible(endpoint_told(endpoint))}"))
        for change in past.run.changes:
            say(fitting(f"     {visible(f'{change.at}  {change.what}')}"))


def ending_of(run: Run, now: datetime) -> str:
    """Return how *run* ended; `running` if it has not, `died` if nobody wrote down its end."""
    if run.ended_at is None:
        return "running" if run.is_alive(now) else "died"
    return run.ending or "ended"


def lasted_s(run: Run, now: datetime) -> float:
    """Return how long *run* worked, or has worked until *now*, in seconds."""
    last = now if run.is_alive(now) else datetime.fromisoformat(run.ended_at or run.heartbeat_at)
    return max(0.0, seconds_between(run.started_at, last))


def settings_line(settings: dict[str, Any]) -> str:
    """Return those of *settings* that say something, as `key=value` words."""
    said = {key: value for key, value in settings.items() if value not in (None, [], {}, "", False)}
    return " ".join(f"{key}={_word(value)}" for key, value in said.items()) or "default settings"


def _word(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{key}:{inner}" for key, inner in value.items())
    return str(value)


def _record(past: PastRun, now: datetime) -> dict[str, Any]:
    return dataclasses.asdict(past.run) | {
        "ending": ending_of(past.run, now),
        "duration_s": round(lasted_s(past.run, now), 3),
        "finished_requests": past.finished,
        "calls": past.calls,
        "settings": past.settings,
    }
