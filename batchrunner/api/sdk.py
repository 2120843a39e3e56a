"""The SDK's way: streams, beta features, and clients of the caller's own (Bedrock, Vertex)."""

import json
import types
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import anthropic
import anyio
import anyio.lowlevel
import httpx2

from batchrunner.api.bounded import bound
from batchrunner.api.breaks import BROKEN, BodyTooLargeError, IdleError, credential_failure, failure_of, late
from batchrunner.api.classify import classify_error, classify_message
from batchrunner.api.deadline import CONNECT_S, GRACE_S, IDLE_S, deadline_s
from batchrunner.api.identity import BODY_CAP_BYTES, is_unauthorized, renew_token, secrets_of
from batchrunner.api.redact import one_line
from batchrunner.api.sender import STREAM_FROM_TOKENS
from batchrunner.api.wire import NOTE_SENT, SentNote
from batchrunner.model import Attempt, ErrorClass, Failure, Outcome

# The total deadline is ours; before the first byte no other may count.
_TIMEOUT = httpx2.Timeout(None, connect=CONNECT_S)
#: All that the SDK asks for by name. The rest goes past its knowledge, unchanged, as `extra_body`.
_NAMED = ("model", "max_tokens", "messages")
_Call = Callable[[], None]
_Read = Callable[[Any], Awaitable[Outcome]]
# What the SDK raises for a request it does not take, and for stream events that make no sense: it uses both unchecked.
_SENSELESS = (ValueError, AssertionError, RuntimeError, LookupError, AttributeError, TypeError)


class SdkSender:
    """Sends through *client*, an SDK client or anything with its `messages`.

    *secrets*: what must not be shown beside the credentials of the client.
    *tells_sent*: the client never retries, and its transport says when a request goes out. Any other client is copied
    without retries and with a middleware that says so just before; where it cannot be, the call itself says so.
    """

    def __init__(
        self,
        client: Any,
        *,
        tells_sent: bool = False,
        body_cap_bytes: int = BODY_CAP_BYTES,
        idle_s: float = IDLE_S,
        grace_s: float = GRACE_S,
        secrets: Sequence[str] = (),
    ) -> None:
        self._takes_options = hasattr(client, "with_options")
        self._client = client if tells_sent or not self._takes_options else _prepared(client)
        self._secrets = (*secrets_of(client), *secrets)
        self._body_cap_bytes = body_cap_bytes
        self._idle_s = idle_s
        self._grace_s = grace_s

    async def send(
        self, attempt: Attempt, on_sent: Callable[[], None], on_begun: Callable[[], None] | None = None
    ) -> Outcome:
        """Send *attempt*; see `batchrunner.api.sender.Sender`."""
        try:
            params = json.loads(attempt.params.encode())
        except (ValueError, RecursionError) as error:
            return Failure(ErrorClass.INPUT, one_line(f"the request is not JSON in UTF-8: {error}", self._secrets))
        note = SentNote(on_sent)
        outcome = await self._within_deadline(attempt, params, note, on_begun)
        if is_unauthorized(outcome) and renew_token(self._client):
            outcome = await self._within_deadline(attempt, params, note, on_begun)
        return outcome

    async def aclose(self) -> None:
        """Do nothing: the client is closed by whoever opened it."""

    async def _within_deadline(
        self, attempt: Attempt, params: dict[str, Any], note: SentNote, on_begun: _Call | None
    ) -> Outcome:
        context = NOTE_SENT.set(note)
        total_s = deadline_s(attempt)
        try:
            with anyio.move_on_after(total_s):
                read = partial(self._final, on_begun=on_begun) if self._is_stream(attempt) else None
                return await self._exchange(params, note, read)
            return late(total_s, was_sent=note.was_sent)
        finally:
            NOTE_SENT.reset(context)

    async def _exchange(self, params: dict[str, Any], note: SentNote, read_stream: _Read | None) -> Outcome:
        if not self._takes_options:
            note()
        try:
            messages, arguments = self._call(params)
            if read_stream is not None:
                with _no_warnings():
                    manager = messages.stream(**arguments)
                return await self._received(manager, read_stream)
            return await self._received(_opened(messages.with_streaming_response.create(**arguments)), self._body)
        except (anthropic.AnthropicError, *BROKEN) as error:
            return self._failure(error, was_sent=note.was_sent)
        except _SENSELESS as error:
            return self._unsendable(error)

    def _is_stream(self, attempt: Attempt) -> bool:
        if attempt.leads and not hasattr(self._client.messages, "stream"):  # nobody asked for one but us
            return False
        return attempt.stream or attempt.max_tokens >= STREAM_FROM_TOKENS

    def _call(self, params: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return the SDK's resource for *params*, and the arguments of the call."""
        rest = {name: value for name, value in params.items() if name not in {*_NAMED, "stream", "betas"}}
        arguments = {name: params[name] for name in _NAMED if name in params}
        arguments |= {"extra_body": rest or None, "timeout": _TIMEOUT}
        if "betas" not in params:
            return self._client.messages, arguments
        return self._client.beta.messages, arguments | {"betas": params["betas"]}

    async def _received(self, opening: AbstractAsyncContextManager[Any], read: _Read) -> Outcome:
        """Return what *read* makes of the response; once that has begun, a cancellation waits for the grace time.

        *read* gives its errors as values: an exception would come out of the task group in a group of its own.
        """
        outcomes: list[Outcome] = []
        try:
            async with opening as response, anyio.create_task_group() as group:
                with anyio.CancelScope(shield=True, deadline=anyio.current_effective_deadline()) as kept:
                    group.start_soon(self._end_after_grace, kept)
                    outcomes.append(await read(response))
                group.cancel_scope.cancel()
        except (anyio.get_cancelled_exc_class(), *BROKEN):
            if not outcomes:
                raise
        if outcomes:
            return outcomes[0]
        await anyio.lowlevel.checkpoint()  # raises the cancellation that was held back, if it was one
        raise TimeoutError

    async def _end_after_grace(self, kept: anyio.CancelScope) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            kept.deadline = min(kept.deadline, anyio.current_time() + self._grace_s)

    async def _final(self, stream: Any, on_begun: _Call | None) -> Outcome:
        """Read a stream to its end."""
        response: httpx2.Response = stream.response
        bound(response, self._body_cap_bytes)
        try:
            if any(kind in response.headers.get("content-type", "") for kind in ("json", "html")):
                # The server does not stream: its answer is one body, which the SDK's reader would throw away.
                return self._judge(response, await response.aread())
            if on_begun is not None:
                await anext(stream, None)
                on_begun()
            message = await stream.get_final_message()
            if message.stop_reason is None:
                return Failure(ErrorClass.NETWORK, "the stream broke off before its end", possibly_paid=True)
            text = json.dumps(message.to_dict(mode="json", warnings=False), separators=(",", ":"))
        except (anthropic.AnthropicError, *BROKEN) as error:
            return replace(self._failure(error, was_sent=True), possibly_paid=True)
        except _SENSELESS as error:
            text = one_line(f"a stream that makes no sense: {type(error).__name__}: {error}", self._secrets)
            return Failure(ErrorClass.BAD_RESPONSE, text, possibly_paid=True)
        return self._judge(response, text.encode())

    async def _body(self, response: Any) -> Outcome:
        """Read a plain answer to its end."""
        chunks: list[bytes] = []
        size = 0
        coming = response.http_response.aiter_bytes()
        try:
            while chunk := await self._next(coming):
                size += len(chunk)
                chunks.append(chunk)
                if size > self._body_cap_bytes:
                    return failure_of(BodyTooLargeError(self._body_cap_bytes), was_sent=True)
        except BROKEN as error:
            return failure_of(error, was_sent=True, secrets=self._secrets)
        return self._judge(response.http_response, b"".join(chunks))

    async def _next(self, coming: AsyncIterator[bytes]) -> bytes:
        with anyio.move_on_after(self._idle_s) as silence:
            return await anext(coming, b"")
        if silence.cancelled_caught:
            raise IdleError(self._idle_s)
        return b""

    def _judge(self, response: httpx2.Response, body: bytes) -> Outcome:
        return classify_message(response.status_code, response.headers, body, secrets=self._secrets)

    def _failure(self, error: Exception, *, was_sent: bool) -> Failure:
        if isinstance(error, anthropic.APIStatusError):
            return classify_error(error.status_code, error.response.headers, _body_of(error), secrets=self._secrets)
        if isinstance(error, (anthropic.APIConnectionError, *BROKEN)):
            return failure_of(error, was_sent=was_sent, secrets=self._secrets)
        return credential_failure(error, secrets=self._secrets)

    def _unsendable(self, error: Exception) -> Failure:
        """Return the failure of a call that the SDK itself refused: nothing of the answer was read by then."""
        if isinstance(error, TypeError) and "authentication" in str(error):
            return Failure(ErrorClass.AUTHENTICATION, "there is no credential")
        text = one_line(f"the request cannot be sent: {type(error).__name__}: {error}", self._secrets)
        return Failure(ErrorClass.INPUT, text)


def _prepared(client: Any) -> Any:
    """Return a copy of *client* that never retries or follows a redirect, and notes each request just before it goes out."""
    return client.with_options(max_retries=0, middleware=[*client.middleware, _before_sending])


async def _before_sending(request: Any, call_next: Callable[[Any], Awaitable[Any]]) -> Any:
    request.options.follow_redirects = False  # the prompt would go where nobody sent it
    note = NOTE_SENT.get()
    if note is not None:
        note()
    return await call_next(request)


def _body_of(error: anthropic.APIStatusError) -> bytes:
    """Return the body of the error; of an error event in a stream, its data."""
    if not 200 <= error.status_code < 300:
        try:
            return error.response.content
        except httpx2.StreamError:
            pass
    if error.body is None:
        return b""
    return error.body.encode() if isinstance(error.body, str) else json.dumps(error.body).encode()


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Keep the SDK's advice on models to itself: the user's `-W error` must not make it an error of the request."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield


@asynccontextmanager
async def _opened(manager: Any) -> AsyncIterator[Any]:
    """Open the SDK's *manager* without its warnings."""
    response = await _quietly(manager.__aenter__())
    try:
        yield response
    finally:
        await manager.__aexit__(None, None, None)


@types.coroutine
def _quietly(coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Run *coroutine* without warnings, step by step: filters belong to the process and must not outlast a step."""
    resume: Callable[[Any], Any] = coroutine.send
    value: Any = None
    while True:
        try:
            with _no_warnings():
                paused = resume(value)
        except StopIteration as end:
            return end.value
        try:
            value = yield paused
            resume = coroutine.send
        except BaseException as error:  # noqa: BLE001 - whatever it is, also a cancellation, is the coroutine's to meet
            resume, value = coroutine.throw, error
