"""Where a run sends: the API as the environment names it, another address, or the embedded simulator."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batchrunner.api.redact import SecretText, names_credential
from batchrunner.api.routes import Renaming, Routes
from batchrunner.api.sender import Sender, Senders, open_senders
from batchrunner.errors import HaltError, UsageError
from batchrunner.prices import LIST_PRICES, OwnPrices
from batchrunner.settings import Limits
from batchrunner.simulator.settings import SimulatorSettings

#: What the embedded simulator is told; no real key ever reaches it.
_SIMULATED_KEY = "sk-ant-simulated"
#: How a header says that its value stands in an environment variable.
FROM_ENVIRONMENT = "env:"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, not yet opened."""

    base_url: str | None = None  #: None: from the environment, as the SDK reads it.
    insecure: bool = False  #: Permit http:// beyond this machine.
    simulator: SimulatorSettings | None = None  #: Serve and use the simulator instead.
    client: Any = None  #: An SDK client of the caller's own.
    name: str | None = None  #: In the user's configuration; None: it is not from there.
    key_env: str | None = None  #: The variable that holds its key; None: credentials as the SDK finds them.
    headers: Mapping[str, str] = field(
        default_factory=dict
    )  #: Sent with every request; `env:NAME` stands for a variable.
    api_version: str | None = None  #: `anthropic-version`; None: the SDK's.
    limits: Limits = field(default_factory=Limits)  #: Its own, beside those of the run: the stricter one holds.
    models: Mapping[str, str] = field(default_factory=dict)  #: What it calls a model: the job's name -> its own.
    prices: OwnPrices = LIST_PRICES  #: What it charges.


@dataclass(frozen=True, slots=True)
class Reached:
    """One endpoint of a run, open."""

    name: str | None  #: As the user's configuration calls it; None: the run has only this one, without a name.
    official: bool  #: Anthropic's own API, where one refusal of a key is final.
    limits: Limits = field(default_factory=Limits)  #: Its own.
    prices: OwnPrices = LIST_PRICES  #: Its own.


@dataclass(frozen=True, slots=True)
class Way:
    """Where a run sends, open: to one endpoint, or to the first of several that works."""

    sender: Senders | Routes
    official: bool  #: Of the first endpoint: Anthropic's own API, where one refusal of a key is final.
    record: dict[str, Any]  #: What the store keeps of it: never a credential.
    connections: int  #: So many calls at once are possible.
    endpoints: Sequence[Reached] = ()  #: In the order in which they are used; nothing: one without a name.

    @property
    def reached(self) -> Sequence[Reached]:
        """The endpoints, at least one."""
        return self.endpoints or (Reached(None, self.official),)


def check_unchanged(last: Sequence[str], way: Way, endpoints: Sequence[Endpoint], store: Path) -> None:
    """Raise `UsageError` if prompts and key would go to another host than in the *last* run and nobody said so.

    *last*: the addresses of that run, each perhaps with the name of the endpoint before it. Another `--base-url` or
    `--endpoint` says so; an environment that happens to differ does not.
    """
    now = str(way.record["endpoint"])
    is_said = any(endpoint.base_url is not None or endpoint.name is not None for endpoint in endpoints)
    if not last or is_said or "simulator" in {*last, now} or _place(now) in {_place(address) for address in last}:
        return
    raise UsageError(
        f"{store} was last run against {', '.join(last)}, and this run would go to {now}. Give "
        f"--base-url {now.rstrip('/')} if that is meant, or {_as_before(last)}."
    )


def _as_before(last: Sequence[str]) -> str:
    names = [name for name, _, address in (text.rpartition(" ") for text in last) if name and address]
    if names:
        return " ".join(f"--endpoint {name}" for name in names) + " to go on as it was"
    return "set ANTHROPIC_BASE_URL as it was"


def _place(address: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port; on this machine any port is the same place: a gateway started anew."""
    url = urlsplit(address.rpartition(" ")[2])
    local = url.hostname in {"localhost", "127.0.0.1", "::1"}
    return ("", "localhost", None) if local else (url.scheme, url.hostname, url.port)


@contextlib.asynccontextmanager
async def opened(
    endpoint: Endpoint | Sequence[Endpoint], concurrency: int, *, exactly: bool = True
) -> AsyncIterator[Way]:
    """Open the way to *endpoint*, or to several in their order, for so many calls at once.

    *exactly*: so many or an error; otherwise as many of them as the system permits. Raises `UsageError` or `HaltError`.
    """
    if not exactly:
        from batchrunner.api.wire import connections_possible

        concurrency = connections_possible(concurrency)
    async with contextlib.AsyncExitStack() as stack:
        endpoints = [endpoint] if isinstance(endpoint, Endpoint) else endpoint
        opens = [await _open(stack, one, concurrency) for one in endpoints]
        sender, reached, address = opens[0]
        if reached.name is None:
            yield Way(sender, reached.official, {"endpoint": address}, concurrency)
            return
        record = {"endpoint": address, "endpoints": [f"{one.name} {url}" for _, one, url in opens]}
        routes = Routes(
            [senders for senders, _, _ in opens], [_renamed(*pair) for pair in zip(opens, endpoints, strict=True)]
        )
        yield Way(routes, reached.official, record, concurrency, [one for _, one, _ in opens])


async def _open(stack: contextlib.AsyncExitStack, endpoint: Endpoint, concurrency: int) -> tuple[Senders, Reached, str]:
    from batchrunner.api.identity import is_official

    base_url, credential = endpoint.base_url, credential_of(endpoint)
    if endpoint.simulator is not None:
        from batchrunner.simulator import Simulator
        from batchrunner.simulator.server import serve

        base_url = await stack.enter_async_context(serve(Simulator(endpoint.simulator)))
        credential = {"api_key": _SIMULATED_KEY}
    senders = await stack.enter_async_context(
        open_senders(
            base_url,
            concurrency=concurrency,
            insecure=endpoint.insecure,
            headers=headers_of(endpoint),
            client=endpoint.client,
            **credential,
        )
    )
    address = "simulator" if endpoint.simulator is not None else str(getattr(senders.client, "base_url", "client"))
    return senders, Reached(endpoint.name, is_official(senders.client), endpoint.limits, endpoint.prices), address


def _renamed(opened_: tuple[Senders, Reached, str], endpoint: Endpoint) -> Sender:
    return Renaming(opened_[0], endpoint.models) if endpoint.models else opened_[0]


def credential_of(endpoint: Endpoint) -> dict[str, str]:
    """Return the credential that *endpoint* names as a keyword; raises `HaltError` if there is none of that name.

    What a variable holds whose name ends with AUTH_TOKEN is a token, and goes out as one; all else is a key.
    """
    if endpoint.key_env is None:
        return {}
    if not (value := os.environ.get(endpoint.key_env)):
        raise HaltError(f"The endpoint {endpoint.name} takes its key from {endpoint.key_env}, which is not set.")
    _refuse_stray_credentials(endpoint)
    return {"auth_token" if endpoint.key_env.endswith("AUTH_TOKEN") else "api_key": value}


def _refuse_stray_credentials(endpoint: Endpoint) -> None:
    """The SDK sends these headers to every address, also those of another account."""
    lines = os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n")
    if any(names_credential(line.partition(":")[0]) for line in lines):
        raise HaltError(
            f"ANTHROPIC_CUSTOM_HEADERS holds a credential, which would go to the endpoint {endpoint.name} too: unset it, "
            "or give that endpoint its header in the configuration."
        )


def headers_of(endpoint: Endpoint) -> dict[str, str]:
    """Return the headers that go out with every request, values from the environment filled in; raises `HaltError`."""
    found = {"anthropic-version": endpoint.api_version} if endpoint.api_version else {}
    for name, value in endpoint.headers.items():
        variable = value.removeprefix(FROM_ENVIRONMENT)
        if variable != value and not os.environ.get(variable):
            raise HaltError(f"The endpoint {endpoint.name} takes its header {name} from {variable}, which is not set.")
        found[name] = value if variable == value else SecretText(os.environ[variable])
    return found
