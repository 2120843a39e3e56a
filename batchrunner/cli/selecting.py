"""Which failed requests `retry` takes and with what change, and how they are shown before anything is sent."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrunner.advice import MENDABLE
from batchrunner.cli.sections import together
from batchrunner.cli.showing import say, screen_width
from batchrunner.errors import UsageError
from batchrunner.model import ErrorClass
from batchrunner.policy.signature import signature_key
from batchrunner.screen import clip, count, visible

if TYPE_CHECKING:
    from batchrunner.store.selection import SelectedGroup, Selection

_GROUPS_SHOWN = 12

#: The options that choose, in the order that `--help` shows.
selecting = together(
    click.option(
        "--class",
        "classes",
        multiple=True,
        type=click.Choice([c.value for c in ErrorClass]),
        help="Failures of this class; repeatable.",
    ),
    click.option("--id", "ids", multiple=True, metavar="ID", help="This request; repeatable."),
    click.option(
        "--signature",
        "signatures",
        multiple=True,
        metavar="KEY|TEXT",
        help="This group of `errors`: its key, or the text of its message; repeatable.",
    ),
    click.option("--all", "everything", is_flag=True, help="Every failed request."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="With another parameter: max_tokens=16000; KEY=null takes one out; repeatable.",
    ),
    click.option("--model", "other_model", metavar="MODEL", help="With another model, at the limits of its own lane."),
    click.option("--system-append", metavar="TEXT", help="With TEXT behind the system prompt."),
    click.option("--dry-run", is_flag=True, help="Only show what would be put back."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal nothing is asked anyway."),
    heading="Which failed requests",
)


def selection_of(given: Mapping[str, Any]) -> "Selection":
    """Return what the options of `selecting` choose; raises `UsageError`."""
    from batchrunner.jobfile import parse_patch
    from batchrunner.store.overlay import SYSTEM_APPEND
    from batchrunner.store.selection import Selection

    named = given["classes"] or given["ids"] or given["signatures"]
    if given["everything"] and named:
        raise UsageError("--all takes every failed request; leave out --class, --id and --signature.")
    settings, model, appended = given["settings"], given["other_model"], given["system_append"]
    patch = parse_patch([*settings, f"model={model}"] if model is not None else settings)
    if model is not None and any(text.startswith("model=") for text in settings):
        raise UsageError("--model and --set model= say the same; give one of them.")
    if appended is not None:
        if not appended.strip():
            raise UsageError("--system-append has no text.")
        patch[SYSTEM_APPEND] = appended
    classes = given["classes"] if given["everything"] or named else MENDABLE
    return Selection(classes, given["ids"], patch, given["signatures"])


def may_go_on(store: Path, given: Mapping[str, Any], selection: "Selection") -> bool:
    """Show what *selection* takes, and ask where somebody can answer; returns whether to put it back and run.

    Raises `UsageError` for ids and signatures that there are not.
    """
    from datetime import UTC, datetime

    from batchrunner.store.read import Reader

    with Reader(store) as reader:
        groups, running = reader.selected(selection), reader.is_running(datetime.now(UTC))
    asks = bool(groups) and not (given["yes"] or running) and sys.stdin.isatty() and sys.stderr.isatty()
    lines = [*_selected_lines(groups, selection)]
    if given["dry_run"]:
        for line in lines:
            say(line)
        return False
    if given["progress"] != "json" or asks:
        for line in lines:
            click.echo(line, err=True)
    return not asks or click.confirm("Put them back and send them?", default=True, err=True)


def _selected_lines(groups: list["SelectedGroup"], selection: "Selection") -> Iterator[str]:
    total = sum(group.count for group in groups)
    if not total:
        yield "No failed request is selected, so none is put back."
        return
    yield f"{count(total)} failed request{'' if total == 1 else 's'} selected:"
    for group in groups[:_GROUPS_SHOWN]:
        key = signature_key(group.error_class, group.signature)
        yield clip(f"  {count(group.count)} × {group.error_class}, {key}: {visible(group.message)}", screen_width())
    if rest := groups[_GROUPS_SHOWN:]:
        yield f"  {count(sum(group.count for group in rest))} more in {count(len(rest))} smaller groups"
    yield from _change_lines(selection)


def _change_lines(selection: "Selection") -> Iterator[str]:
    from batchrunner.policy.lanes import model_class
    from batchrunner.store.overlay import SYSTEM_APPEND

    for key, value in selection.patch.items():
        if key == SYSTEM_APPEND:
            change = f"behind the system prompt: {value}"
        elif key == "model":
            change = f"model: {value}, at the limits of the lane {model_class(value)}"
        else:
            change = f"{key}: taken out" if value is None else f"{key}: {json.dumps(value, ensure_ascii=False)}"
        yield clip(f"  changed: {visible(change)}", screen_width())
