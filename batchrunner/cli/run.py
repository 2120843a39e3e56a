"""`run`, `resume` and `retry`: three ways into the same run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrunner.cli import options
from batchrunner.cli.capping import capping, caps_of, pilot_of, piloting
from batchrunner.cli.routes import move_routing, routing
from batchrunner.cli.sections import SectionedCommand
from batchrunner.cli.selecting import may_go_on, selecting, selection_of
from batchrunner.cli.sharing import sharing, sharing_of
from batchrunner.errors import Exit, UsageError
from batchrunner.store.files import store_path
from batchrunner.store.read import Reader

if TYPE_CHECKING:
    from batchrunner.endpoint import Endpoint
    from batchrunner.loading import Source
    from batchrunner.policy.sampling import Sampling
    from batchrunner.settings import Limits, RunSettings


@click.command(cls=SectionedCommand)
@options.jobfile
@options.db
@options.shaping
@options.sampling
@capping
@routing
@piloting
@sharing
@options.running
def run(jobfile: Path, db: Path | None, **given: Any) -> int:
    """Send every request of JOBFILE and save the answers; the same command again continues.

    \b
    Lines may be {"custom_id": ..., "params": {...}} (Anthropic batches), Messages parameters,
    {"prompt": "..."}, {"messages": [...]}, a JSON string, OpenAI's chat and batch lines, or with
    --prompt rows of any JSONL, CSV or TSV. A .txt has a prompt on each line; - is stdin (with --db).

    \b
    Example:  batchrunner run jobs.jsonl --model claude-haiku-4-5 --rpm 1000
              batchrunner run rows.csv --prompt 'Solve: {question}' --model claude-haiku-4-5
              batchrunner run rows.csv --prompt 'Solve: {question}' --sample 20 --model claude-haiku-4-5
              batchrunner run jobs.jsonl --route batches --then-live
    """
    source = source_of(jobfile, given)
    store = db or store_path(jobfile)
    if store == jobfile:
        raise UsageError(f"{jobfile} is a store, not a job file; `batchrunner resume {jobfile}` goes on with it.")
    job = {"store": store, "source": source, "on_change": given["on_change"], "pilot": pilot_of(given)}
    return _run(db or jobfile, job, given, {})


@click.command(cls=SectionedCommand)
@options.jobfile
@options.db
@options.sampling
@capping
@routing
@piloting
@sharing
@options.running_again
def resume(jobfile: Path, db: Path | None, **given: Any) -> int:
    """Go on with a run from its store alone; limits as in its last run unless given anew.

    Example:  batchrunner resume jobs.jsonl
    """
    store = db or store_path(jobfile)
    return _run(db or jobfile, {"store": store, "pilot": pilot_of(given)}, given, _last_settings(store))


@click.command(cls=SectionedCommand)
@options.jobfile
@options.db
@selecting
@capping
@routing
@sharing
@options.running_again
def retry(jobfile: Path, db: Path | None, **given: Any) -> int:
    """Put failed requests back, with full budgets, and run.

    By default those that another try can mend: outages, time-outs, rate limits, broken answers. What is selected is
    shown first; on a terminal you are asked, elsewhere it goes on. What was asked for at first, and every earlier
    attempt and answer, stays on record, and the job file counts as unchanged.

    \b
    Example:  batchrunner retry jobs.jsonl
              batchrunner retry jobs.jsonl --class truncated --set max_tokens=16000
              batchrunner retry jobs.jsonl --signature 1f2e3d4c --model claude-opus-4-8 -y
    """
    store = db or store_path(jobfile)
    selection = selection_of(given)
    last = _last_settings(store)
    if not may_go_on(store, given, selection):
        return Exit.OK
    return _run(db or jobfile, {"store": store, "put_back": selection}, given, last)


@click.command(cls=SectionedCommand)
@options.jobfile
@options.db
@click.option(
    "--to", "route", type=click.Choice(["live", "batches"]), required=True, help="The way to take from now on."
)
@capping
@move_routing
@sharing
@options.running_again
def move(jobfile: Path, db: Path | None, **given: Any) -> int:
    """Send what is pending by the other way, and pay for nothing twice.

    To live: batches at the API are cancelled, what was done of them is collected, the rest is sent live. To batches: what
    is pending is submitted. A run that works on JOBFILE must be stopped first.

    \b
    Example:  batchrunner move jobs.jsonl --to live --rpm 1000
              batchrunner move jobs.jsonl --to batches --submit-only
    """
    store = db or store_path(jobfile)
    return _run(db or jobfile, {"store": store}, {**given, "moves": True}, _last_settings(store))


def source_of(jobfile: Path, given: dict[str, Any]) -> "Source":
    """Return the input and how its lines become requests; *jobfile* may be the definition that names it."""
    from batchrunner.jobfile import Defaults, Format, Template, parse_settings
    from batchrunner.loading import Source
    from batchrunner.settings import default_max_tokens

    definition = options.named_definition()
    flags = {name for name in ("model", "max_tokens", "system") if given[name] is not None}
    extra = parse_settings((*(definition.settings(flags) if definition else ()), *given["settings"]))
    defaults = Defaults(
        model=given["model"],
        max_tokens=given["max_tokens"] or (None if "max_tokens" in extra else default_max_tokens()),
        system=given["system"],
        extra=extra,
    )
    text = given["prompt"]
    source = Source(
        definition.input if definition else jobfile,
        defaults,
        Template(text) if text is not None else None,
        text,
        surrogates=given["surrogates"],
        simulated=_simulated(given),
        form=Format(given["form"]) if given["form"] else None,
        files=given["files"],
        skip_invalid=given["skip_invalid"],
    )
    if source.template is not None and not source.template.needed:
        raise UsageError("--prompt names no field, so every row would ask the same; write a field as {question}.")
    source.shaper()  # whatever is wrong with a default shows before a store is made
    return source


def _run(name: Path, job: dict[str, Any], given: dict[str, Any], last: dict[str, Any]) -> int:
    import anyio

    from batchrunner.audience import OwnProcess
    from batchrunner.progress import JsonLines, reporter
    from batchrunner.report import Job, closing
    from batchrunner.runner import run as run_job
    from batchrunner.stopping import Stopper

    if last.get("endpoint") == "simulator" and not (given["base_url"] or given["endpoints"]):
        given["simulate"] = True  # what was simulated goes on being simulated: nothing can be paid by mistake
    watching = reporter(given["progress"])
    definition = options.named_definition()
    settings = _settings(given, {**last, **(definition.limits_record() if definition else {})})

    endpoints = endpoints_of(given)
    stopper = Stopper(settings.stopping, watching.note)
    stopper.hear()

    async def work() -> int:
        asked = Job(durability=given["durability"], **job)
        report = await run_job(
            asked,
            settings,
            endpoints,
            reporter=watching,
            signals=True,
            stopper=stopper,
            audience=OwnProcess(),
        )
        if isinstance(watching, JsonLines):
            watching.emit({"event": "end", **report.as_record()})
        else:
            watching.note(closing(report, str(name)))
        return report.exit_code

    return anyio.run(work)


def _simulated(given: dict[str, Any]) -> bool:
    return bool(given["simulate"] or given["simulate_with"] is not None)


def endpoints_of(given: dict[str, Any]) -> "tuple[Endpoint, ...]":
    """Return where requests go, in order, by the options of `options.sending`."""
    from batchrunner.endpoint import Endpoint
    from batchrunner.endpoints import named_endpoints, parse_headers, with_headers
    from batchrunner.simulator.settings import parse_spec

    if _simulated(given):
        if given["base_url"] or given["endpoints"]:
            raise UsageError("--simulate brings its own endpoint; leave out --base-url and --endpoint.")
        found: tuple[Endpoint, ...] = (Endpoint(simulator=parse_spec(given["simulate_with"] or "")),)
    elif given["endpoints"]:
        if given["base_url"]:
            raise UsageError("--endpoint and --base-url each say where to send; give one of them.")
        found = named_endpoints(given["endpoints"])
    else:
        found = (Endpoint(given["base_url"], insecure=given["insecure_base_url"]),)
    headers = parse_headers(given["headers"])
    return tuple(with_headers(endpoint, headers, given["api_version"]) for endpoint in found)


def _settings(given: dict[str, Any], last: dict[str, Any]) -> "RunSettings":
    """Return the settings of the run: what is *given*, else what the *last* run had, else the defaults."""
    from batchrunner.policy.routing import parse_routing
    from batchrunner.policy.tolerance import FailOn, HaltAt
    from batchrunner.ruling import read_schema, rules_with
    from batchrunner.settings import (
        RunSettings,
        Stopping,
        parse_accept,
    )

    drain_s = given["drain_s"]
    return RunSettings(
        limits=limits_of(given, last),
        rules=rules_with(last.get("rules", {}), given["rules"], given["retries"]),
        accept=parse_accept(given["accept"] or last.get("accept", ())),
        stopping=Stopping() if drain_s is None else Stopping(drain_s, min(drain_s, Stopping().drain_sigterm_s)),
        timeout_s=given["timeout_s"] or last.get("timeout_s"),
        max_outage_s=given["max_outage_s"] or last.get("max_outage_s") or RunSettings().max_outage_s,
        halt=HaltAt.parse(given["halt"] or last.get("halt")),
        fail_on=FailOn.parse(given["fail_on"] or last.get("fail_on")),
        first=given["first"],
        schema=read_schema(given["schema"] or last.get("schema")),
        sampling=_sampling(given),
        caps=caps_of(given, last),
        routing=parse_routing(given, last),
        sharing=sharing_of(given, last),
    )


def limits_of(given: dict[str, Any], last: dict[str, Any]) -> "Limits":
    """Return the limits by the options of `options.limits`: what is *given*, else what the *last* run had."""
    from batchrunner.settings import Limits, parse_rate, parse_tokens

    names_rate = given["rpm"] or given["rate"]
    burst = given["burst"] if given["burst"] is not None else last.get("burst", False)
    return Limits(
        rate=parse_rate(given["rpm"], given["rate"] if names_rate else last.get("rate")),
        concurrency=given["concurrency"] or last.get("concurrency"),
        itpm=parse_tokens("--itpm", given["itpm"] or last.get("itpm")),
        otpm=parse_tokens("--otpm", given["otpm"] or last.get("otpm")),
        burst=bool(burst),
    )


def _sampling(given: dict[str, Any]) -> "Sampling":
    from batchrunner.policy.sampling import Sampling

    names = ("ids", "sample", "shuffle", "seed")
    return Sampling(**{name: given[name] for name in names if name in given})


def _last_settings(store: Path) -> dict[str, Any]:
    """Return the settings on record of the latest run, as it was tuned last: limits and rules, never an address."""
    with Reader(store) as reader:
        return reader.settings()
