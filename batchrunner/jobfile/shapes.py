"""From the JSON value of a line to the request it asks for: the accepted forms, the defaults, the checks."""

from collections.abc import Mapping
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

from batchrunner.jobfile.checks import (
    check_id,
    check_max_tokens,
    check_messages,
    check_model,
    check_prompt,
    check_stream,
    check_timeout,
)
from batchrunner.jobfile.decode import Surrogates, compact, decoder, line_error
from batchrunner.jobfile.defaults import LINE_KEYS, MESSAGES_PARAMETERS, Defaults, nearest
from batchrunner.jobfile.faults import SHOWN_CHARS, RefusedError, kind, shown, shown_names
from batchrunner.jobfile.lines import Line
from batchrunner.jobfile.template import Template
from batchrunner.model import Request

#: The API takes no larger request body.
MAX_BODY_BYTES = 32 * 1024 * 1024

_FLAT_KEYS = MESSAGES_PARAMETERS | LINE_KEYS
_BATCH_KEYS = frozenset({"custom_id", "id", "params", "metadata", "timeout_s"})
_NOT_SENT = LINE_KEYS | {"metadata"}


class _Parts(NamedTuple):
    """What a line says, whatever its form."""

    body: dict[str, Any]  #: Parameters of the Messages API, in their order.
    given_id: Any = None
    metadata: dict[str, Any] | None = None  #: The user's own, for the export.
    timeout_s: Any = None


class Shaper:
    """Turns the lines of one job into requests.

    Without a template a line is a batch line `{"custom_id", "params"}`, the parameters of a message, an object with
    `prompt` or `messages` and more parameters, or a string, the prompt. With one it is any object: the template makes
    the prompt of it, `custom_id` or `id` is the id, and the fields the template does not use come back in the export.
    """

    def __init__(
        self, defaults: Defaults, template: Template | None = None, *, surrogates: Surrogates = "refuse"
    ) -> None:
        self._defaults = defaults.body()
        self._template = template
        self._decode = decoder(surrogates)

    def request(self, line: Line) -> Request:
        """Return the request of *line*; LineError if it is none."""
        try:
            value = self._decode(line)
            parts = _parts(value) if self._template is None else _filled(value, self._template)
            return self._complete(parts, line)
        except RefusedError as refused:
            raise line_error(line, refused) from None

    def _complete(self, parts: _Parts, line: Line) -> Request:
        body = parts.body
        for key, value in self._defaults.items():
            body.setdefault(key, value)
        model, max_tokens = _wanted(body)
        params = compact(body)
        encoded = params.encode()
        if len(encoded) > MAX_BODY_BYTES:
            raise RefusedError(f"the request is {len(encoded):,} bytes long; the API takes at most {MAX_BODY_BYTES:,}")
        line_hash = _hash(line.data)
        return Request(
            derived_id(line_hash) if parts.given_id is None else check_id(parts.given_id),
            line.number,
            line_hash,
            params,
            _hash(encoded),
            model,
            max_tokens,
            check_stream(body["stream"]) if "stream" in body else False,
            None if parts.timeout_s is None else check_timeout(parts.timeout_s),
            compact(parts.metadata) if parts.metadata else None,
        )


def derived_id(line_hash: str) -> str:
    """Return the id of a line that gives none; identical lines get the same one."""
    return f"h-{line_hash}"


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=10).hexdigest()


def _wanted(body: Mapping[str, Any]) -> tuple[str, int]:
    """Return model and max_tokens."""
    if "model" not in body:
        raise RefusedError("no model: give --model or a model in the line")
    if "max_tokens" not in body:
        raise RefusedError("no max_tokens: give --max-tokens or max_tokens in the line")
    return check_model(body["model"]), check_max_tokens(body["max_tokens"])


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def _parts(value: Any) -> _Parts:
    """Read a line of one of the forms that need no template."""
    if isinstance(value, str):
        return _Parts({"messages": _messages(check_prompt(value))})
    if not isinstance(value, dict):
        raise RefusedError(f"a line must be an object or a string (the prompt), not {kind(value)}")
    if "params" in value:
        return _batch_line(value)
    if "body" in value and ("url" in value or "method" in value):
        raise RefusedError('this is a line of the OpenAI Batch API: write {"custom_id": ..., "params": {...}} instead')
    return _flat_line(value)


def _batch_line(row: dict[str, Any]) -> _Parts:
    if not row.keys() <= _BATCH_KEYS:
        raise RefusedError(_unknown(row, _BATCH_KEYS, 'beside "params"'))
    body = row["params"]
    if not isinstance(body, dict):
        raise RefusedError(f"params must be an object, not {kind(body)}")
    check_messages(_needed(body, "messages", "params have no messages"))
    return _Parts(body, _given_id(row), _object(row.get("metadata")), row.get("timeout_s"))


def _flat_line(row: dict[str, Any]) -> _Parts:
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
    return _Parts(body, _given_id(row), metadata, row.get("timeout_s"))


def _filled(row: Any, template: Template) -> _Parts:
    """Read a row of a table: no field of it is a parameter, whatever its name."""
    if not isinstance(row, dict):
        raise RefusedError(f"with a prompt template a line must be an object, not {kind(row)}")
    body = {"messages": _messages(check_prompt(template.render(row)))}
    given_id = row.pop("custom_id", None)
    if given_id is None:
        given_id = row.pop("id", None)
    for name in template.fields:
        row.pop(name, None)
    return _Parts(body, given_id, row)


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
