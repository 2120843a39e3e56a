"""`batches`: the message batches of a job, as the store has them; look at the API, cancel, forget."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batchrunner.cli import options
from batchrunner.cli.names import find_store
from batchrunner.cli.showing import as_json_option, fitting, many, reader_may_leave, say
from batchrunner.errors import Exit, UsageError
from batchrunner.policy.batching import warning_of
from batchrunner.screen import count, table, visible
from batchrunner.store.read import Reader

_HEAD = ("batch", "state", "rows", "here", "created", "until", "id")


@click.command()
@options.jobfile
@options.db
@click.option("--poll", is_flag=True, help="Ask the API where they stand, and write it down.")
@click.option("--cancel", is_flag=True, help="Ask the API to cancel those that are open; what is done of them is kept.")
@click.option("--id", "ids", multiple=True, metavar="ID", help="With --cancel, only this batch; repeatable.")
@click.option(
    "--forget",
    is_flag=True,
    help="Give up those that are open: their requests are pending again, and what they bring is lost.",
)
@as_json_option
@options.sending
@reader_may_leave()
def batches(
    jobfile: Path,
    db: Path | None,
    *,
    poll: bool,
    cancel: bool,
    ids: tuple[str, ...],
    forget: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """List the message batches of JOBFILE, the oldest first; also while a run waits for them.

    `here` counts the rows whose results are in the store; `until` is when a batch expires or, once it has ended, when
    its results are gone. Nothing is downloaded: `run` and `resume` collect what has ended.

    \b
    Example:  batchrunner batches jobs.jsonl
              batchrunner batches jobs.jsonl --poll --json | jq '.batches[].state'
              batchrunner batches jobs.jsonl --cancel
    """
    if ids and not cancel:
        raise UsageError("--id says which batch to cancel; give --cancel with it.")
    store = find_store(jobfile, db)
    if poll or cancel or forget:
        _act(store, {"poll": poll, "cancel": cancel, "ids": ids, "forget": forget}, given)
    with Reader(store) as reader:
        found = reader.batches()
    now = datetime.now(UTC)
    if as_json:
        click.echo(json.dumps({"store": str(store), "batches": [_record(batch, now) for batch in found]}, indent=2))
    elif not found:
        say("No batch was submitted yet: `batchrunner run JOBFILE --route batches` does.")
    else:
        _show(found, now)
    return Exit.OK


def _act(store: Path, wish: dict[str, Any], given: dict[str, Any]) -> None:
    import anyio

    from batchrunner.batch_errands import Errand
    from batchrunner.cli.run import endpoints_of

    errand = Errand(store, endpoints_of(given)[0], lambda text: click.echo(visible(text), err=True))
    if wish["forget"]:
        errand.forget()
    if wish["poll"] or wish["cancel"]:
        anyio.run(errand.run, wish["cancel"], wish["ids"])


def _show(found: Sequence[dict[str, Any]], now: datetime) -> None:
    rows = [
        (
            str(batch["id"]),
            batch["state"],
            count(batch["requests"]),
            count(batch["requests"] - batch["sitting"]) if batch["state"] != "withdrawn" else "-",
            batch["created_at"] or batch["intended_at"],
            (batch["results_until"] if batch["ended_at"] else batch["expires_at"]) or "-",
            batch["remote_id"] or "-",
        )
        for batch in found
    ]
    for line in table([_HEAD, *rows], right=frozenset({0, 2, 3})).split("\n"):
        say(fitting(line))
    for batch in found:
        if (warning := warning_of(batch, now)) is not None:
            say(fitting(visible(f"! {warning}")))
    if waiting := sum(batch["sitting"] for batch in found):
        say(
            f"{many(waiting, 'request')} in open batches; `batchrunner resume JOBFILE` waits for them and collects them"
        )


def _record(batch: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {**batch, "warning": warning_of(batch, now)}
