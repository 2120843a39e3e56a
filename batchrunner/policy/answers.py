"""Answers that look like success and are not: truncated, refused, empty, paused, or not what a schema asks for."""

from collections.abc import Collection

from batchrunner.model import ErrorClass, Failure, Outcome, Success
from batchrunner.policy.schemas import misfit, schema_asked

#: What `--accept` may name.
ACCEPTABLE = (ErrorClass.TRUNCATED, ErrorClass.REFUSED, ErrorClass.EMPTY, ErrorClass.PAUSED, ErrorClass.SCHEMA)

_TRUNCATED = {"max_tokens", "model_context_window_exceeded"}
#: The model has said all it wanted to. Otherwise the text need not fit a schema: a tool is called, the turn goes on.
_FINISHED = {"end_turn", "stop_sequence"}
_MESSAGES = {
    ErrorClass.TRUNCATED: "The answer was cut off ({}); raise max_tokens or shorten the prompt.",
    ErrorClass.REFUSED: "The model declined to answer ({}).",
    ErrorClass.EMPTY: "The answer has no content ({}).",
    ErrorClass.PAUSED: "The turn was paused before its end ({}); what there is of it is kept.",
    ErrorClass.SCHEMA: "The answer does not match the schema: {}.",
}


def judge(
    success: Success, accept: Collection[ErrorClass] = (), *, params: str = "", schema: str | None = None
) -> Outcome:
    """Return *success* itself, or the `Failure` it amounts to, with the answer kept in it.

    *params*: the request's body, which may ask for a schema of its own; *schema*: one that every answer must fit. Both
    are JSON text.
    """
    flaw, detail = _flaw(success), f"stop_reason {success.stop_reason}"
    if flaw is None and (fault := _misfit(success, params, schema)) is not None:
        flaw, detail = ErrorClass.SCHEMA, fault
    if flaw is None or flaw in accept:
        return success
    return Failure(
        error_class=flaw,
        message=_MESSAGES[flaw].format(detail),
        http_status=200,
        api_request_id=success.api_request_id,
        answer=success,
    )


def _flaw(success: Success) -> ErrorClass | None:
    if success.stop_reason in _TRUNCATED:
        return ErrorClass.TRUNCATED
    if success.stop_reason == "refusal":
        return ErrorClass.REFUSED
    if success.stop_reason == "pause_turn":
        return ErrorClass.PAUSED
    # A stop sequence may rightly match at once, and a tool call has no text.
    if success.stop_reason == "end_turn" and not success.text:
        return ErrorClass.EMPTY
    return None


def _misfit(success: Success, params: str, schema: str | None) -> str | None:
    if success.stop_reason not in _FINISHED:
        return None
    wanted = (schema_asked(params), schema)
    return next((fault for text in wanted if text is not None and (fault := misfit(success.text, text))), None)
