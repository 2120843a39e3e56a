"""Single questions to an endpoint, for `check --ping`: what it answers, raw, and never an exception."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import anthropic
import anyio
import httpx2

from batchrunner.api.breaks import BROKEN, credential_failure, failure_of, late
from batchrunner.api.classify import classify_error, classify_message
from batchrunner.model import Failure, Outcome

MODELS = "/v1/models"
COUNT = "/v1/messages/count_tokens"
MESSAGES = "/v1/messages"
_TIMEOUT_S = 30.0
_STILL_GOOD = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint said to one question."""

    status: int | None = None  #: None: there was no answer.
    headers: Mapping[str, str] = field(default_factory=dict)  #: Lower-case names.
    body: bytes = b""
    failure: Failure | None = None  #: What it is, if no 2xx.
    seconds: float = 0.0

    @property
    def is_missing(self) -> bool:
        """Whether the endpoint has no such thing: gateways lack what is not for messages."""
        return self.status in {404, 405, 501}

    @property
    def json(self) -> dict[str, Any] | None:
        """The JSON object of a good answer, None if it is none."""
        try:
            found = json.loads(self.body) if self.failure is None else None
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def outcome(self, secrets: tuple[str, ...]) -> Outcome:
        """Return what an answer to a message is."""
        if self.failure is not None or self.status is None:
            return self.failure or late(_TIMEOUT_S, was_sent=True)
        return classify_message(self.status, self.headers, self.body, secrets=secrets)

    def skew_s(self, now: float) -> float | None:
        """Return by how much this machine's clock (*now*, seconds since 1970, when the answer came) is ahead of the server's."""
        try:
            said = parsedate_to_datetime(self.headers["date"]).timestamp()
        except (KeyError, ValueError, TypeError, OverflowError):
            return None
        # The header has whole seconds, and was written while the answer was on its way.
        return now - self.seconds / 2 - (said + 0.5)


async def ask(
    client: anthropic.AsyncAnthropic,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    secrets: tuple[str, ...] = (),
) -> Answer:
    """Ask *client*'s endpoint once, with a POST if there is a *body*; within 30 s. *secrets* are not shown."""
    begun = time.monotonic()
    try:
        with anyio.fail_after(_TIMEOUT_S):
            if body is None:
                response = await client.get(path, cast_to=httpx2.Response)
            else:
                response = await client.post(path, cast_to=httpx2.Response, body=dict(body))
            content = await response.aread()
    except anthropic.APIStatusError as refused:
        return _answer(refused.response, refused.response.content, time.monotonic() - begun, secrets)
    except (anthropic.APIConnectionError, *BROKEN) as error:
        failure = failure_of(error, was_sent=True, secrets=secrets)
        return Answer(failure=failure, seconds=time.monotonic() - begun)
    except anthropic.AnthropicError as error:
        return Answer(failure=credential_failure(error, secrets=secrets), seconds=time.monotonic() - begun)
    return _answer(response, content, time.monotonic() - begun, secrets)


def _answer(response: httpx2.Response, body: bytes, seconds: float, secrets: tuple[str, ...]) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    failure = None
    if not 200 <= response.status_code < _STILL_GOOD:
        failure = classify_error(response.status_code, headers, body, secrets=secrets)
    return Answer(response.status_code, headers, body, failure, seconds)
