"""The Message Batches API on the wire: each call gives a value, a `Failure` among them; nothing is raised but `Cut`.

Results come from the endpoint that was configured, whatever host the server's `results_url` names: the key goes nowhere
else.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from typing import Any

import anthropic
import anyio
import httpx2
from anthropic import AsyncStream

from batchrunner.api.batch_results import RowResult, read_results
from batchrunner.api.breaks import BROKEN, credential_failure, failure_of, late
from batchrunner.api.classify import classify_error
from batchrunner.api.transport import BIT_BY_BIT
from batchrunner.api.wire import NOTE_SENT, SentNote
from batchrunner.batch import BatchState, Remote
from batchrunner.clock import stamp
from batchrunner.model import ErrorClass, Failure

_PATH = "/v1/messages/batches"
_CALL_S = 60.0
#: A large body may take its time on a slow line: so many bytes a second are expected at least.
_SLOWEST_BYTES_PER_S = 100_000
_PAGE = 100
#: Lines are handed on in groups of at most so many, or so many bytes.
_LINES = 1_000
_LINES_BYTES = 4 << 20
#: No answer is longer.
_LONGEST_LINE = 64 << 20
_CHUNK = 1 << 16
#: What an id may be: it becomes part of an address, of the store and of a screen. Relays make up their own.
_ID = re.compile(r"(?!\.+$)[\w.:=~-]{1,256}", re.ASCII)
_STATES = {state.value: state for state in (BatchState.IN_PROGRESS, BatchState.CANCELING, BatchState.ENDED)}


class Cut(Exception):  # noqa: N818 - what happened to a download, not an error of the program
    """A download of results that broke off; what came before counts."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list, the newest batches first."""

    batches: Sequence[Remote]
    next_after: str | None  #: Where the next page begins; None: this is the last one.


class BatchesApi:
    """The calls, through the SDK's client: its credential, its headers, its address."""

    def __init__(self, client: Any, secrets: Sequence[str] = ()) -> None:
        """*secrets* are not shown in failures."""
        self._client = client
        self._secrets = tuple(secrets)

    async def create(self, body: AsyncIterator[bytes], size: int) -> Remote | Failure:
        """Submit a *body* of so many bytes. `Failure.possibly_paid`: it may have arrived all the same."""
        options = {"headers": {"content-type": "application/json", "content-length": str(size)}}
        note = SentNote(lambda: None)
        token = NOTE_SENT.set(note)
        try:
            seconds = _CALL_S + size / _SLOWEST_BYTES_PER_S
            found = await self._call("post", _PATH, seconds, note, content=body, options=options)
        finally:
            NOTE_SENT.reset(token)
        return found if isinstance(found, Failure) else _remote_or_fault(found)

    async def retrieve(self, remote_id: str) -> Remote | Failure:
        """Ask where a batch stands."""
        found = await self._call("get", f"{_PATH}/{remote_id}", _CALL_S)
        return found if isinstance(found, Failure) else _remote_or_fault(found, remote_id)

    async def cancel(self, remote_id: str) -> Remote | Failure:
        """Ask to stop work on a batch; what is done by then is kept and paid."""
        found = await self._call("post", f"{_PATH}/{remote_id}/cancel", _CALL_S)
        return found if isinstance(found, Failure) else _remote_or_fault(found, remote_id)

    async def page(self, after: str | None = None, size: int = _PAGE) -> Page | Failure:
        """Return a page of the list of all batches of the workspace."""
        query: dict[str, Any] = {"limit": size} | ({"after_id": after} if after else {})
        found = await self._call("get", _PATH, _CALL_S, options={"params": query})
        if isinstance(found, Failure):
            return found
        data = found.get("data")
        remotes = [_remote(item) for item in data] if isinstance(data, list) else [None]
        if None in remotes:
            return _no_batch("its list of batches is none")
        last = found.get("last_id")
        next_after = last if found.get("has_more") and remotes and _is_id(last) else None
        return Page([remote for remote in remotes if remote is not None], next_after)

    async def results(self, remote_id: str) -> AsyncIterator[list[bytes]]:
        """Yield the lines of a batch that has ended, in groups; raises `Cut` when the download fails or breaks off."""
        try:
            response = await self._client.get(
                f"{_PATH}/{remote_id}/results",
                cast_to=httpx2.Response,
                options={"headers": {"accept": BIT_BY_BIT}},
                stream=True,
                stream_cls=AsyncStream[Any],
            )
        except anthropic.APIStatusError as refused:
            raise Cut(self._refused(refused)) from refused
        except (anthropic.AnthropicError, *BROKEN) as error:
            raise Cut(self._broken(error, was_sent=False)) from error
        try:
            async for lines in _lines(response.aiter_bytes(_CHUNK)):
                yield lines
        except BROKEN as error:
            raise Cut(self._broken(error, was_sent=False)) from error
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    def read(self, lines: Sequence[bytes]) -> list[RowResult]:
        """Return what *lines* of `results` say; see `read_results`. No failure among them shows a secret."""
        return read_results(lines, self._secrets)

    async def _call(
        self, method: str, path: str, seconds: float, note: SentNote | None = None, **arguments: Any
    ) -> dict[str, Any] | Failure:
        was_sent = False
        try:
            with anyio.fail_after(seconds):
                response = await getattr(self._client, method)(path, cast_to=httpx2.Response, **arguments)
                was_sent = True
                body = await response.aread()
        except anthropic.APIStatusError as refused:
            return self._refused(refused)
        except TimeoutError:
            return late(seconds, was_sent=was_sent or note is None or note.was_sent)
        except (anthropic.AnthropicError, *BROKEN) as error:
            return self._broken(error, was_sent=was_sent or note is None or note.was_sent)
        if not 200 <= response.status_code < 300:
            return classify_error(response.status_code, response.headers, body, secrets=self._secrets)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        return found if isinstance(found, dict) else _no_batch("its answer is no JSON object")

    def _refused(self, error: anthropic.APIStatusError) -> Failure:
        answer = error.response
        return classify_error(answer.status_code, answer.headers, answer.content, secrets=self._secrets)

    def _broken(self, error: Exception, *, was_sent: bool) -> Failure:
        if isinstance(error, (anthropic.APIConnectionError, *BROKEN)):
            return failure_of(error, was_sent=was_sent, secrets=self._secrets)
        return credential_failure(error, secrets=self._secrets)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Yield whole lines in groups. What stands behind the last line break is half a line."""
    rest = b""
    lines: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise httpx2.ReadError("a line of the results is longer than any answer")
        for line in whole:
            lines.append(line)
            size += len(line)
            if len(lines) >= _LINES or size >= _LINES_BYTES:
                yield lines
                lines, size = [], 0
    if rest.strip():
        lines.append(rest)  # a last line without its break may be whole: whoever reads it will see
    if lines:
        yield lines


def _remote_or_fault(found: Mapping[str, Any], asked: str | None = None) -> Remote | Failure:
    remote = _remote(found)
    if remote is None:
        return _no_batch("its answer is no message batch")
    if asked not in {None, remote.id}:
        return _no_batch("its answer tells of another batch")
    return remote


def _no_batch(what: str) -> Failure:
    return Failure(ErrorClass.BAD_RESPONSE, f"HTTP 200, but {what}", http_status=200, possibly_paid=True)


def _remote(found: Any) -> Remote | None:
    if not isinstance(found, dict) or not _is_id(found.get("id")):
        return None
    state, created_at = _STATES.get(str(found.get("processing_status"))), _moment(found.get("created_at"))
    if state is None or created_at is None:
        return None
    counts = found.get("request_counts")
    names = ("processing", "succeeded", "errored", "canceled", "expired")
    numbers = {name: _count(counts.get(name)) for name in names} if isinstance(counts, dict) else {}
    expires_at, ended_at, archived_at = (_moment(found.get(name)) for name in ("expires_at", "ended_at", "archived_at"))
    return Remote(found["id"], state, created_at, expires_at, ended_at, archived_at, **numbers)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _moment(value: Any) -> str | None:
    try:
        moment = datetime.fromisoformat(value)
        known = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):  # the last: the year 0, by way of a zone
        return None
    return stamp(known) if known.year < MAXYEAR else None  # days are added to it


def _count(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0
