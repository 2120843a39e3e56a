"""`rules`: what is done about each class of failures, with all that was said about it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrunner.cli import options
from batchrunner.cli.names import find_store
from batchrunner.model import ErrorClass

if TYPE_CHECKING:
    from batchrunner.policy.retry import Rule

_HEADS = ("class", "action", "attempts", "wait", "first", "cap", "jitter")


@click.command()
@options.optional_jobfile
@options.db
@options.ruling
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def rules(
    jobfile: Path | None, db: Path | None, retries: tuple[str, ...], rules: tuple[str, ...], *, as_json: bool
) -> None:
    """Show what is done about each class of failures.

    With JOBFILE as a run of it would: a definition's changes, or for a job file those of its last run, which `resume`
    keeps. --rule and --retries are shown as if they were given to that run. Nothing is changed.

    \b
    Example:  batchrunner rules
              batchrunner rules jobs/questions.toml --rule server:attempts=10,wait=fibo
    """
    from batchrunner.ruling import rules_with
    from batchrunner.settings import changes_of

    table = rules_with(_said(jobfile, db), rules, retries)
    changes = changes_of(table)
    if as_json:
        click.echo(json.dumps([_record(error_class, rule, changes) for error_class, rule in table.items()], indent=2))
        return
    rows = [_HEADS, *(_cells(error_class, rule, changes) for error_class, rule in table.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for line in _notes(changed=bool(changes)):
        click.echo(line)


def _said(jobfile: Path | None, db: Path | None) -> Mapping[str, Mapping[str, Any]]:
    """Return what the definition says of rules, or what the latest run of the store went by."""
    if (definition := options.named_definition()) is not None:
        return definition.rules
    store = find_store(jobfile, db) if jobfile is not None else db
    if store is None or (db is None and not store.exists()):
        return {}
    from batchrunner.store.read import Reader

    with Reader(store) as reader:
        said: Mapping[str, Mapping[str, Any]] = reader.settings().get("rules", {})
    return said


def _cells(error_class: ErrorClass, rule: "Rule", changes: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    mark = " *" if error_class in changes else ""
    action = "halt (its lane)" if rule.action == "halt" and rule.lane_only else str(rule.action)
    if rule.action != "retry":
        return (f"{error_class}{mark}", action, "", "", "", "", "")
    attempts = str(rule.attempts) if rule.counted else "any number"
    return (
        f"{error_class}{mark}",
        action,
        attempts,
        str(rule.wait),
        f"{rule.first_s:g} s",
        f"{rule.cap_s:g} s",
        str(rule.jitter),
    )


def _record(error_class: ErrorClass, rule: "Rule", changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    retries = rule.action == "retry"
    return {
        "class": str(error_class),
        "action": str(rule.action),
        "lane_only": rule.lane_only,
        "attempts": rule.attempts if retries and rule.counted else None if retries else 1,
        "wait": str(rule.wait) if retries else None,
        "first_s": rule.first_s if retries else None,
        "cap_s": rule.cap_s if retries else None,
        "jitter": str(rule.jitter) if retries else None,
        "changed": sorted(changes.get(error_class, {})),
    }


def _notes(*, changed: bool) -> Iterator[str]:
    yield ""
    if changed:
        yield "* differs from the defaults"
    yield "Attempts count the first one too, for each class on its own; a longer retry-after of the server wins."
    yield "All retries but those of 429s also wait for their share of what is sent (docs/rules.md)."
