"""From the JSON value of a line to the request it asks for: the accepted forms, the defaults, the checks."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from batchrunner.attachments import AttachmentError, Folder, file_sources, names_files
from batchrunner.jobfile.checks import check_id, check_max_tokens, check_model, check_stream, check_timeout
from batchrunner.jobfile.decode import Surrogates, compact, decoder, line_error
from batchrunner.jobfile.defaults import Defaults
from batchrunner.jobfile.faults import LineError, RefusedError
from batchrunner.jobfile.forms import Parts, filled, parts_of
from batchrunner.jobfile.lines import Line
from batchrunner.jobfile.template import Pattern, Template, pattern
from batchrunner.model import Request
from batchrunner.policy.prefixes import MARKER, path_of

#: The API takes no larger request body.
MAX_BODY_BYTES = 32 * 1024 * 1024
#: What is wrong with a line that names no model where the job names none.
NO_MODEL = "no model: give --model or a model in the line"


class Shaper:
    """Turns the lines of one job into requests.

    Without a template a line is a batch line `{"custom_id", "params"}`, the parameters of a message, an object with
    `prompt` or `messages` and more parameters, a chat body or batch line of OpenAI's, or a string, the prompt. With one
    it is any object: the template makes the prompt of it, `custom_id` or `id` is the id, and the fields the template
    does not use come back in the export; texts in the defaults are templates too.

    *files*: the directory below which lines may name files; None: they may not.
    """

    def __init__(
        self,
        defaults: Defaults,
        template: Template | None = None,
        *,
        surrogates: Surrogates = "refuse",
        files: Folder | None = None,
    ) -> None:
        self._defaults = defaults.body()
        self._template = template
        self._patterns = {} if template is None else patterns_of(defaults)
        self._decode = decoder(surrogates)
        self._files = files

    def request(self, line: Line) -> Request:
        """Return the request of *line*; LineError if it is none."""
        try:
            value = self._decode(line)
            if self._template is None:
                return self._complete(parts_of(value, self._defaults.get("model")), self._defaults, line)
            row = dict(value) if isinstance(value, dict) else value
            parts = filled(value, self._template)
            return self._complete(parts, {key: p.fill(row) for key, p in self._patterns.items()}, line)
        except RefusedError as refused:
            raise line_error(line, refused) from None

    def unsendable(self, line: Line, error: LineError) -> Request:
        """Return a request that stands for a *line* that is none: it is never sent, its `fault` says why."""
        data = line.data or error.cause.encode()
        line_hash = _hash(data)
        return Request(
            custom_id=self._readable_id(line) or derived_id(line_hash),
            line=line.number,
            line_hash=line_hash,
            params="{}",
            params_hash=_hash(b"unsendable " + data),
            model=self._defaults.get("model") or "none",
            max_tokens=0,
            fault=error.cause if line.row is None else f"row {line.row}: {error.cause}",
        )

    def _readable_id(self, line: Line) -> str | None:
        try:
            value = self._decode(line)
            found = (value.get("custom_id"), value.get("id")) if isinstance(value, dict) else ()
            return next((check_id(given) for given in found if given is not None), None)
        except RefusedError:
            return None

    def _complete(self, parts: Parts, defaults: Mapping[str, Any], line: Line) -> Request:
        body = parts.body
        for key, value in defaults.items():
            body.setdefault(key, value)
        model, max_tokens = _wanted(body)
        params = compact(body)
        more = 0
        if names_files(params):
            more = self._describe_files(body)
            params = compact(body)
        encoded = params.encode()
        if (size := len(encoded) + more) > MAX_BODY_BYTES:
            raise RefusedError(f"the request is {size:,} bytes long; the API takes at most {MAX_BODY_BYTES:,}")
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
            prefix=path_of(body) if MARKER in params else None,
        )

    def _describe_files(self, body: dict[str, Any]) -> int:
        """Complete the files that *body* names; returns the bytes they will take in it."""
        if self._files is None:
            if any(file_sources(body)):
                raise RefusedError("the line names a local file: give --allow-files DIR, the directory it lies in")
            return 0
        try:
            return self._files.describe(body)
        except AttachmentError as error:
            raise RefusedError(str(error)) from None


def patterns_of(defaults: Defaults) -> dict[str, Pattern]:
    """Return the defaults with their texts as templates, by parameter; UsageError if one is none."""
    return {
        key: pattern(value, "the --system template" if key == "system" else f"the template --set {key}")
        for key, value in defaults.body().items()
    }


def derived_id(line_hash: str) -> str:
    """Return the id of a line that gives none; identical lines get the same one."""
    return f"h-{line_hash}"


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=10).hexdigest()


def _wanted(body: Mapping[str, Any]) -> tuple[str, int]:
    """Return model and max_tokens."""
    if "model" not in body:
        raise RefusedError(NO_MODEL)
    if "max_tokens" not in body:
        raise RefusedError("no max_tokens: give --max-tokens or max_tokens in the line")
    return check_model(body["model"]), check_max_tokens(body["max_tokens"])
