"""What a rescue file holds: the changes that matter, as plain JSON values and back."""

from collections.abc import Mapping
from dataclasses import asdict, astuple
from typing import Any

from batchrunner.model import (
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


#: What of a run's changes is worth a rescue.
Kept = Settled | Unstarted | RunEnded | PriceKept


def record_of(change: Kept) -> dict[str, Any]:
    """Return *change* as JSON values; `change_of` is its reverse."""
    match change:
        case Settled(settlement, endpoint):
            return {"settled": _settled(settlement) | {"endpoint": endpoint}}
        case PriceKept():
            return {"price": asdict(change)}
        case Unstarted(attempt):
            return {"unstarted": _attempt(attempt)}
        case RunEnded(_, at, ending, reason):
            return {"ended": {"at": at, "ending": ending, "reason": reason}}


def change_of(record: Mapping[str, Any], run_id: int) -> Kept:
    """Return the change that *record* was made of; raises `KeyError`, `TypeError` or `ValueError` for anything else."""
    if "settled" in record:
        return Settled(_settlement(record["settled"]), record["settled"].get("endpoint"))
    if "price" in record:
        return PriceKept(**record["price"])
    if "unstarted" in record:
        return Unstarted(_attempt_of(record["unstarted"]))
    ended = record["ended"]
    return RunEnded(run_id, ended["at"], ended["ending"], ended["reason"])


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {"seq": attempt.seq, "number": attempt.number, "custom_id": attempt.custom_id, "lane": attempt.lane}


def _attempt_of(record: Mapping[str, Any]) -> Attempt:
    return Attempt(int(record["seq"]), int(record["number"]), record["custom_id"], record["lane"], "", 0)


def _settled(settlement: Settlement) -> dict[str, Any]:
    return {
        **_attempt(settlement.attempt),
        "ended_at": settlement.ended_at,
        "not_before": settlement.not_before,
        "decision": _word(settlement.decision),
        "bill": list(astuple(settlement.bill)),
        **_outcome(settlement.outcome),
    }


def _settlement(record: Mapping[str, Any]) -> Settlement:
    decision = _DECISIONS[record["decision"]]
    return Settlement(
        _attempt_of(record),
        _outcome_of(record),
        decision,
        str(record["ended_at"]),
        record["not_before"],
        Bill(*record.get("bill", ())),  # files of the first versions have none
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


_ANSWER = ("message", "text", "stop_reason", "model", "api_request_id")
_FAILURE = ("message", "http_status", "api_request_id", "possibly_paid", "body")


def _outcome(outcome: Outcome) -> dict[str, Any]:
    answer = outcome if isinstance(outcome, Success) else outcome.answer
    found: dict[str, Any] = {"answer": None, "failure": None}
    if answer is not None:
        found["answer"] = {name: getattr(answer, name) for name in _ANSWER} | {"usage": list(astuple(answer.usage))}
    if isinstance(outcome, Failure):
        found["failure"] = {name: getattr(outcome, name) for name in _FAILURE} | {"error_class": outcome.error_class}
    return found


def _outcome_of(record: Mapping[str, Any]) -> Outcome:
    given, failed = record["answer"], record["failure"]
    answer = None
    if given is not None:
        answer = Success(**{name: given[name] for name in _ANSWER}, usage=Usage(*given["usage"]))
    if failed is None:
        if answer is None:
            raise ValueError("neither an answer nor a failure")
        return answer
    fields = {name: failed[name] for name in _FAILURE}
    return Failure(ErrorClass(failed["error_class"]), **fields, answer=answer)
