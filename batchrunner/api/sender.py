"""The door to the API: what a sender is, and which one an attempt goes through. Heavy imports wait until it opens."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from batchrunner.model import Attempt, Outcome

#: From here on the API wants a stream: a plain answer could take longer than ten minutes.
STREAM_FROM_TOKENS = 21_334


class Sender(Protocol):
    """Carries attempts to the API. Failing is a value; only a cancellation is raised."""

    async def send(
        self, attempt: Attempt, on_sent: Callable[[], None], on_begun: Callable[[], None] | None = None
    ) -> Outcome:
        """Send *attempt* and return what came of it.

        *on_sent* is called once, synchronously, when the request really goes out; not at all if it never does.
        *on_begun* is called when the first of a streamed answer is here; not at all if the answer comes in one piece.
        A cancellation that comes after the answer has begun to arrive is held back for up to a second, so that an
        answer that is nearly here is returned after all.
        """
        ...

    async def aclose(self) -> None:
        """Give back connections. The sender is not usable afterwards; attempts in flight fail."""
        ...


def needs_sdk(attempt: Attempt) -> bool:
    """Whether *attempt* needs what only the SDK does: streams, and beta features, which it turns into headers."""
    return attempt.stream or attempt.max_tokens >= STREAM_FROM_TOKENS or '"betas"' in attempt.params


class Senders:
    """Sends ordinary attempts directly, the others through the SDK; without *direct* everything goes through it."""

    def __init__(
        self,
        client: Any,
        sdk: Sender,
        direct: Sender | None = None,
        renew: Callable[[], None] | None = None,
        *,
        secrets: Sequence[str] = (),
        sdk_client: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        """*client* is the SDK's; where it is a `PlainClient` instead, *sdk_client* gives the SDK's."""
        self.secrets = secrets  #: What must not be shown, credentials of the client included.
        self._renew = renew
        self.client = client  #: Where it sends, and as whom.
        self._sdk = sdk
        self._direct = direct
        self._sdk_client = sdk_client

    async def sdk_client(self) -> Any:
        """Return the SDK's client, for what is not sending: models, token counts, batches."""
        return self.client if self._sdk_client is None else await self._sdk_client()

    async def send(
        self, attempt: Attempt, on_sent: Callable[[], None], on_begun: Callable[[], None] | None = None
    ) -> Outcome:
        """Send *attempt* by the way that suits it; see `Sender.send`."""
        if self._direct is None or needs_sdk(attempt):
            return await self._sdk.send(attempt, on_sent, on_begun)
        return await self._direct.send(attempt, on_sent)

    def renew(self) -> None:
        """Use new connections from now on: the old ones may be dead without knowing it. A caller's client keeps its own."""
        if self._renew is not None:
            self._renew()

    async def aclose(self) -> None:
        """Close both ways."""
        if self._direct is not None:
            await self._direct.aclose()
        await self._sdk.aclose()


@asynccontextmanager
async def open_senders(
    base_url: str | None = None,
    *,
    concurrency: int = 100,
    insecure: bool = False,
    api_key: str | None = None,
    auth_token: str | None = None,
    headers: Mapping[str, str] | None = None,
    client: Any = None,
) -> AsyncIterator[Senders]:
    """Open the way to the API; closes it at the end, also after a cancellation.

    *base_url*: default as the SDK finds it (`ANTHROPIC_BASE_URL`, a profile, the official address).
    *concurrency*: attempts in flight at most; the process must be allowed that many connections.
    *insecure*: allow `http://` beyond this machine. *api_key*, *auth_token*: default as the SDK finds
    them. *headers*: sent with every request, in place of the SDK's own of the same names.
    *client*: an SDK client of the caller's own (Bedrock, Vertex, a test's): everything goes through it, nothing is
    added to it, and it stays open.

    Raises `UsageError` for a bad address or too few file descriptors, `HaltError` if there is no usable credential.
    """
    if client is not None:
        from batchrunner.api.sdk import SdkSender

        yield Senders(client, SdkSender(client))
        return
    from batchrunner.api.opening import open_over_wire

    identity = {"insecure": insecure, "api_key": api_key, "auth_token": auth_token, "headers": headers}
    async with open_over_wire(base_url, concurrency, identity) as senders:
        yield senders
