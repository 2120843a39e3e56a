"""What a line of a batch's results says. Pure: bytes in, values out; never raises."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from batchrunner.api.classify import classify_error, classify_message
from batchrunner.batch import RowKey, parse_row_id
from batchrunner.model import ErrorClass, Failure, Outcome

_EXPIRED = "The batch expired before the API got to this request."


class RowResult(NamedTuple):
    """What became of one row."""

    nonce: str
    key: RowKey
    outcome: Outcome | None  #: None: the batch was cancelled before the API got to this row; nothing was paid.


def read_results(lines: Iterable[bytes], secrets: tuple[str, ...] = ()) -> list[RowResult]:
    """Return what *lines* say; what is no line of ours (half of one, somebody else's) is left out."""
    return [result for line in lines if (result := _read(line, secrets)) is not None]


def _read(line: bytes, secrets: tuple[str, ...]) -> RowResult | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    row = parse_row_id(found.get("custom_id")) if isinstance(found, dict) else None
    if row is None:
        return None
    return RowResult(*row, _outcome(found.get("result"), secrets))


def _outcome(result: Any, secrets: tuple[str, ...]) -> Outcome | None:
    kind = result.get("type") if isinstance(result, dict) else None
    match kind:
        case "succeeded":
            return classify_message(200, {}, _text(result.get("message")), secrets=secrets)
        case "errored":
            # Only what succeeded is billed.
            return replace(classify_error(None, {}, _text(result.get("error")), secrets=secrets), possibly_paid=False)
        case "expired":
            return Failure(ErrorClass.EXPIRED, _EXPIRED)
        case "canceled":
            return None
    return Failure(
        ErrorClass.BAD_RESPONSE, "The result of the batch is of a kind that is not known.", possibly_paid=True
    )


def _text(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only the escaped form can hold
        return json.dumps(value, separators=(",", ":")).encode()
