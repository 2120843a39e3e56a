"""`show`: one request whole: what was asked, each attempt, the answer."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from batchrunner.cli import options
from batchrunner.cli.names import find_store
from batchrunner.cli.showing import as_json_option, reader_may_leave, say
from batchrunner.cli.survey import TOKENS
from batchrunner.errors import UsageError
from batchrunner.screen import count, duration, visible
from batchrunner.store.detail import Answer, Attempted, Detail
from batchrunner.store.read import Reader

_LABEL = 11


@click.command()
@options.jobfile
@click.argument("custom_id", metavar="ID")
@options.db
@as_json_option
@reader_may_leave()
def show(jobfile: Path, custom_id: str, db: Path | None, *, as_json: bool) -> None:
    """Show one request of JOBFILE whole: what is sent, each attempt, the answer.

    JOBFILE is the job file or its store. An ID that begins with a dash stands after `--`.

    \b
    Example:  batchrunner show jobs.jsonl row-17
              batchrunner show jobs.jsonl row-17 --json | jq '.answers[-1].message'
    """
    with Reader(find_store(jobfile, db)) as reader:
        detail = _found(reader, custom_id)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(detail), indent=2))
    else:
        for line in detail_lines(detail):
            say(line)


def _found(reader: Reader, custom_id: str) -> Detail:
    detail = reader.detail(custom_id)
    if detail is not None:
        return detail
    if (at_line := reader.id_at_line(custom_id)) is not None:
        raise UsageError(f"No request has the id {custom_id}; the one on line {custom_id} is {at_line}.")
    near = reader.similar_ids(custom_id)
    hint = (
        f" Did you mean {' or '.join(near)}?" if near else " `batchrunner export --columns custom_id` lists them all."
    )
    raise UsageError(f"No request has the id {custom_id}.{hint}")


def detail_lines(detail: Detail) -> Iterator[str]:
    """Yield the lines of the screen, safe to show."""
    yield _labelled("id", detail.custom_id)
    yield _labelled("line", "no line of the input any more" if detail.line is None else count(detail.line))
    yield _labelled("status", _status(detail))
    if detail.deduplicated_of is not None:
        yield _labelled("identical", f"to {detail.deduplicated_of}, which is sent in its place (--dedupe)")
    if detail.timeout_s is not None:
        yield _labelled("timeout", duration(detail.timeout_s))
    yield from _document("metadata", detail.metadata)
    yield from _document("changed by retry since it was read" if detail.overrides else "", detail.overrides)
    yield from _document("request", detail.params)
    answers = {answer.number: answer for answer in detail.answers}
    for attempt in detail.attempts:
        yield ""
        yield from _attempt_lines(attempt)
        if (answer := answers.pop(attempt.number, None)) is not None:
            yield from _answer_lines(answer)
    for copied in answers.values():
        yield ""
        yield from _answer_lines(copied)


def _status(detail: Detail) -> str:
    words = [detail.state]
    if detail.finished_at:
        words.append(f"at {detail.finished_at}")
    if detail.not_before:
        words.append(f"to be tried again at {detail.not_before}")
    if detail.error_class:
        words.append(f"{detail.error_class}: {detail.error_message}")
    return "  ".join(words)


def _attempt_lines(attempt: Attempted) -> Iterator[str]:
    words = [attempt.started_at, "not ended: in flight, or its run died"]
    if attempt.ended_at is not None:
        took = duration(max(0.0, attempt.duration_s or 0.0))
        words = [attempt.started_at, took, attempt.error_class or attempt.outcome or ""]
    if attempt.http_status is not None:
        words.append(f"HTTP {attempt.http_status}")
    if attempt.api_request_id:
        words.append(attempt.api_request_id)
    at = f" at {attempt.endpoint}" if attempt.endpoint else ""
    words.append(f"{attempt.lane}{at}, run {attempt.run_id}")
    if attempt.possibly_paid:
        words.append("may have been paid for")
    yield visible(f"attempt {attempt.number}  {'  '.join(words)}")
    tokens = [
        f"{count(number)} {label}" for name, label in TOKENS.items() if (number := getattr(attempt, name)) is not None
    ]
    if tokens:
        cost = f"; ${attempt.cost_usd:,.6f}" if attempt.cost_usd is not None else ""
        yield _labelled("  tokens", ", ".join(tokens) + cost)
    if attempt.message:
        yield from _indented(attempt.message)


def _answer_lines(answer: Answer) -> Iterator[str]:
    kept = "accepted" if answer.accepted else "kept, not accepted"
    yield _labelled("  answer", f"{kept}; {answer.stop_reason}; {answer.model}")
    if answer.text:
        yield from _indented(answer.text)
    for block in _blocks(answer.message):
        if not (isinstance(block, dict) and block.get("type") == "text"):
            yield from _indented(_pretty(block))


def _blocks(message: Any) -> list[Any]:
    blocks = message.get("content") if isinstance(message, dict) else None
    return blocks if isinstance(blocks, list) else []


def _document(title: str, value: Any) -> Iterator[str]:
    if value:
        yield ""
        yield title
        yield from _indented(_pretty(value))


def _pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _indented(text: str) -> Iterator[str]:
    for line in visible(text, keep_lines=True).split("\n"):
        yield f"    {line}".rstrip()


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{visible(text)}"
