"""`check`: everything that can be known of a job without sending anything."""

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrunner.cli import options
from batchrunner.cli.estimating import estimate_lines, estimated
from batchrunner.cli.names import find_store
from batchrunner.cli.ping import diagnosis_lines, pinged
from batchrunner.cli.sections import SectionedCommand
from batchrunner.cli.showing import as_json_option, many, reader_may_leave, say
from batchrunner.errors import Exit, UsageError
from batchrunner.screen import count, visible

if TYPE_CHECKING:
    from batchrunner.endpoint import Endpoint
    from batchrunner.forecast import Forecast
    from batchrunner.preflight import Examination, Where
    from batchrunner.preflight.findings import Finding

_LABEL = 11


@click.command(cls=SectionedCommand)
@options.jobfile
@options.db
@options.shaping
@options.sending
@options.limits
@click.option(
    "--ping",
    is_flag=True,
    help="Ask each endpoint too: its list of models, the tokens of the first request, a message of 1 token "
    "(a fraction of a cent).",
)
@click.option(
    "--estimate", is_flag=True, help="Say what it will take and cost: tokens, dollars, time, the limit that binds."
)
@click.option(
    "--count-tokens",
    is_flag=True,
    help="With --estimate: let the API count the tokens of 24 requests drawn by chance (free; sends their prompts).",
)
@as_json_option
@reader_may_leave()
def check(
    jobfile: Path, db: Path | None, *, as_json: bool, ping: bool, estimate: bool, count_tokens: bool, **given: Any
) -> int:
    """Look for all that is wrong with JOBFILE and what a run of it needs. Nothing is sent, nothing is spent.

    Credential, address, every line, ids, parameters, models, sizes, disk and store. Give it the options of the run.
    With --ping the endpoint is asked as well: is the key taken, are the parameters, is the network open and the clock
    right, is there credit and the model, what rate is permitted? Three calls, one of which costs a fraction of a cent.
    Exit code 0: nothing stands in the way (there may be warnings); 2: there are errors; 3: the endpoint has a problem.

    \b
    Example:  batchrunner check jobs.jsonl --model claude-haiku-4-5
              batchrunner check jobs/questions.toml --json | jq .findings
              batchrunner check jobs.jsonl --model claude-haiku-4-5 --ping
              batchrunner check jobs.jsonl --model claude-haiku-4-5 --estimate --rpm 1000
    """
    from batchrunner.cli.run import endpoints_of, source_of
    from batchrunner.preflight import examine

    if count_tokens and not estimate:
        raise UsageError("--count-tokens makes an estimate better; give --estimate too.")
    endpoints = endpoints_of(given)
    where = _where(endpoints, given)
    store = find_store(jobfile, db)
    if store == jobfile:
        raise UsageError(f"{jobfile} is a store, not a job file: `batchrunner status {jobfile}` tells how far it is.")
    source = source_of(jobfile, given)
    found = examine(source, store, where)
    diagnoses = pinged(endpoints, found, given) if ping else []
    told = estimated(found, store, endpoints, given, where.now.date(), count=count_tokens) if estimate else None
    if as_json:
        pings = {"ping": [one.as_json() for one in diagnoses]} if ping else {}
        click.echo(json.dumps({"job": str(source.path), **found.as_json(), **pings, **_estimate_json(told)}, indent=2))
    else:
        costs = estimate_lines(*told, _LABEL) if told is not None else ()
        sent = bool(diagnoses) or count_tokens
        for line in (*_lines(found, str(source.path), sent=sent), *costs, *diagnosis_lines(diagnoses)):
            say(line)
    if found.errors:
        return Exit.USAGE
    return Exit.HALTED if any(one.is_sick for one in diagnoses) else Exit.OK


def _where(endpoints: "Sequence[Endpoint]", given: dict[str, Any]) -> "Where":
    from batchrunner.preflight import Where

    def profile_fault() -> str | None:
        from batchrunner.api.profiles import profile_fault

        return profile_fault(given["base_url"], insecure=given["insecure_base_url"])

    return Where(
        environment=os.environ,
        config_dir=Path.home() / ".config" / "anthropic",
        now=datetime.now(UTC),
        base_url=given["base_url"],
        insecure=given["insecure_base_url"],
        simulate=given["simulate"] or given["simulate_with"] is not None,
        profile_fault=profile_fault,
        endpoints=[endpoint for endpoint in endpoints if endpoint.name is not None],
    )


def _estimate_json(told: "tuple[Forecast, str | None] | None") -> dict[str, Any]:
    return {} if told is None else {"estimate": told[0].as_json() | {"not_counted": told[1]}}


def _lines(found: "Examination", name: str, *, sent: bool) -> Iterator[str]:
    facts = found.facts
    yield _labelled("input", f"{name}: {many(found.lines, 'line')}, {count(found.input_bytes)} bytes")
    yield _labelled("requests", f"{count(found.requests)}; {_models(found)}")
    tokens = f"about {count(found.input_tokens)} of input (by size), at most {count(found.max_output_tokens)} of output"
    yield _labelled("tokens", tokens)
    for place in facts.get("endpoints", [facts]):
        endpoint, credential = place["endpoint"], place["credential"]
        yield _labelled("endpoint", f"{endpoint['url']} ({endpoint['from']})")
        if credential is not None:
            source = credential["source"] or "none"
            yield _labelled("credential", f"{source}: {credential['why']}")
    yield _labelled("store", _store(facts["store"], facts["disk"]))
    if found.bad_lines:
        yield ""
        shown = f", the first {len(found.shown_lines)}" if found.bad_lines > len(found.shown_lines) else ""
        yield f"{many(found.bad_lines, 'line')} cannot be sent{shown}:"
        for text in found.shown_lines:
            yield f"  {visible(text)}"
    for position, finding in enumerate(found.findings):
        if position == 0:
            yield ""
        yield visible(_finding(finding))
    if found.findings.left_out:
        yield f"... and {count(found.findings.left_out)} more of other kinds"
    yield ""
    warnings = found.as_json()["warnings"]
    verdict = "nothing stands in the way of a run" if not found.errors else "a run would not go well"
    verdict += "" if sent else "; nothing was sent"
    yield f"{many(found.errors, 'error')}, {many(warnings, 'warning')}: {verdict}"


def _finding(finding: "Finding") -> str:
    fault = finding.fault
    remedy = f": {fault.remedy}" if fault.remedy else ""
    return f"{fault.severity:<9}{fault.message}{_at(finding)}{remedy}"


def _at(finding: "Finding") -> str:
    if not finding.count:
        return ""
    more = ", ..." if finding.count > len(finding.lines) else ""
    where = f"line{'' if finding.count == 1 else 's'} {', '.join(map(str, finding.lines))}{more}"
    return f" ({where})" if finding.count <= len(finding.lines) else f" ({many(finding.count, 'line')}: {where[6:]})"


def _models(found: "Examination") -> str:
    if not found.models:
        return "no model"
    return ", ".join(f"{model} ({count(number)})" for model, number in found.models.most_common(5))


def _store(state: dict[str, Any], disk: dict[str, int]) -> str:
    room = f"; will take about {count(disk['needed_bytes'] >> 20)} MB"
    room += f" of {count(disk['free_bytes'] >> 20)} MB free" if "free_bytes" in disk else ""
    if "succeeded" not in state:
        return f"{state['path']}: {'unusable' if state['exists'] else 'none yet'}{room}"
    done = ", ".join(f"{count(state[name])} {name}" for name in ("succeeded", "failed", "pending"))
    return f"{state['path']}: {done}{' (simulated)' if state['simulated'] else ''}{room}"


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{visible(text)}"
