"""Everything that can be known of a job before it costs anything. Nothing is sent, nothing is written."""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from batchrunner.batch import MOST_BYTES
from batchrunner.endpoint import Endpoint
from batchrunner.errors import InputError
from batchrunner.jobfile import LineError
from batchrunner.loading import Source
from batchrunner.model import Request
from batchrunner.policy.batching import why_not
from batchrunner.preflight.against_model import AgainstModel, estimated_tokens
from batchrunner.preflight.credentials import Kind, check_credential, find_credential, named_credential
from batchrunner.preflight.findings import Fault, Findings, Severity, error, note
from batchrunner.preflight.ids import Ids
from batchrunner.preflight.parameters import check_parameters
from batchrunner.preflight.repetition import Repetition
from batchrunner.preflight.surroundings import (
    address_of,
    check_address,
    check_disk,
    check_store,
    is_official,
    note_proxy,
    proxies,
    shown_address,
)
from batchrunner.prices import price_of
from batchrunner.prices.sizing import JobSize

#: Bad lines shown; all are counted.
SHOWN = 20
_MODELS_SHOWN = 50
#: Bytes of a row of a batch: a little less than a whole batch.
_LARGEST_ROW = MOST_BYTES >> 1
#: Requests that are drawn, for counting their tokens.
SAMPLE = 24


@dataclass(frozen=True, slots=True)
class Where:
    """Where a run would send from and to."""

    environment: Mapping[str, str]
    config_dir: Path  #: Where profiles of the SDK are kept.
    now: datetime  #: UTC, aware.
    base_url: str | None = None
    insecure: bool = False
    simulate: bool = False
    endpoints: Sequence[Endpoint] = ()  #: Of the user's configuration; they are used in place of *base_url*.
    profile_fault: Callable[[], str | None] = lambda: None  #: What is wrong with the SDK's profile; may be slow.


@dataclass(slots=True)
class Examination:
    """What was found."""

    findings: Findings = field(default_factory=Findings)
    lines: int = 0
    requests: int = 0
    bad_lines: int = 0
    shown_lines: list[str] = field(default_factory=list)  #: The first of the bad ones, with their cause.
    input_bytes: int = 0
    input_tokens: int = 0  #: Estimated.
    max_output_tokens: int = 0  #: The sum of all max_tokens.
    largest_line: int = 0  #: Bytes of the largest request.
    unfit: int = 0  #: Requests that cannot go by batches.
    first: str | None = None  #: Parameters of the first request, as JSON text.
    models: Counter[str] = field(default_factory=Counter)
    size: JobSize = field(default_factory=JobSize)
    sample: list[str] = field(default_factory=list)  #: Parameters of a few requests drawn by chance, as JSON text.
    chance: random.Random = field(default_factory=lambda: random.Random(0))  #: The same requests each time.
    facts: dict[str, Any] = field(default_factory=dict)  #: Credential, endpoint, proxies, store, disk.

    @property
    def errors(self) -> int:
        """Bad lines, and findings that fail the check."""
        return self.bad_lines + self.findings.number(Severity.ERROR) + self.findings.left_out

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that scripts may rely on."""
        return {
            "ok": not self.errors,
            "errors": self.errors,
            "warnings": self.findings.number(Severity.WARNING),
            "lines": self.lines,
            "requests": self.requests,
            "bad_lines": self.bad_lines,
            "bad_lines_shown": self.shown_lines,
            "input_bytes": self.input_bytes,
            "largest_request_bytes": self.largest_line,
            "input_tokens_estimate": self.input_tokens,
            "max_output_tokens": self.max_output_tokens,
            "unfit_for_batches": self.unfit,
            "models": dict(self.models.most_common(_MODELS_SHOWN)),
            "findings": [finding.as_json() for finding in self.findings],
            "findings_left_out": self.findings.left_out,
            **self.facts,
        }


def examine(source: Source, store: Path, where: Where) -> Examination:
    """Look at the job of *source* and *store* and at what lies around it; raises nothing that it can report."""
    found = Examination()
    address = where.endpoints[0].base_url if where.endpoints else where.base_url
    official = not where.simulate and is_official(address_of(where.environment, address)[0])
    _look_around(found, where, official=official)
    try:
        # The simulator keeps the rules of the official endpoint.
        today = where.now.date()
        repetition = Repetition(partial(price_of, today=today))
        _read(found, source, AgainstModel(official or where.simulate, today), repetition)
        repetition.report(found.findings)
    except InputError as refused:
        found.findings.add(error("input", str(refused).rstrip(".")))
    found.facts["store"], faults = check_store(store, where.now, simulate=where.simulate)
    found.facts["disk"], more = check_disk(store, found.input_bytes, found.requests)
    for fault in [*faults, *more]:
        found.findings.add(fault)
    return found


def _look_around(found: Examination, where: Where, *, official: bool) -> None:
    if where.simulate:
        found.facts |= {"credential": None, "endpoint": {"url": "simulator", "from": "--simulate"}, "proxies": {}}
        return
    if where.endpoints:
        _look_at_named(found, where)
        return
    address, said_by = address_of(where.environment, where.base_url)
    credential = find_credential(where.environment, where.config_dir)
    named = proxies(where.environment)
    found.facts |= {
        "credential": {"kind": credential.kind, "source": credential.source, "why": credential.why},
        "endpoint": {"url": shown_address(address), "from": said_by, "official": official},
        "proxies": named,
    }
    faults: list[Fault] = [
        *check_address(address, insecure=where.insecure),
        *check_credential(credential, where.environment, official=official),
        *note_proxy(named),
    ]
    if credential.kind is Kind.PROFILE and (why := where.profile_fault()) is not None:
        faults.append(error("profile", why.rstrip(".")))
    for fault in faults:
        found.findings.add(fault)


def _look_at_named(found: Examination, where: Where) -> None:
    named = proxies(where.environment)
    faults = [*note_proxy(named)]
    told = []
    for endpoint in where.endpoints:
        address = endpoint.base_url or ""
        official = is_official(address)
        credential = named_credential(endpoint.key_env, where.environment, where.config_dir)
        faults += [*check_credential(credential, where.environment, official=official)]
        told.append(
            {
                "endpoint": {"url": shown_address(address), "from": f"endpoint {endpoint.name}", "official": official},
                "credential": {"kind": credential.kind, "source": credential.source, "why": credential.why},
            }
        )
    found.facts |= {**told[0], "endpoints": told, "proxies": named}
    for fault in faults:
        found.findings.add(fault)


def _read(found: Examination, source: Source, against: AgainstModel, repetition: Repetition) -> None:
    shape = source.shaper().request
    reader = source.lines()
    with Ids() as ids:
        for line in reader:
            found.lines += 1
            try:
                request = shape(line)
            except LineError as refused:
                found.bad_lines += 1
                if len(found.shown_lines) < SHOWN:
                    found.shown_lines.append(str(refused))
                continue
            ids.add(request)
            params = json.loads(request.params)
            repetition.add(request.model, params, request.params, request.line)
            _look_at(found, request, params, against)
        found.input_bytes = reader.bytes_read
        ids.report(found.findings)
    if not found.lines:
        found.findings.add(error("input", f"{source.path} has no lines"))


def _draw(found: Examination, params: str) -> None:
    """Let *params* into the sample with the chance that every request has."""
    if len(found.sample) < SAMPLE:
        found.sample.append(params)
    elif (place := found.chance.randrange(found.requests)) < SAMPLE:
        found.sample[place] = params


def _look_at(found: Examination, request: Request, params: dict[str, Any], against: AgainstModel) -> None:
    size = len(request.params)
    tokens = estimated_tokens(size, params["messages"])
    for fault in (*check_parameters(params), *against.faults(params, tokens)):
        found.findings.add(fault, request.line)
    if (why := why_not(request.params, request.max_tokens, _LARGEST_ROW)) is not None:
        found.unfit += 1
        found.findings.add(
            note("not-for-batches", f"cannot go by batches: {why}", "--then-live sends it live"), request.line
        )
    found.requests += 1
    _draw(found, request.params)
    found.size.add(request.params, request.model, request.max_tokens)
    found.first = found.first or request.params
    found.input_tokens += tokens
    found.max_output_tokens += request.max_tokens
    found.largest_line = max(found.largest_line, size)
    if request.model in found.models or len(found.models) < _MODELS_SHOWN:
        found.models[request.model] += 1
