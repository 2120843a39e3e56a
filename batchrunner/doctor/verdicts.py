"""From answers to lines. Pure: what was asked and said goes in, what it means comes out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchrunner.api.asking import Answer
from batchrunner.api.network import Step
from batchrunner.doctor.lines import Area, Line, ok, problem, warning
from batchrunner.model import ErrorClass, Failure, LimitKind, Outcome, Quotas, Success
from batchrunner.screen import duration, short
from batchrunner.settings import Limits

#: A clock that is off by more is worth a word, in seconds; by more than the second figure tokens and TLS suffer.
_SKEW_S = 30.0
_BAD_SKEW_S = 300.0
_SHOWN = 5
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the job wants of an endpoint."""

    models: Mapping[str, int]  #: The job's names, most frequent first, with how many requests have each.
    requests: int
    input_tokens: int  #: Estimated.
    limits: Limits  #: As the run was told.
    first: str | None = None  #: The first request as JSON text; None: there is none.


def of_network(steps: Sequence[Step]) -> Iterator[Line]:
    """Say how far the way was open."""
    for step in steps:
        if step.ok:
            yield ok(Area.NETWORK, step.name, step.text)
        else:
            yield problem(Area.NETWORK, f"{step.name}-failed", step.text, step.remedy)


def of_clock(skew_s: float | None) -> Iterator[Line]:
    """Say whether this machine's clock agrees with the endpoint's."""
    if skew_s is None:
        yield ok(Area.NETWORK, "clock", "the endpoint does not say what time it is")
        return
    if abs(skew_s) <= _SKEW_S:
        yield ok(Area.NETWORK, "clock", "this machine's clock agrees with the endpoint's")
        return
    said = f"this machine's clock is {duration(abs(skew_s))} {'ahead of' if skew_s > 0 else 'behind'} the endpoint's"
    make = problem if abs(skew_s) > _BAD_SKEW_S else warning
    yield make(Area.NETWORK, "clock-skew", said, "set it by the network (NTP): tokens and certificates have times")


def of_key(source: str, models: Answer, message: Outcome | None) -> Iterator[Line]:
    """Say whether the credential from *source* is taken."""
    if isinstance(message, Failure) and message.error_class is ErrorClass.AUTHENTICATION:
        yield _refused_key(source, message)
    elif message is None and models.failure is not None and models.failure.error_class is ErrorClass.AUTHENTICATION:
        yield _refused_key(source, models.failure)
    elif (models.failure is None and models.status is not None) or not (message is None or _is_silent(message)):
        yield ok(Area.KEY, "key", f"the credential from {source} is taken")
    else:
        yield warning(Area.KEY, "key-unknown", f"whether the credential from {source} is taken cannot be known now")


def _is_silent(message: Outcome) -> bool:
    """Whether *message* says nothing of the key."""
    return isinstance(message, Failure) and (
        message.http_status is None or message.http_status >= 500 or message.error_class is ErrorClass.ENDPOINT
    )


def _refused_key(source: str, failure: Failure) -> Line:
    remedy = f"is {source} set, whole, not revoked, and meant for this endpoint? make a new key if in doubt"
    return problem(Area.KEY, "key-refused", f"the credential from {source} is refused: {failure.message}", remedy)


def of_parameters(count: Answer | None, estimate: int) -> Iterator[Line]:
    """Say whether the endpoint takes the job's first request; *estimate*: its input tokens by size."""
    if count is None:
        yield ok(Area.PARAMETERS, "count", "not asked")
    elif count.is_missing:
        said = f"the endpoint counts no tokens (HTTP {count.status}), so parameters were looked at here only"
        yield ok(Area.PARAMETERS, "count-missing", said)
    elif count.failure is not None and count.failure.error_class in {ErrorClass.INVALID, ErrorClass.TOO_LARGE}:
        said = f"the endpoint does not take the first request: {count.failure.message}"
        yield problem(Area.PARAMETERS, "first-request-refused", said, "correct the parameter, or the line")
    elif count.failure is not None:
        yield warning(Area.PARAMETERS, "count-failed", f"the tokens could not be counted: {count.failure.message}")
    else:
        tokens = (count.json or {}).get("input_tokens")
        if type(tokens) is int:
            said = f"the first request is taken: {tokens:,} input tokens (about {estimate:,} by its size)"
            yield ok(Area.PARAMETERS, "first-request", said)
        else:
            yield ok(Area.PARAMETERS, "count-missing", "the answer to the token count is none: looked at here only")


def of_models(
    models: Answer, wanted: Sequence[str], message: Outcome | None = None, *, official: bool
) -> Iterator[Line]:
    """Say whether the endpoint offers the models *wanted*, by the names it has for them; *message*: what came of one."""
    data = (models.json or {}).get("data")
    if models.status in {401, 403} and not isinstance(message, Success):
        said = f"nothing of the account is to be seen with this credential (HTTP {models.status})"
        yield problem(Area.ACCOUNT, "models-refused", said, "see to the key first")
    elif not isinstance(data, list):
        why = f"HTTP {models.status}" if models.failure is not None and models.status else "no list"
        yield ok(Area.ACCOUNT, "models-missing", f"the endpoint lists no models ({why})")
    else:
        yield from _of_offer(models, data, wanted, official=official)


def _of_offer(models: Answer, data: Sequence[Any], wanted: Sequence[str], *, official: bool) -> Iterator[Line]:
    offered = {item.get("id") for item in data if isinstance(item, dict)}
    missing = [name for name in wanted if name not in offered]
    yield ok(Area.ACCOUNT, "models", f"{len(offered):,} models are offered")
    if missing and not (models.json or {}).get("has_more"):
        said = f"not in its list: {', '.join(name[:80] for name in missing[:_SHOWN])}"
        remedy = "`batchrunner models` lists what it offers; [endpoints.NAME.models] gives a gateway its own names"
        # Aliases are taken without being listed, so only a message is proof.
        yield warning(Area.ACCOUNT, "model-not-listed", said, remedy if not official else remedy.partition(";")[0])


_OF_ACCOUNT = {
    ErrorClass.BILLING: ("no-credit", "add credit or raise the spend limit; a relay has a balance of its own"),
    ErrorClass.PERMISSION: ("no-permission", "look at the workspace and the rights of the key, and at your region"),
    ErrorClass.NOT_FOUND: ("model-refused", "look at --model; `batchrunner models` lists what the endpoint offers"),
    ErrorClass.ENDPOINT: ("wrong-address", "the base URL is the address of the API itself and ends before /v1"),
    ErrorClass.BAD_RESPONSE: ("no-api", "is there a web page or a proxy where the API should be? look at the base URL"),
}


def of_message(model: str, message: Outcome | None, seconds: float) -> Iterator[Line]:
    """Say what came of a message of one token."""
    if message is None:
        yield ok(Area.ACCOUNT, "message", "no message was sent")
    elif not isinstance(message, Failure):
        said = f"{model} answers in {seconds:.1f} s, so there is credit, and permission to use it"
        yield ok(Area.ACCOUNT, "message", said)
    elif message.error_class in _OF_ACCOUNT:
        code, remedy = _OF_ACCOUNT[message.error_class]
        yield problem(Area.ACCOUNT, code, f"{model}: {message.message}", remedy)
    elif message.error_class is not ErrorClass.AUTHENTICATION:
        said = f"{model} did not answer just now: {message.message} ({message.error_class})"
        yield warning(Area.ACCOUNT, "no-answer", said, "try again; a run waits for an endpoint that is down")


def of_frequency(quotas: Quotas | None, wanted: Wanted) -> Iterator[Line]:
    """Say what rate the headers permit, against what is asked for and what the job needs."""
    if not quotas:
        said = "the endpoint says nothing of its limits: a run begins carefully and learns from refusals"
        asked = wanted.limits.rate or wanted.limits.itpm or wanted.limits.otpm
        yield ok(Area.FREQUENCY, "no-limits", said + ("" if asked else "; --rpm sets what you know"))
        return
    named = ", ".join(f"{short(quota.limit)} {kind}" for kind, quota in quotas.items())
    yield ok(Area.FREQUENCY, "limits", f"permits per minute: {named}")
    yield from _asked_more(quotas, wanted.limits)
    needs = {LimitKind.REQUESTS: wanted.requests, LimitKind.INPUT_TOKENS: wanted.input_tokens}
    took = {kind: amount / quotas[kind].limit * _SECONDS for kind, amount in needs.items() if kind in quotas}
    if took and (longest := max(took, key=lambda kind: took[kind])) and took[longest] > _SECONDS:
        yield ok(Area.FREQUENCY, "least-time", f"at that the job takes at least {duration(took[longest])} ({longest})")


def _asked_more(quotas: Quotas, limits: Limits) -> Iterator[Line]:
    rate = limits.rate
    asked = {
        LimitKind.REQUESTS: rate.count * _SECONDS / rate.period_s if rate else None,
        LimitKind.INPUT_TOKENS: limits.itpm,
        LimitKind.OUTPUT_TOKENS: limits.otpm,
    }
    for kind, amount in asked.items():
        if amount is not None and kind in quotas and amount > quotas[kind].limit:
            said = f"you ask for {amount:,.0f} {kind} a minute, the endpoint permits {quotas[kind].limit:,}"
            yield warning(
                Area.FREQUENCY, "above-limit", said, "its limit will hold; leave yours out, or have it raised"
            )
