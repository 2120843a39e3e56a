"""`spend`: what a job has cost and will cost, on one screen or as JSON."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from batchrunner.cli import options
from batchrunner.cli.money import Bottom
from batchrunner.cli.names import find_store
from batchrunner.cli.showing import as_json_option, fitting, reader_may_leave, say
from batchrunner.errors import UsageError
from batchrunner.screen import count, short, table, usd, visible
from batchrunner.store.accounts import Account, KeptPrice, grouped
from batchrunner.store.found import Job
from batchrunner.store.read import Reader

_LABEL = 11
_HEAD = ("attempts", "answered", "input", "output", "cached", "cost", "at most more")
#: What the accounts are added up by, in the order of the screen.
_BY: dict[str, Callable[[Account], str]] = {
    "model": lambda one: one.model or "not known",
    "endpoint": lambda one: one.endpoint or "the only one",
    "day": lambda one: one.day or "before costs were kept",
    "class": lambda one: one.class_ or "before costs were kept",
}
#: So many groups of a kind are shown; --json has them all.
_MOST = 12
_MTOK = 1_000_000


@click.command()
@options.jobfile
@options.db
@as_json_option
@reader_may_leave()
def spend(jobfile: Path, db: Path | None, *, as_json: bool) -> None:
    """Show what JOBFILE has cost, what may have been billed beside it, and what all of it will cost.

    By model, endpoint, day and class of outcome, with the prices that were applied. JOBFILE is the job file or its store; it
    works while a run is going. Before the first run `batchrunner check JOBFILE --estimate` says what it will cost;
    `batchrunner export JOBFILE --ledger` writes every attempt with its cost.

    \b
    Example:  batchrunner spend jobs.jsonl
              batchrunner spend jobs.jsonl --json | jq .known_usd
    """
    now = datetime.now(UTC)
    store = find_store(jobfile, db)
    if not store.exists():
        raise UsageError(
            f"There is no store {store} yet, so nothing was spent; `batchrunner check {jobfile} --estimate` says what it "
            "will cost."
        )
    with Reader(store) as reader:
        found, prices, job = reader.accounts(now), reader.prices(), reader.job()
        bottom = Bottom.of(found, reader.progress())
    if as_json:
        report = {"store": str(reader.path), "simulated": job is not None and job.simulated, **bottom.as_json()}
        click.echo(json.dumps(report | _groups(found) | {"prices": [*map(dataclasses.asdict, prices)]}, indent=2))
        return
    for line in _screen(reader.path, job, found, bottom, prices):
        say(fitting(line))


def _groups(found: Sequence[Account]) -> dict[str, list[dict[str, Any]]]:
    names = [
        field.name
        for field in dataclasses.fields(Account)
        if field.name not in {"day", "lane", "model", "endpoint", "class_"}
    ]
    return {
        f"by_{kind}": [
            {kind: name, **{sum_: getattr(sums, sum_) for sum_ in names}}
            for name, sums in sorted(grouped(found, key).items())
        ]
        for kind, key in _BY.items()
    }


def _screen(
    store: Path, job: Job | None, found: Sequence[Account], bottom: Bottom, prices: Sequence[KeptPrice]
) -> Iterator[str]:
    yield _labelled("store", str(store))
    if job is not None and job.simulated:
        yield _labelled("simulated", "nothing was paid; this is what it would have cost")
    if not found:
        yield _labelled("spent", "nothing: no attempt has been made")
        return
    for label, text in bottom.lines():
        yield _labelled(label, text)
    for kind, key in _BY.items():
        groups = sorted(grouped(found, key).items(), key=(lambda pair: pair[0]) if kind == "day" else _dearest_first)
        if len(groups) > 1 or kind in {"model", "class"}:
            yield ""
            yield from _table(kind, groups)
    yield ""
    yield from _price_lines(prices)


def _dearest_first(pair: tuple[str, Account]) -> tuple[float, float, str]:
    name, sums = pair
    return -sums.cost_usd, -sums.possible_usd, name


def _table(kind: str, groups: Sequence[tuple[str, Account]]) -> list[str]:
    shown = groups if len(groups) <= _MOST else groups[-_MOST:] if kind == "day" else groups[:_MOST]
    rows = [(f"by {kind}", *_HEAD), *((name, *_figures(sums)) for name, sums in shown)]
    lines = table(rows, right=frozenset(range(1, len(_HEAD) + 1))).splitlines()
    left_out = len(groups) - len(shown)
    return lines + ([f"... and {count(left_out)} more (--json)"] if left_out else [])


def _figures(sums: Account) -> tuple[str, ...]:
    known = "unknown" if sums.answered and sums.unpriced == sums.answered else usd(sums.cost_usd)
    more = "" if not (sums.possibly_billed or sums.possible_usd) else usd(sums.possible_usd)
    return (
        count(sums.attempts),
        count(sums.answered),
        short(sums.input_tokens),
        short(sums.output_tokens),
        short(sums.cache_read_tokens + sums.cache_write_tokens),
        known + ("+" if 0 < sums.unpriced < sums.answered else ""),
        more + ("+" if sums.possible_unpriced else ""),
    )


def _price_lines(prices: Sequence[KeptPrice]) -> Iterator[str]:
    latest = {(price.model, price.endpoint): price for price in prices}
    for label, price in zip(("prices", *[""] * len(latest)), latest.values(), strict=False):
        at = f" at {price.endpoint}" if price.endpoint else ""
        if price.figures is None:
            yield _labelled(label, f"{price.model}{at}: not known")
            continue
        rates = price.figures["rates"]
        said = f"{usd(rates['input'] * _MTOK)} input, {usd(rates['output'] * _MTOK)} output per million tokens"
        yield _labelled(label, f"{price.model}{at}: {said} ({price.priced_at})")


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{visible(text)}"
