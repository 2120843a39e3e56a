"""Answers that look like success and are not: truncated, refused, empty."""

from collections.abc import Collection

from batchrunner.model import ErrorClass, Failure, Outcome, Success

#: What `--accept` may name.
ACCEPTABLE = (ErrorClass.TRUNCATED, ErrorClass.REFUSED, ErrorClass.EMPTY)

_TRUNCATED = {"max_tokens", "model_context_window_exceeded"}
_MESSAGES = {
    ErrorClass.TRUNCATED: "The answer was cut off ({}); raise max_tokens or shorten the prompt.",
    ErrorClass.REFUSED: "The model declined to answer ({}).",
    ErrorClass.EMPTY: "The answer has no content ({}).",
}


def judge(success: Success, accept: Collection[ErrorClass] = ()) -> Outcome:
    """Return *success* itself, or the `Failure` it amounts to, with the answer kept in it."""
    flaw = _flaw(success)
    if flaw is None or flaw in accept:
        return success
    return Failure(
        error_class=flaw,
        message=_MESSAGES[flaw].format(f"stop_reason {success.stop_reason}"),
        http_status=200,
        api_request_id=success.api_request_id,
        answer=success,
    )


def _flaw(success: Success) -> ErrorClass | None:
    if success.stop_reason in _TRUNCATED:
        return ErrorClass.TRUNCATED
    if success.stop_reason == "refusal":
        return ErrorClass.REFUSED
    # A stop sequence may rightly match at once, and a tool call has no text.
    if success.stop_reason == "end_turn" and not success.text:
        return ErrorClass.EMPTY
    return None
