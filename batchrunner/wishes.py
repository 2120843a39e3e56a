"""What a Python program asks of a run, by keyword, made into what the engine room takes."""

import os
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Literal, cast

from batchrunner.choices import chosen, completed, put_back
from batchrunner.definition import Definition, is_definition, load_definition
from batchrunner.destinations import endpoints_of, is_simulated
from batchrunner.endpoint import Endpoint
from batchrunner.errors import UsageError
from batchrunner.jobfile import Defaults, Format, Template
from batchrunner.keywords import Options, Requests
from batchrunner.loading import Source
from batchrunner.policy.caps import Caps, parse_duration, parse_usd
from batchrunner.policy.projection import Projection
from batchrunner.policy.routing import parse_routing
from batchrunner.policy.sharing import Sharing
from batchrunner.policy.tolerance import FailOn, HaltAt
from batchrunner.progress import Reporter, Silent, reporter
from batchrunner.report import Job, Pilot, Wished
from batchrunner.ruling import read_schema
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
    with_rules,
)
from batchrunner.spool import spooled
from batchrunner.store.files import store_path
from batchrunner.store.read import Reader

#: What an input is called that has no path.
LABEL = "requests from Python"

#: What a run on a store alone takes over from the last one.
_GOES_ON = (
    "rate",
    "itpm",
    "otpm",
    "burst",
    "prime",
    "dedupe",
    "concurrency",
    "max_outage_s",
    "rules",
    "accept",
    "timeout_s",
    "schema",
    "halt",
    "fail_on",
    "route",
    "batch_size",
    "max_cost",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run needs, in order and checked."""

    job: Job
    settings: RunSettings
    endpoints: Sequence[Endpoint]  #: The first that works is used.
    reporter: Reporter


@asynccontextmanager
async def planned(requests: Requests, options: Options) -> AsyncIterator[Plan]:
    """Make a plan of *requests* and *options*; raises `UsageError` or `InputError` for what cannot be meant."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    store = _store(requests, options)
    definition = _definition(requests)
    if definition is not None:
        requests, options = definition.input, cast("Options", completed(options, definition.keywords()))
    elif requests is None:
        options = cast("Options", completed(options, _last(store)))
    settings, endpoints = _settings(options), endpoints_of(options)
    defaults, again = _defaults(options), put_back(options)
    watching = _reporter(options)

    def plan(path: Path | None, label: str | None = None) -> Plan:
        source = None if path is None else _source(path, label, defaults, options)
        durability = options.get("durability") or "full"
        job = Job(store, source, options.get("on_change"), again, durability, _pilot(options))
        return Plan(job, settings, endpoints, watching)

    if requests is None:
        yield plan(None)
    elif isinstance(requests, str | os.PathLike):
        yield plan(Path(requests))
    elif options.get("format"):
        raise UsageError("format says how to read a job file; requests from Python are what they are.")
    else:
        async with spooled(requests, store) as path:
            yield plan(path, LABEL)


def _definition(requests: Requests) -> Definition | None:
    if isinstance(requests, str | os.PathLike) and is_definition(Path(requests)):
        return load_definition(Path(requests))
    return None


def _last(store: Path) -> dict[str, Any]:
    """Return the limits and rules of the latest run: whoever goes on with a store alone goes on as it went."""
    with Reader(store) as reader:
        last = reader.settings()
    return {name: last[name] for name in _GOES_ON if last.get(name) or last.get(name) is False}


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
    text, form, files = options.get("prompt"), options.get("format"), options.get("allow_files")
    template = Template(text) if text is not None else None
    if template is not None and not template.needed:
        raise UsageError("prompt names no field, so every row would ask the same; write a field as {question}.")
    source = Source(
        path,
        defaults,
        template,
        text,
        surrogates=_one_of("surrogates", options.get("surrogates") or "refuse", ("refuse", "replace")),
        simulated=is_simulated(options),
        label=label,
        form=Format(_one_of("format", form, tuple(Format))) if form is not None else None,
        files=Path(files) if files is not None else None,
        skip_invalid=bool(options.get("skip_invalid")),
    )
    source.shaper()  # whatever is wrong with a default shows before a store is made
    return source


def _one_of(name: str, value: Any, words: Collection[str]) -> Any:
    if value not in words:
        raise UsageError(f"{name} must be one of {', '.join(words)}, not {value!r}.")
    return value


def _defaults(options: Options) -> Defaults:
    params = dict(options.get("params") or {})
    max_tokens = options.get("max_tokens")
    if max_tokens is None and "max_tokens" not in params:
        max_tokens = default_max_tokens()
    return Defaults(options.get("model"), max_tokens, options.get("system"), params)


def _settings(options: Options) -> RunSettings:
    accept, drain_s = options.get("accept") or (), _seconds(options, "drain_s", least=0)
    changes = [f"{name}={count}" for name, count in (options.get("retries") or {}).items()]
    first = options.get("first")
    if first is not None and (type(first) is not int or first < 0):
        raise UsageError(f"first must be a whole number from 0, not {first!r}.")
    return RunSettings(
        limits=_limits(options),
        rules=with_retries(with_rules(default_rules(), options.get("rules") or {}), changes),
        accept=parse_accept([accept] if isinstance(accept, str) else accept),
        stopping=Stopping() if drain_s is None else Stopping(drain_s, min(drain_s, Stopping().drain_sigterm_s)),
        timeout_s=_seconds(options, "timeout_s", least=0.001),
        max_outage_s=_seconds(options, "max_outage_s", least=0.001) or RunSettings().max_outage_s,
        halt=HaltAt.parse(options.get("halt")),
        fail_on=FailOn.parse(options.get("fail_on")),
        first=first,
        schema=read_schema(options.get("schema")),
        sampling=chosen(options),
        caps=Caps(
            parse_usd("max_cost", options.get("max_cost")),
            parse_duration("max_duration", options.get("max_duration")),
        ),
        routing=parse_routing(options),
        sharing=Sharing(options.get("prime") is not False, bool(options.get("dedupe"))),
    )


def _seconds(options: Options, name: Literal["drain_s", "timeout_s", "max_outage_s"], *, least: float) -> float | None:
    value = options.get(name)
    if value is not None and (type(value) not in {int, float} or not least <= value < inf):
        raise UsageError(f"{name} must be a number of seconds from {least:g}, not {value!r}.")
    return value


def _limits(options: Options) -> Limits:
    rate = parse_rate(options.get("rpm"), options.get("rate"))
    single = Limits(
        rate,
        options.get("concurrency"),
        parse_tokens("itpm", options.get("itpm")),
        parse_tokens("otpm", options.get("otpm")),
        burst=bool(options.get("burst")),
    )
    if (limits := options.get("limits")) is None:
        limits = single
    elif single != Limits():
        raise UsageError("Give limits, or rpm, rate, itpm, otpm, burst and concurrency, not both.")
    if limits.concurrency is not None and not 1 <= limits.concurrency <= 10_000:
        raise UsageError(f"concurrency must be 1 to 10,000, not {limits.concurrency:,}.")
    return limits


def _reporter(options: Options) -> Reporter:
    kind = options.get("progress") or "auto"
    if not isinstance(kind, str):
        return kind
    if kind == "none":
        return Silent(notes=False)
    try:
        return reporter(kind)
    except KeyError:
        raise UsageError(f"progress={kind!r}: auto, bar, notebook, plain, json or none.") from None


def _pilot(options: Options) -> Pilot | None:
    """Return the pilot that is asked for; raises `UsageError`."""
    size, go_on = options.get("pilot"), options.get("go_on")
    if size is None:
        return None
    if type(size) is not int or size < 1:
        raise UsageError(f"pilot must be a whole number from 1, not {size!r}.")

    async def agrees(projection: Projection, _wished: Wished) -> bool:
        return bool(go_on(projection) if callable(go_on) else go_on)

    return Pilot(size, agrees)
