"""What a Python program asks of a run, by keyword, made into what the engine room takes."""

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from batchrunner.advice import MENDABLE
from batchrunner.endpoint import Endpoint
from batchrunner.errors import UsageError
from batchrunner.jobfile import Defaults, Template
from batchrunner.loading import Source
from batchrunner.model import ErrorClass
from batchrunner.progress import Reporter, Silent, reporter
from batchrunner.report import Job
from batchrunner.settings import (
    Limits,
    RunSettings,
    Stopping,
    default_max_tokens,
    default_rules,
    parse_accept,
    parse_rate,
    parse_tokens,
    with_retries,
)
from batchrunner.spool import Lines, spooled
from batchrunner.store.files import store_path
from batchrunner.store.selection import Selection

#: A job file, or the requests themselves, each as a line of a job file has it; None: the store alone.
Requests = str | os.PathLike[str] | Lines | None

#: What an input is called that has no path.
LABEL = "requests from Python"


class Options(TypedDict, total=False):
    """The keywords of `run`, `run_sync` and `stream`; each but `client` is also an option of the command."""

    store: str | os.PathLike[str] | None  #: The SQLite file. Default: beside the job file; needed without one.
    model: str | None  #: For requests that name no model.
    max_tokens: int | None  #: For requests that set none. Default: 1024.
    system: str | None  #: System prompt for requests that have none.
    prompt: str | None  #: Template that makes requests of rows: `"Solve: {question}"`.
    params: Mapping[str, Any] | None  #: Any other parameters of the Messages API, for requests that do not set them.
    limits: Limits | None  #: Rates and calls in flight; or the next six one by one.
    rpm: int | None  #: At most so many requests a minute.
    rate: str | None  #: The same for another period: `"600/10s"`.
    itpm: int | None  #: At most so many input tokens a minute. Default: as the endpoint says.
    otpm: int | None  #: At most so many output tokens a minute. Default: as the endpoint says.
    burst: bool  #: Send without an even pace what the endpoint says is left.
    concurrency: int | None  #: At most so many calls in flight. Default: as many as rate and latency ask for.
    max_outage_s: float  #: How long to wait for an endpoint that answers nothing. Default: 3600.
    accept: Iterable[str] | str  #: Answers that count as success all the same: `"truncated"`, `"refused"`, `"empty"`.
    retries: Mapping[str, int] | None  #: Further attempts by error class: `{"server": 10, "timeout": 1}`.
    timeout_s: float | None  #: Deadline of one call. Default: from its `max_tokens`.
    drain_s: float | None  #: How long calls in flight may finish once the run is to stop. Default: 60.
    on_change: (
        Literal["keep", "rerun"] | None
    )  #: For requests sent before that read differently now. Default: an error.
    retry: bool | Iterable[str]  #: First put back failed requests: those another try can mend, or these error classes.
    client: Any  #: An SDK client of your own (Bedrock, Vertex, a test's): everything goes through it.
    base_url: str | None  #: Another endpoint than `ANTHROPIC_BASE_URL` or the official one.
    simulate: bool | str  #: Use the embedded simulator, with its settings if a text: `"latency=0.2..1"`.
    durability: Literal["full", "fast"]  #: `fast`: a power cut may lose the last second.
    progress: str | Reporter  #: `auto`, `bar`, `notebook`, `plain`, `json`, `none`, or a reporter of your own.


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run needs, in order and checked."""

    job: Job
    settings: RunSettings
    endpoint: Endpoint
    reporter: Reporter


@asynccontextmanager
async def planned(requests: Requests, options: Options) -> AsyncIterator[Plan]:
    """Make a plan of *requests* and *options*; raises `UsageError` or `InputError` for what cannot be meant."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    settings, endpoint = _settings(options), _endpoint(options)
    defaults, put_back = _defaults(options), _put_back(options)
    watching = _reporter(options)
    store = _store(requests, options)

    def plan(path: Path | None, label: str | None = None) -> Plan:
        source = None if path is None else _source(path, label, defaults, options)
        job = Job(store, source, options.get("on_change"), put_back, options.get("durability") or "full")
        return Plan(job, settings, endpoint, watching)

    if requests is None:
        yield plan(None)
    elif isinstance(requests, str | os.PathLike):
        yield plan(Path(requests))
    else:
        async with spooled(requests, store) as path:
            yield plan(path, LABEL)


def _store(requests: Requests, options: Options) -> Path:
    given = options.get("store")
    if not isinstance(requests, str | os.PathLike):
        if isinstance(requests, Mapping | bytes) or not isinstance(requests, Iterable | AsyncIterable | None):
            raise UsageError("requests must be the path of a job file or an iterable of requests.")
        if given is None:
            raise UsageError("Requests that come from no file need a store: store='answers.db'.")
        return Path(given)
    store = store_path(Path(requests)) if given is None else Path(given)
    if store == Path(requests):
        raise UsageError(f"{store} is a store, not a job file; run(None, store={str(store)!r}) goes on with it.")
    return store


def _source(path: Path, label: str | None, defaults: Defaults, options: Options) -> Source:
    text = options.get("prompt")
    template = Template(text) if text is not None else None
    return Source(path, defaults, template, text, simulated=_simulated(options), label=label)


def _defaults(options: Options) -> Defaults:
    params = dict(options.get("params") or {})
    max_tokens = options.get("max_tokens")
    if max_tokens is None and "max_tokens" not in params:
        max_tokens = default_max_tokens()
    return Defaults(options.get("model"), max_tokens, options.get("system"), params)


def _settings(options: Options) -> RunSettings:
    accept, drain_s = options.get("accept") or (), options.get("drain_s")
    changes = [f"{name}={count}" for name, count in (options.get("retries") or {}).items()]
    return RunSettings(
        limits=_limits(options),
        rules=with_retries(default_rules(), changes),
        accept=parse_accept([accept] if isinstance(accept, str) else accept),
        stopping=Stopping() if drain_s is None else Stopping(drain_s, min(drain_s, Stopping().drain_sigterm_s)),
        timeout_s=options.get("timeout_s"),
        max_outage_s=options.get("max_outage_s", RunSettings().max_outage_s),
    )


def _limits(options: Options) -> Limits:
    rate = parse_rate(options.get("rpm"), options.get("rate"))
    single = Limits(
        rate,
        options.get("concurrency"),
        parse_tokens("itpm", options.get("itpm")),
        parse_tokens("otpm", options.get("otpm")),
        burst=options.get("burst", False),
    )
    if (limits := options.get("limits")) is None:
        limits = single
    elif single != Limits():
        raise UsageError("Give limits, or rpm, rate, itpm, otpm, burst and concurrency, not both.")
    if limits.concurrency is not None and not 1 <= limits.concurrency <= 10_000:
        raise UsageError(f"concurrency must be 1 to 10,000, not {limits.concurrency:,}.")
    return limits


def _put_back(options: Options) -> Selection | None:
    retry = options.get("retry", False)
    if isinstance(retry, bool):
        return Selection(MENDABLE) if retry else None
    classes = [retry] if isinstance(retry, str) else list(retry)
    for name in classes:
        if name not in set(ErrorClass):
            raise UsageError(f"retry={name!r} is no error class. Classes: {', '.join(ErrorClass)}.")
    return Selection(classes) if classes else None


def _simulated(options: Options) -> bool:
    return options.get("simulate", False) is not False


def _endpoint(options: Options) -> Endpoint:
    client, base_url, spec = options.get("client"), options.get("base_url"), options.get("simulate", False)
    if sum((client is not None, base_url is not None, spec is not False)) > 1:
        raise UsageError("client, base_url and simulate each say where to send; give one of them.")
    if spec is False:
        return Endpoint(base_url, client=client)
    from batchrunner.simulator.settings import parse_spec

    return Endpoint(simulator=parse_spec("" if spec is True else spec))


def _reporter(options: Options) -> Reporter:
    kind = options.get("progress", "auto")
    if not isinstance(kind, str):
        return kind
    if kind == "none":
        return Silent(notes=False)
    try:
        return reporter(kind)
    except KeyError:
        raise UsageError(f"progress={kind!r}: auto, bar, notebook, plain, json or none.") from None
