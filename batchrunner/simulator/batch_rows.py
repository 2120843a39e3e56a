"""One row of a batch: what becomes of it when its turn comes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchrunner.simulator import checks
from batchrunner.simulator.answers import compose, message, prompt_texts, read_prompt
from batchrunner.simulator.chance import draw
from batchrunner.simulator.faults import FAULTS
from batchrunner.simulator.ledger import BatchRow, Ledger
from batchrunner.simulator.markers import MarkerError, parse_marks, scripted_fault
from batchrunner.simulator.replies import Rejection, to_json
from batchrunner.simulator.settings import SimulatorSettings

#: What a row ends as.
SUCCEEDED, ERRORED, CANCELED, EXPIRED = "succeeded", "errored", "canceled", "expired"
_SERVER = Rejection(500, "api_error", "Internal server error")


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a batch, not processed yet."""

    custom_id: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a row."""

    kind: str
    line: bytes  #: Of the results, with its line break.
    booked: BatchRow  #: As the ledger has it.


def process(row: Row, batch: str, headers: Mapping[str, str], settings: SimulatorSettings, ledger: Ledger) -> Done:
    """Return what becomes of *row* of *batch*, created with *headers*."""
    params = row.params
    prompt = read_prompt(params)
    attempt = ledger.next_attempt(prompt.body_sha256)
    try:
        marks = parse_marks("\n".join(prompt_texts(params)))
    except MarkerError as error:
        return _errored(row, batch, prompt.body_sha256, attempt, Rejection(400, "invalid_request_error", str(error)))
    wrong = _not_in_batches(params) or checks.check_params(params, headers, prompt.tokens)
    if wrong is None and (name := scripted_fault(marks.script, attempt)) is not None:
        wrong = FAULTS[name].error or (None if FAULTS[name].accepted else _SERVER)
    chance = draw(settings.seed, prompt.body_sha256, attempt, "batch")
    if wrong is None and chance < settings.batches.errored:
        wrong = _SERVER
    if wrong is not None:
        return _errored(row, batch, prompt.body_sha256, attempt, wrong)
    if chance >= 1 - settings.batches.expired:
        return Done(
            EXPIRED, _line(row, {"type": EXPIRED}), BatchRow(batch, row.custom_id, prompt.body_sha256, attempt, EXPIRED)
        )
    spread = settings.output_tokens
    tokens = None if spread is None else round(spread.at(draw(settings.seed, prompt.body_sha256, attempt, "length")))
    answer = compose(params, prompt, attempt=attempt, tokens=tokens, marks=marks)
    body = message(answer)
    body["usage"]["service_tier"] = "batch"
    booked = BatchRow(
        batch,
        row.custom_id,
        prompt.body_sha256,
        attempt,
        SUCCEEDED,
        paid=True,
        model=answer.model,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        charge_pusd=answer.charge_pusd(batch=True),
    )
    return Done(SUCCEEDED, _line(row, {"type": SUCCEEDED, "message": body}), booked)


def left(row: Row, batch: str, kind: str) -> Done:
    """Return the end of a row that was never worked on: *kind* is canceled or expired. It is no attempt and costs nothing."""
    body = read_prompt(row.params).body_sha256
    return Done(kind, _line(row, {"type": kind}), BatchRow(batch, row.custom_id, body, 0, kind))


def _errored(row: Row, batch: str, body: str, attempt: int, why: Rejection) -> Done:
    error = {"type": "error", "error": {"type": why.type, "message": why.message}, "request_id": f"req_{batch}"}
    line = _line(row, {"type": ERRORED, "error": error})
    return Done(ERRORED, line, BatchRow(batch, row.custom_id, body, attempt, ERRORED))


def _not_in_batches(params: Mapping[str, Any]) -> Rejection | None:
    for name, is_there in (
        ("stream", bool(params.get("stream"))),
        ("speed", "speed" in params),
        ("max_tokens", params.get("max_tokens") == 0),
        ("fallbacks", "fallbacks" in params),
    ):
        if is_there:
            return Rejection(400, "invalid_request_error", f"{name}: not supported in message batches")
    return None


def _line(row: Row, result: Mapping[str, Any]) -> bytes:
    return to_json({"custom_id": row.custom_id, "result": result}) + b"\n"
