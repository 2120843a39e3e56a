"""What holds a run back, in words: for the bar, for the end of a run, for the store."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from batchrunner.lane import Lane
from batchrunner.model import LimitKind
from batchrunner.policy.flow import Flow
from batchrunner.policy.holdups import KINDS, Reason
from batchrunner.policy.silence import Silence
from batchrunner.screen import duration, short

#: A wait is told at the end of a run if it was so long (seconds) and made up this share of the run.
_WORTH_TELLING_S = 5.0
_WORTH_TELLING = 0.1


def per_minute(flow: Flow, kind: LimitKind) -> float | None:
    """Return the limit on *kind* in force in a lane, None where none is known."""
    if kind is LimitKind.REQUESTS:
        return flow.requests.per_minute
    return (flow.inputs if kind is LimitKind.INPUT_TOKENS else flow.outputs).per_minute


def held_by(lanes: Sequence[Lane], now: float) -> str | None:
    """Return what holds the run back at the moment, None if nothing does: `output tokens 94 % of 400k/min`."""
    found = [(lane, reason) for lane in lanes if (reason := _binding(lane, now)) is not None]
    words = [
        _unheard(lane.limiter.silence, reason, now) or _words(lane.limiter.flow, reason, now)
        for lane, reason in found[:2]
    ]
    if len(lanes) > 1:
        words = [f"{lane.name}: {text}" for (lane, _), text in zip(found, words, strict=False)]
    return "; ".join(words) or None


def _binding(lane: Lane, now: float) -> Reason | None:
    # Slots that are all taken by calls that hang would be a limit on them, and no news.
    return Reason.SILENCE if lane.limiter.silence.since is not None else lane.limiter.holdups.binding(now)


def _unheard(silence: Silence, reason: Reason, now: float) -> str | None:
    if silence.since is not None:
        return f"no answer for {duration(now - silence.since)}"
    return "no answer until a moment ago" if reason is Reason.SILENCE else None


def _words(flow: Flow, reason: Reason, now: float) -> str:
    if (kind := KINDS.get(reason)) is not None and (limit := per_minute(flow, kind)):
        meter = flow.holdups.meters[kind]
        meter.forget(now)
        used = f"{min(1.0, meter.minute / limit):.0%}".replace("%", " %")
        return f"{reason} {used} of {short(limit)}/min{_lowered(flow, kind, now)}"
    pace, _ = flow.requests.pace(now)
    match reason:
        case Reason.OUTAGE if flow.breaker.opened_at is not None:
            return f"outage for {duration(now - flow.breaker.opened_at)}"
        case Reason.REFUSED if flow.gate.open_at > now:
            return f"refused (429), on hold for {duration(flow.gate.open_at - now)}"
        case Reason.LEARNED | Reason.OTHERS | Reason.RAMP if pace < math.inf:
            return f"{reason}: {pace * 60:,.0f} requests/min"
        case Reason.CONCURRENCY:
            return f"{flow.room(now):,} calls in flight{_by_whom(flow)}"
    return str(reason)


def _lowered(flow: Flow, kind: LimitKind, now: float) -> str:
    tokens = {LimitKind.INPUT_TOKENS: flow.inputs, LimitKind.OUTPUT_TOKENS: flow.outputs}.get(kind)
    return ", slower after refusals" if tokens is not None and tokens.is_cut(now) else ""


def waits_told(lanes: Sequence[Lane], now: float, seconds: float) -> list[str]:
    """Return the lines that say at the end of a run of so many seconds what it waited for longest, and what would help."""
    told = []
    pools = [(lane, berth) for lane in lanes for berth in lane.berths]
    for lane, berth in pools:
        waited = berth.limiter.holdups.total.waited_s
        if not waited:
            continue
        reason = max(waited, key=waited.__getitem__)
        waited_s = waited[reason]
        if waited_s >= max(_WORTH_TELLING_S, _WORTH_TELLING * seconds):
            where = f"{lane.name}: " if len(lanes) > 1 else ""
            where = f"{where}{berth.standing.name}: " if len(lane.berths) > 1 else where
            told.append(
                f"{where}waited {duration(waited_s)} for {reason}"
                f"{_remedy(berth.limiter.flow, reason, min(waited_s, seconds / 2), now)}"
            )
    return told


def _remedy(flow: Flow, reason: Reason, at_most_s: float, now: float) -> str:
    """Return what twice the limit would change: the time its use takes halves, and no more than *at_most_s* can be saved."""
    if (kind := KINDS.get(reason)) is not None and (limit := per_minute(flow, kind)):
        used = flow.holdups.meters[kind].total
        saved_s = min(at_most_s, used / limit * 60 / 2)
        return f"; at {short(2 * limit)}/min this run takes about {duration(saved_s)} less"
    if reason is Reason.CONCURRENCY:
        return _by_whom(flow) or f" ({flow.room(now):,} calls in flight{_by_user(flow, now)})"
    return ""


def _by_user(flow: Flow, now: float) -> str:
    """Say that more are permitted if the user says so; elsewhere rate and latency ask for no more."""
    concurrency = flow.concurrency
    cap = concurrency.cautious_cap if flow.requests.per_second == math.inf else concurrency.cap
    return "; -j permits more" if flow.room(now) >= cap else ""


def _by_whom(flow: Flow) -> str:
    return ", as the endpoint refuses more at once" if flow.concurrency.is_refused_more else ""


def figures(flow: Flow) -> Mapping[str, Any]:
    """Return the limits in force, as the store keeps them."""
    return {
        "rpm": flow.requests.per_minute,
        "itpm": flow.inputs.per_minute,
        "otpm": flow.outputs.per_minute,
    }
