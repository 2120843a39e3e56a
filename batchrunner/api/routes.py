"""Several endpoints behind one door: each attempt goes through the sender of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from batchrunner.api.sender import Sender, Senders
    from batchrunner.model import Attempt, Outcome

_DECODER = json.JSONDecoder()
_BLANKS = " \t\r\n"


class Routes:
    """A `Sender` over those of several endpoints; `Attempt.endpoint` says which one an attempt takes."""

    def __init__(self, opened: Sequence[Senders], senders: Sequence[Sender]) -> None:
        """*opened*: the connections; *senders*: what goes through them, which may rename the model on its way."""
        self._opened = opened
        self._senders = senders

    @property
    def client(self) -> Any:
        """Where the first endpoint is, and as whom it is used."""
        return self._opened[0].client

    async def sdk_client(self) -> Any:
        """Return the SDK's client of the first endpoint."""
        return await self._opened[0].sdk_client()

    @property
    def secrets(self) -> Sequence[str]:
        """What must not be shown of the first endpoint."""
        return self._opened[0].secrets

    async def send(
        self, attempt: Attempt, on_sent: Callable[[], None], on_begun: Callable[[], None] | None = None
    ) -> Outcome:
        """Send *attempt* to its endpoint; see `Sender.send`."""
        return await self._senders[attempt.endpoint].send(attempt, on_sent, on_begun)

    def renew(self) -> None:
        """Use new connections everywhere from now on."""
        for senders in self._opened:
            senders.renew()

    async def aclose(self) -> None:
        """Close every way."""
        for senders in self._opened:
            await senders.aclose()


class Renaming:
    """A `Sender` for an endpoint that calls models by other names."""

    def __init__(self, sender: Sender, names: Mapping[str, str]) -> None:
        """*names*: the job's name of a model -> the endpoint's; others stay as they are."""
        self._sender = sender
        self._names = names

    async def send(
        self, attempt: Attempt, on_sent: Callable[[], None], on_begun: Callable[[], None] | None = None
    ) -> Outcome:
        """Send *attempt* under the endpoint's name of its model; see `Sender.send`."""
        asked = replace(attempt, params=renamed(attempt.params, self._names))
        return await self._sender.send(asked, on_sent, on_begun)

    async def aclose(self) -> None:
        """Close the sender behind it."""
        await self._sender.aclose()


def renamed(params: str, names: Mapping[str, str]) -> str:
    """Return *params*, a JSON object, with its `model` as *names* has it; every other byte stays as it is."""
    try:
        found = next((span for key, *span in _members(params) if key == "model"), None)
    except (ValueError, RecursionError):
        return params  # no JSON: whoever sends it will say so
    if found is None:
        return params
    start, end = found
    model = json.loads(params[start:end])
    if not isinstance(model, str) or model not in names:
        return params
    return params[:start] + json.dumps(names[model]) + params[end:]


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the keys of the JSON object *text*, each with where its value begins and ends; raises `ValueError`."""
    at = _after(text, 0, "{")
    while True:
        key, at = _DECODER.raw_decode(text, _blank(text, at))
        start = _blank(text, _after(text, at, ":"))
        _, at = _DECODER.raw_decode(text, start)
        yield key, start, at
        at = _blank(text, at)
        if text[at : at + 1] != ",":
            return
        at += 1


def _blank(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _BLANKS:
        at += 1
    return at


def _after(text: str, at: int, mark: str) -> int:
    at = _blank(text, at)
    if text[at : at + 1] != mark:
        raise ValueError(f"{mark!r} is missing")
    return at + 1
