"""The quick way: the request's bytes out, the answer's bytes in, nothing in between."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
from multidict import CIMultiDict
from yarl import URL

from batchrunner.api.breaks import (
    BROKEN,
    BodyTooLargeError,
    IdleError,
    NoTokenError,
    credential_failure,
    failure_of,
    late,
)
from batchrunner.api.classify import classify_error, classify_message
from batchrunner.api.deadline import GRACE_S, IDLE_S, deadline_s
from batchrunner.api.identity import BODY_CAP_BYTES, is_unauthorized, renew_token, secrets_of
from batchrunner.api.wire import SentNote, SentPayload, Wire, proxy_for, timeout_of
from batchrunner.model import Attempt, ErrorClass, Failure, Outcome

if TYPE_CHECKING:
    from batchrunner.api.tokens import Tokens


class DirectSender:
    """Sends what the SDK's *client* would send, as whom and where it would send it, over the *wire*."""

    def __init__(
        self,
        client: Any,
        wire: Wire,
        *,
        body_cap_bytes: int = BODY_CAP_BYTES,
        idle_s: float = IDLE_S,
        grace_s: float = GRACE_S,
        secrets: Sequence[str] = (),
    ) -> None:
        """*client*: the SDK's, or what stands in for it; *secrets*: what must not be shown beside its credentials."""
        self._wire = wire
        self._client = client
        self._secrets = (*secrets_of(client), *secrets)
        self._url = _messages_url(client)
        self._proxy = proxy_for(self._url.scheme, self._url.host or "")
        self._headers = _headers(client)
        self._tokens = _tokens(client, self._headers, self._url)
        self._body_cap_bytes = body_cap_bytes
        self._idle_s = idle_s
        self._grace_s = grace_s

    async def send(
        self, attempt: Attempt, on_sent: Callable[[], None], on_begun: Callable[[], None] | None = None
    ) -> Outcome:
        """Send *attempt*; see `batchrunner.api.sender.Sender`."""
        del on_begun  # nothing is streamed here
        note = SentNote(on_sent)
        try:
            body = attempt.params.encode()
        except UnicodeEncodeError:
            return Failure(ErrorClass.INPUT, "the request holds half of a surrogate pair, which UTF-8 cannot express")
        outcome = await self._exchange(body, deadline_s(attempt), note)
        if self._tokens is not None and is_unauthorized(outcome) and renew_token(self._client):
            outcome = await self._exchange(body, deadline_s(attempt), note)
        return outcome

    async def aclose(self) -> None:
        """Do nothing: the wire is closed by whoever opened it."""

    async def _exchange(self, body: bytes, total_s: float, note: SentNote) -> Outcome:
        try:
            headers = self._headers if self._tokens is None else await self._tokens.put_into(self._headers)
            response = await self._wire.session.post(
                self._url,
                data=SentPayload(body, note),
                headers=headers,
                timeout=timeout_of(total_s),
                allow_redirects=False,
                proxy=self._proxy,
            )
        except BROKEN as error:
            return self._broken(error, total_s, note)
        except NoTokenError as error:
            return credential_failure(error.__cause__ or error, secrets=self._secrets)
        chunks: list[bytes] = []
        try:
            await self._receive(response, chunks)
        except BROKEN as error:
            if response.status >= 300:
                # The status has said it all; its text may stay incomplete.
                return classify_error(response.status, response.headers, b"".join(chunks), secrets=self._secrets)
            return self._broken(error, total_s, note)
        return self._judge(response, b"".join(chunks))

    def _judge(self, response: aiohttp.ClientResponse, body: bytes) -> Outcome:
        status = response.status
        if 200 <= status < 300:
            return classify_message(status, response.headers, body, secrets=self._secrets)
        return classify_error(status, response.headers, body, secrets=self._secrets)

    def _broken(self, error: BaseException, total_s: float, note: SentNote) -> Failure:
        if isinstance(error, asyncio.TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError):
            return late(total_s, was_sent=note.was_sent)
        return failure_of(error, was_sent=note.was_sent, secrets=self._secrets)

    async def _receive(self, response: aiohttp.ClientResponse, chunks: list[bytes]) -> None:
        """Read the whole body into *chunks*. A cancellation waits up to the grace time for an answer on its way."""
        try:
            await self._read(response.content, chunks)
        except asyncio.CancelledError:
            with anyio.move_on_after(self._grace_s, shield=True):
                try:
                    await self._read(response.content, chunks)
                except BROKEN:
                    response.close()
                else:
                    return
            response.close()
            raise
        except BaseException:
            response.close()
            raise

    async def _read(self, content: aiohttp.StreamReader, chunks: list[bytes]) -> None:
        size = sum(map(len, chunks))
        while not content.at_eof():
            # A small answer is here at once; only a longer one needs a timer.
            chunk = content.read_nowait() or await self._awaited(content)
            size += len(chunk)
            if size > self._body_cap_bytes:
                raise BodyTooLargeError(self._body_cap_bytes)
            chunks.append(chunk)

    async def _awaited(self, content: aiohttp.StreamReader) -> bytes:
        with anyio.move_on_after(self._idle_s):
            return await content.readany()
        raise IdleError(self._idle_s)


def _messages_url(client: Any) -> URL:
    query = client.qs.stringify(client.default_query) if client.default_query else ""
    address = str(client.base_url).rstrip("/") + "/v1/messages"
    # Like the SDK: a space is %20, not a plus.
    return URL(f"{address}?{query.replace('+', '%20')}" if query else address, encoded=True)


def _headers(client: Any) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in client.default_headers.items():
        if isinstance(value, str):
            headers[name] = value
        else:  # the SDK's `Omit`
            headers.pop(name, None)
    return headers


def _tokens(client: Any, headers: CIMultiDict[str], url: URL) -> "Tokens | None":
    if headers.get("authorization") or headers.get("x-api-key") or client.custom_auth is None:
        return None
    from batchrunner.api.tokens import Tokens

    return Tokens(client.custom_auth, str(url))
