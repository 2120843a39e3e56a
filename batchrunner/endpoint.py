"""Where a run sends: the API as the environment names it, another address, or the embedded simulator."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from batchrunner.api.sender import Senders, open_senders
from batchrunner.simulator.settings import SimulatorSettings

#: What the embedded simulator is told; no real key ever reaches it.
_SIMULATED_KEY = "sk-ant-simulated"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, not yet opened."""

    base_url: str | None = None  #: None: from the environment, as the SDK reads it.
    insecure: bool = False  #: Permit http:// beyond this machine.
    simulator: SimulatorSettings | None = None  #: Serve and use the simulator instead.
    client: Any = None  #: An SDK client of the caller's own.


@dataclass(frozen=True, slots=True)
class Way:
    """An endpoint, open."""

    sender: Senders
    official: bool  #: Anthropic's own API, where one refusal of a key is final.
    record: dict[str, Any]  #: What the store keeps of it: never a credential.


@contextlib.asynccontextmanager
async def opened(endpoint: Endpoint, concurrency: int) -> AsyncIterator[Way]:
    """Open the way to *endpoint* for so many calls at once; raises `UsageError` or `HaltError`."""
    from batchrunner.api.endpoint import is_official

    async with contextlib.AsyncExitStack() as stack:
        base_url, api_key = endpoint.base_url, None
        if endpoint.simulator is not None:
            from batchrunner.simulator import Simulator
            from batchrunner.simulator.server import serve

            base_url = await stack.enter_async_context(serve(Simulator(endpoint.simulator)))
            api_key = _SIMULATED_KEY
        senders = await stack.enter_async_context(
            open_senders(
                base_url, concurrency=concurrency, insecure=endpoint.insecure, api_key=api_key, client=endpoint.client
            )
        )
        address = "simulator" if endpoint.simulator is not None else str(getattr(senders.client, "base_url", "client"))
        yield Way(senders, is_official(senders.client), {"endpoint": address})
