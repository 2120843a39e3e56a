"""Opens the connections and what sends over them; the SDK is loaded at once, or when something needs it."""

import functools
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from batchrunner.api.direct import DirectSender
from batchrunner.api.identity import secrets_of
from batchrunner.api.plain import plain_client
from batchrunner.api.redact import SecretText
from batchrunner.api.sender import Senders
from batchrunner.api.wire import Wire, allow_connections
from batchrunner.model import Attempt, Outcome

if TYPE_CHECKING:
    from batchrunner.api.sdk import SdkSender


@asynccontextmanager
async def open_over_wire(base_url: str | None, concurrency: int, identity: Mapping[str, Any]) -> AsyncIterator[Senders]:
    """Open the way to the API over connections of our own; see `batchrunner.api.sender.open_senders`.

    *identity*: its arguments `insecure`, `api_key`, `auth_token` and `headers`.
    """
    own = tuple(value for value in (identity["headers"] or {}).values() if isinstance(value, SecretText))
    allow_connections(concurrency)
    async with Wire() as wire, AsyncExitStack() as stack:
        sdk = LateSdk(stack, functools.partial(_open_client, base_url, wire, identity), own)
        plain = plain_client(base_url, **identity)
        client = await sdk.client() if plain is None else plain
        secrets = (*secrets_of(client), *own)
        direct = DirectSender(client, wire, secrets=own) if plain is not None or _can_send_for(client) else None
        yield Senders(client, sdk, direct, wire.renew, secrets=secrets, sdk_client=sdk.client)


class LateSdk:
    """A `Sender` through the SDK, which is loaded when the first attempt needs it; the loop goes on meanwhile."""

    def __init__(self, stack: AsyncExitStack, open_client: Callable[[], Any], secrets: tuple[str, ...]) -> None:
        """*stack* closes what *open_client* opens."""
        self._stack = stack
        self._open_client = open_client
        self._secrets = secrets
        self._opened: tuple[Any, SdkSender] | None = None
        self._opening = anyio.Lock()

    async def client(self) -> Any:
        """Return the SDK's client; raises what `open_client` raises."""
        return (await self._both())[0]

    async def send(
        self, attempt: Attempt, on_sent: Callable[[], None], on_begun: Callable[[], None] | None = None
    ) -> Outcome:
        """Send *attempt*; see `batchrunner.api.sender.Sender`."""
        return await (await self._both())[1].send(attempt, on_sent, on_begun)

    async def aclose(self) -> None:
        """Do nothing: whoever owns the stack closes the client."""

    async def _both(self) -> tuple[Any, "SdkSender"]:
        async with self._opening:
            if self._opened is None:
                await to_thread.run_sync(_load)
                from batchrunner.api.sdk import SdkSender

                client = await self._stack.enter_async_context(self._open_client())
                self._opened = client, SdkSender(client, tells_sent=True, secrets=self._secrets)
        return self._opened


def _load() -> None:
    """Load the SDK: a second of work."""
    import batchrunner.api.endpoint
    import batchrunner.api.sdk  # noqa: F401 - both are wanted a moment later


def _open_client(base_url: str | None, wire: Wire, identity: Mapping[str, Any]) -> Any:
    from batchrunner.api.endpoint import open_client

    return open_client(base_url, wire=wire, **identity)


def _can_send_for(client: Any) -> bool:
    from batchrunner.api.endpoint import can_send_for

    return can_send_for(client)
