"""Where a run sends: the API as the environment names it, another address, or the embedded simulator."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batchrunner.api.sender import Senders, open_senders
from batchrunner.errors import UsageError
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
    connections: int  #: So many calls at once are possible.


def check_unchanged(last: str | None, way: Way, endpoint: Endpoint, store: Path) -> None:
    """Raise `UsageError` if prompts and key would go to another host than in the *last* run and nobody said so.

    Another `--base-url` says so; an environment that happens to differ does not.
    """
    now = str(way.record["endpoint"])
    if last is None or endpoint.base_url is not None or "simulator" in {last, now} or _place(last) == _place(now):
        return
    raise UsageError(
        f"{store} was last run against {last}, and this run would go to {now}. Give --base-url {now.rstrip('/')} if that "
        "is meant, or set ANTHROPIC_BASE_URL as it was."
    )


def _place(address: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port; on this machine any port is the same place: a gateway started anew."""
    url = urlsplit(address)
    local = url.hostname in {"localhost", "127.0.0.1", "::1"}
    return ("", "localhost", None) if local else (url.scheme, url.hostname, url.port)


@contextlib.asynccontextmanager
async def opened(endpoint: Endpoint, concurrency: int, *, exactly: bool = True) -> AsyncIterator[Way]:
    """Open the way to *endpoint* for so many calls at once; raises `UsageError` or `HaltError`.

    *exactly*: so many or an error; otherwise as many of them as the system permits.
    """
    from batchrunner.api.endpoint import is_official

    if not exactly:
        from batchrunner.api.wire import connections_possible

        concurrency = connections_possible(concurrency)
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
        yield Way(senders, is_official(senders.client), {"endpoint": address}, concurrency)
