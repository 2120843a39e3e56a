"""The accepted forms of a line: each is read into the same parts."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

from batchrunner.jobfile.checks import check_messages, check_prompt
from batchrunner.jobfile.defaults import LINE_KEYS, MESSAGES_PARAMETERS, nearest
from batchrunner.jobfile.faults import SHOWN_CHARS, RefusedError, kind, shown, shown_names
from batchrunner.jobfile.openai import CHAT_URL, is_chat_body, messages_body
from batchrunner.jobfile.template import Template

_FLAT_KEYS = MESSAGES_PARAMETERS | LINE_KEYS
_BATCH_KEYS = frozenset({"custom_id", "id", "params", "metadata", "timeout_s"})
_OPENAI_KEYS = frozenset({"custom_id", "id", "method", "url", "body", "metadata", "timeout_s"})
_NOT_SENT = LINE_KEYS | {"metadata"}


class Parts(NamedTuple):
    """What a line says, whatever its form."""

    body: dict[str, Any]  #: Parameters of the Messages API, in their order.
    given_id: Any = None
    metadata: dict[str, Any] | None = None  #: The user's own, for the export.
    timeout_s: Any = None


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def parts_of(value: Any, model: str | None) -> Parts:
    """Read a line of one of the forms that need no template. *model*: that of the job's defaults."""
    if isinstance(value, str):
        return Parts({"messages": _messages(check_prompt(value))})
    if not isinstance(value, dict):
        raise RefusedError(f"a line must be an object or a string (the prompt), not {kind(value)}")
    if "params" in value:
        return _batch_line(value)
    if "body" in value and ("url" in value or "method" in value):
        return _openai_line(value, model)
    return _chat_line(value, model) if is_chat_body(value) else _flat_line(value)


def _batch_line(row: dict[str, Any]) -> Parts:
    if not row.keys() <= _BATCH_KEYS:
        raise RefusedError(_unknown(row, _BATCH_KEYS, 'beside "params"'))
    body = row["params"]
    if not isinstance(body, dict):
        raise RefusedError(f"params must be an object, not {kind(body)}")
    check_messages(_needed(body, "messages", "params have no messages"))
    return Parts(body, _given_id(row), _object(row.get("metadata")), row.get("timeout_s"))


def _openai_line(row: dict[str, Any], model: str | None) -> Parts:
    if not row.keys() <= _OPENAI_KEYS:
        raise RefusedError(_unknown({**row, "params": None}, _OPENAI_KEYS | {"params"}, 'beside "body"'))
    url, method, body = row.get("url"), row.get("method", "POST"), row["body"]
    if url != CHAT_URL or method != "POST":
        raise RefusedError(f"of the OpenAI Batch API only POST {CHAT_URL} is taken, not {shown(f'{method} {url}')}")
    if not isinstance(body, dict):
        raise RefusedError(f"body must be an object, not {kind(body)}")
    body = dict(body)
    metadata = row.get("metadata", body.pop("metadata", None))
    return Parts(messages_body(body, model), _given_id(row), _object(metadata), row.get("timeout_s"))


def _chat_line(row: dict[str, Any], model: str | None) -> Parts:
    chat = {key: value for key, value in row.items() if key not in _NOT_SENT}
    return Parts(messages_body(chat, model), _given_id(row), _object(row.get("metadata")), row.get("timeout_s"))


def _flat_line(row: dict[str, Any]) -> Parts:
    if not row.keys() <= _FLAT_KEYS:
        raise RefusedError(_unknown(row, _FLAT_KEYS, "in a line"))
    if None in row.values():  # Tables turned into JSON write null for "nothing here".
        row = {key: value for key, value in row.items() if value is not None}
    if "prompt" in row and "messages" in row:
        raise RefusedError("both prompt and messages: keep one of them")
    if "prompt" not in row:
        check_messages(_needed(row, "messages", "no prompt and no messages in the line"))
    body: dict[str, Any] = {}
    for key, value in row.items():
        if key == "prompt":
            body["messages"] = _messages(check_prompt(value))
        elif key not in _NOT_SENT:
            body[key] = value
    metadata = _object(row.get("metadata"))
    if metadata is not None and metadata.keys() == {"user_id"}:
        body["metadata"], metadata = _api_metadata(metadata), None
    return Parts(body, _given_id(row), metadata, row.get("timeout_s"))


def filled(row: Any, template: Template) -> Parts:
    """Read a row of a table: no field of it is a parameter, whatever its name."""
    if not isinstance(row, dict):
        raise RefusedError(f"with a prompt template a line must be an object, not {kind(row)}")
    body = {"messages": _messages(check_prompt(template.render(row)))}
    given_id = row.pop("custom_id", None)
    if given_id is None:
        given_id = row.pop("id", None)
    for name in template.fields:
        row.pop(name, None)
    return Parts(body, given_id, row)


def _given_id(row: Mapping[str, Any]) -> Any:
    custom_id, plain_id = row.get("custom_id"), row.get("id")
    if custom_id is not None and plain_id is not None:
        raise RefusedError("both custom_id and id: keep one of them")
    return plain_id if custom_id is None else custom_id


def _needed(row: Mapping[str, Any], key: str, otherwise: str) -> Any:
    if key not in row:
        raise RefusedError(otherwise)
    return row[key]


def _object(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise RefusedError(f"metadata must be an object, not {kind(value)}")
    return value


def _api_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(metadata["user_id"], str | None):
        raise RefusedError(
            "metadata of user_id alone goes to the API, which takes a string; add another key to keep it here"
        )
    return metadata


def _unknown(row: Mapping[str, Any], known: frozenset[str], where: str) -> str:
    """Return the message about the first key that is not known, a misspelt one before the others."""
    # A few keys, and no more of each than can be shown: a line may have a million of them, or one of a million letters.
    strangers = [key[: SHOWN_CHARS + 1] for key in islice((key for key in row if key not in known), 10)]
    key = next((key for key in strangers if nearest(key, known)), strangers[0])
    hint = nearest(key, known)
    if hint or "params" in row:
        return f"unknown key {shown(key)} {where}{hint}"
    if "prompt" in row or "messages" in row:
        return f'unknown key {shown(key)} {where}; keys of your own belong into "metadata"'
    return f"unknown keys {shown_names(strangers)}: rows of a table need a template, --prompt 'Solve: {{question}}'"
