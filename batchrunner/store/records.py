"""What a rescue file holds: the changes that matter, as plain JSON values and back.

Field by field, whatever fields there are: one that is added to an answer tomorrow is kept too. A file of an earlier
version lacks some, which then have their defaults; what a later one has more is left out.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any

from batchrunner.model import (
    UNKNOWN,
    Attempt,
    Bill,
    Decision,
    ErrorClass,
    Fail,
    Failure,
    Halt,
    Outcome,
    Retry,
    Settlement,
    Success,
    Usage,
)
from batchrunner.store.changes import RunEnded, Settled, Unstarted
from batchrunner.store.spending import PriceKept

#: Which decision a word means; the rest of it (when, why) was said while the run went on.
_DECISIONS: Mapping[str, Decision | None] = {
    "accept": None,
    "retry": Retry(0.0),
    "retry uncounted": Retry(0.0, counted=False),
    "fail": Fail(),
    "halt": Halt(""),
}
#: What nothing is written of.
_LEFT_OUT = {"params", "failures", "quotas", "limit", "retry_after_s"}


#: What of a run's changes is worth a rescue.
Kept = Settled | Unstarted | RunEnded | PriceKept


def record_of(change: Kept) -> dict[str, Any]:
    """Return *change* as JSON values; `change_of` is its reverse."""
    match change:
        case Settled(settlement, endpoint):
            return {"settled": _settled(settlement), "endpoint": endpoint}
        case PriceKept():
            return {"price": _plain(change)}
        case Unstarted(attempt):
            return {"unstarted": _plain(attempt)}
        case RunEnded(_, at, ending, reason):
            return {"ended": {"at": at, "ending": ending, "reason": reason}}


def change_of(record: Mapping[str, Any], run_id: int) -> Kept:
    """Return the change that *record* was made of; raises `KeyError`, `TypeError` or `ValueError` for anything else."""
    if "settled" in record:
        return Settled(_settlement(record["settled"]), record["endpoint"])
    if "price" in record:
        price: PriceKept = _built(PriceKept, record["price"])
        return price
    if "unstarted" in record:
        return Unstarted(_attempt(record["unstarted"]))
    ended = record["ended"]
    return RunEnded(run_id, ended["at"], ended["ending"], ended["reason"])


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return str(value)
    if not is_dataclass(value):
        return value
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value) if field.name not in _LEFT_OUT}


def _built(kind: type[Any], record: Mapping[str, Any], **others: Any) -> Any:
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in record.items() if name in known} | others)


def _attempt(record: Mapping[str, Any]) -> Attempt:
    attempt: Attempt = _built(Attempt, record, params="")
    if type(attempt.seq) is not int or type(attempt.number) is not int:
        raise TypeError("an attempt without numbers")
    return attempt


def _settled(settlement: Settlement) -> dict[str, Any]:
    outcome = settlement.outcome
    return {
        "attempt": _plain(settlement.attempt),
        "decision": _word(settlement.decision),
        "answer": _plain(outcome if isinstance(outcome, Success) else outcome.answer),
        "failure": {**_plain(outcome), "answer": None} if isinstance(outcome, Failure) else None,
        "ended_at": settlement.ended_at,
        "not_before": settlement.not_before,
        "bill": _plain(settlement.bill),
    }


def _settlement(record: Mapping[str, Any]) -> Settlement:
    return Settlement(
        _attempt(record["attempt"]),
        _outcome(record),
        _DECISIONS[record["decision"]],
        str(record["ended_at"]),
        record["not_before"],
        _built(Bill, record["bill"]) if record.get("bill") else UNKNOWN,
    )


def _word(decision: Decision | None) -> str:
    match decision:
        case None:
            return "accept"
        case Retry(counted=counted):
            return "retry" if counted else "retry uncounted"
        case Fail():
            return "fail"
        case Halt():
            return "halt"


def _outcome(record: Mapping[str, Any]) -> Outcome:
    given, failed = record["answer"], record["failure"]
    answer: Success | None = None
    if given is not None:
        answer = _built(Success, given, usage=_built(Usage, given["usage"]))
    if failed is not None:
        failure: Failure = _built(Failure, failed, error_class=ErrorClass(failed["error_class"]), answer=answer)
        return failure
    if answer is None:
        raise ValueError("neither an answer nor a failure")
    return answer
