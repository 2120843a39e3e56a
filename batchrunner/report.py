"""What a run is asked to do, how it ended, and both in words."""

import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchrunner.advice import export_command
from batchrunner.cache_words import cache_told
from batchrunner.counts import Counts
from batchrunner.endpoint_words import endpoint_told
from batchrunner.errors import Exit
from batchrunner.loading import Source
from batchrunner.policy.projection import Projection
from batchrunner.policy.sampling import Sampling
from batchrunner.screen import usd
from batchrunner.settings import RunSettings
from batchrunner.store.files import store_path
from batchrunner.store.repeats import Imported
from batchrunner.store.selection import Selection, Totals
from batchrunner.store.sharing import Paired

#: Returns when the user wants the run to stop.
Wished = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pilot:
    """A sample that is sent first, to see what the whole will cost and how much of it fails."""

    size: int  #: Requests, drawn by chance.
    agrees: Callable[[Projection, Wished], Awaitable[bool]]  #: Whether to send the rest.


@dataclass(frozen=True, slots=True)
class Job:
    """What to work on."""

    store: Path
    source: Source | None = None  #: None: the store alone (`resume`, `retry`).
    on_change: str | None = None  #: keep, rerun, or None to stop at changed requests.
    put_back: Selection | None = None  #: Failed requests to make pending again first (`retry`).
    durability: str = "full"
    pilot: Pilot | None = None  #: Send a sample first, and ask whether to go on.


@dataclass(slots=True)
class Report:
    """How a run ended."""

    ending: str = "finished"  #: finished, halted, stopped (at a limit of the user's own), interrupted or failed.
    reason: str | None = None
    steps: tuple[str, ...] = ()  #: Of a halt: what to try, in order.
    exit_code: Exit = Exit.OK
    paired: Paired = field(default_factory=Paired)  #: Identical requests (`--dedupe`).
    put_back: int = 0  #: Failed requests made pending again.
    imported: Imported | None = None  #: None: the job file was as the store knew it.
    counts: Counts = field(default_factory=Counts)
    totals: Totals = field(default_factory=Totals)  #: Of the lines this run was to work on.
    waits: list[str] = field(default_factory=list)  #: What the run waited for longest, in words.
    endpoints: list[dict[str, Any]] = field(default_factory=list)  #: What became of each that has a name.
    at_api: dict[str, int] = field(default_factory=dict)  #: `batches` and `requests` that the API goes on with.
    unfit: dict[str, int] = field(default_factory=dict)  #: Requests that cannot go by batches, by why.
    seconds: float = 0.0
    simulated: bool = False
    projection: Projection | None = None  #: After a pilot: what the rest will come to.

    def as_record(self) -> dict[str, Any]:
        """Return what machines want to know: plain JSON values."""
        return {
            "ending": self.ending,
            "reason": self.reason,
            "steps": list(self.steps),
            "exit_code": int(self.exit_code),
            "seconds": round(self.seconds, 3),
            "requests": self.totals.requests,
            "succeeded": self.totals.succeeded,
            "failed": self.totals.failed,
            "pending": self.totals.pending,
            "sent": self.counts.sent,
            "retries": self.counts.retries,
            "rate_limited": self.counts.refused,
            "input_tokens": self.counts.input_tokens,
            "output_tokens": self.counts.output_tokens,
            "cache_read_tokens": self.counts.cache_read_tokens,
            "cache_write_tokens": self.counts.cache_write_tokens,
            "deduplicated": self.counts.followed + self.paired.answered,
            "cost_usd": self.counts.cost_usd,
            "unpriced_answers": self.counts.unpriced,
            "possibly_billed_attempts": self.counts.possibly_billed,
            "possibly_billed_usd": self.counts.possible_usd,
            "unsaid_answers": self.counts.unsaid,
            "unsaid_usd": self.counts.unsaid_usd,
            "failures": dict(self.counts.failures),
            "waits": self.waits,
            "endpoints": self.endpoints,
            "at_api": self.at_api,
            "unfit_for_batches": self.unfit,
            "projection": self.projection.as_record() if self.projection is not None else None,
        }


def banner(
    store: Path, report: Report, settings: RunSettings, totals: Totals, endpoint: str, *, by_batches: bool = False
) -> str:
    """Return what a run says before it sends anything."""
    limits = settings.limits
    rate = f"at most {limits.rate}" if limits.rate else "rate limits as the endpoint says (--rpm)"
    pace = f"{rate}, at most {limits.cap:,} in flight"
    if by_batches:
        pace = f"by batches of at most {settings.routing.rows:,}, at half the price"
    left = f", {totals.pending:,} to send" if totals.pending < totals.requests else ""
    requests = "1 request" if totals.requests == 1 else f"{totals.requests:,} requests"
    lines = [f"{store}: {requests}{left}; {endpoint}; {pace}"]
    if settings.first is not None:
        lines.append(f"only the first {settings.first:,} lines")
    if choice := _choice(settings.sampling):
        lines.append(choice)
    if report.put_back:
        lines.append(
            "1 failed request is tried again"
            if report.put_back == 1
            else f"{report.put_back:,} failed requests are tried again"
        )
    return "\n".join(lines + _paired(report.paired) + _imported(report.imported))


def _choice(sampling: Sampling) -> str:
    only = []
    if sampling.ids:
        only.append(f"only {len(sampling.ids):,} chosen by id")
    if sampling.sample is not None:
        only.append(f"only {sampling.sample:,} drawn by chance (--seed {sampling.seed})")
    if sampling.shuffle:
        only.append(f"in an order drawn by chance (--seed {sampling.seed})")
    return "; ".join(only)


def _paired(paired: Paired) -> list[str]:
    lines = []
    if paired.waiting:
        lines.append(f"identical to another request, whose answer they get (--dedupe): {paired.waiting:,}")
    if paired.answered:
        lines.append(f"identical to a request that was answered before, and done with its answer: {paired.answered:,}")
    return lines


def _imported(imported: Imported | None) -> list[str]:
    if imported is None:
        return []
    facts = (
        (imported.merged, "lines that repeat an id with the same content, sent once"),
        (imported.updated, "changed lines that had no answer, taken in their new form"),
        (imported.kept, "changed requests, kept as the store has them (--on-change keep)"),
        (imported.rerun, "changed requests, sent again (--on-change rerun)"),
        (imported.invalid, "bad lines, recorded as failed and not sent (--skip-invalid)"),
        (imported.removed, "requests no longer in the job file, kept in the store and not sent"),
    )
    return [f"{text}: {count:,}" for count, text in facts if count]


def closing(report: Report, name: str) -> str:
    """Return what a run says at its end: what became of the requests and what to type next. *name*: the job file."""
    totals, counts = report.totals, report.counts
    lines = []
    if report.reason:
        lines.append(f"{report.ending}: {report.reason}")
        lines += [f"  {number}. {step}" for number, step in enumerate(report.steps, 1)]
    lines.append(
        f"{report.ending} after {report.seconds:,.1f} s: {totals.succeeded:,} succeeded, {totals.failed:,} failed, "
        f"{totals.pending:,} pending, of {totals.requests:,}"
    )
    if counts.sent:
        refused = f", {counts.refused:,} of them refused by a rate limit" if counts.refused else ""
        lines.append(
            f"this run: {counts.sent:,} call{'' if counts.sent == 1 else 's'}, {counts.retries:,} to be repeated{refused}; "
            f"{counts.input_tokens:,} input and {counts.output_tokens:,} output tokens"
        )
        if counts.cache_read_tokens or counts.cache_write_tokens:
            lines.append(cache_told(counts.cache_read_tokens, counts.cache_write_tokens))
        lines.append(_cost(report))
    elif report.imported is not None and not report.imported.requests:
        lines.append(f"{name} holds no requests")
    elif not totals.pending and report.ending == "finished":
        lines.append("nothing was left to send")
    if shared := counts.followed + report.paired.answered:
        lines.append(f"not sent, as an identical request has the answer (--dedupe): {shared:,}")
    if report.totals.pending:
        lines += [f"not sent, as batches cannot take it: {n:,} ({why})" for why, n in report.unfit.items()]
    if report.at_api.get("batches"):
        lines.append(at_api_told(report.at_api["batches"], report.at_api["requests"], name))
    return "\n".join(lines + [endpoint_told(one) for one in report.endpoints] + report.waits + _next(report, name))


def at_api_told(batches: int, requests: int, name: str) -> str:
    """Return what to say of batches that go on at the API without us. *name*: the job file or the store."""
    they, job = ("it", "1 batch goes") if batches == 1 else ("them", f"{batches:,} batches go"), shlex.quote(name)
    return (
        f"{they[1]} on at the API, with {requests:,} requests; `batchrunner resume {job}` collects {they[0]}, "
        f"`batchrunner batches {job} --cancel` cancels {they[0]}"
    )


def _cost(report: Report) -> str:
    """Return what this run has cost, and what the rest will at that rate."""
    counts, totals = report.counts, report.totals
    final = counts.succeeded + counts.failed
    priced = counts.cost_usd > 0 or not counts.unpriced
    parts = [usd(counts.cost_usd) if priced else "not known"]
    if unpriced := counts.unpriced - counts.unsaid:
        parts.append(f"no price is known for {unpriced:,} answers")
    if counts.unsaid:
        parts.append(
            f"at most {usd(counts.unsaid_usd)} more for {counts.unsaid:,} answers that do not say what they took"
        )
    if counts.possibly_billed:
        parts.append(
            f"at most {usd(counts.possible_usd)} more for {counts.possibly_billed:,} calls that may have been billed"
        )
    if counts.saved_usd:
        parts.append(f"{usd(counts.saved_usd)} saved by caching and batches")
    found = report.projection
    if found is not None and found.rest + found.identical == totals.pending:  # it knows better
        if found.cost_usd is not None:
            parts.append(f"about {usd(found.cost_usd.likely)} for the {totals.pending:,} pending")
    elif totals.pending and final and priced:
        parts.append(f"about {usd(counts.cost_usd / final * totals.pending)} for the {totals.pending:,} pending")
    simulated = " (simulated: nothing was paid)" if report.simulated else ""
    return f"cost{simulated}: {'; '.join(parts)}"


def _next(report: Report, name: str) -> list[str]:
    totals, job = report.totals, shlex.quote(name)
    steps = []
    if totals.pending:
        mended = "once that is mended, " if report.ending == "halted" else ""
        unfit = sum(report.unfit.values())
        live = " --route live" if unfit and unfit == totals.pending else ""
        steps.append(f"batchrunner resume {job}{live}    # {mended}goes on with the {totals.pending:,} pending")
    if totals.failed:
        steps.append(f"batchrunner errors {job}    # what failed, and the command that mends it")
    if totals.succeeded:
        steps.append(export_command(job, store_path(Path(name))))
    return [f"next: {step}" if not i else f"      {step}" for i, step in enumerate(steps)]
