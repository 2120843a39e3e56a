"""`check --ping`: asks each endpoint a handful of questions and says what is well, what is not, and what mends it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from batchrunner.api.address import OFFICIAL_URL
from batchrunner.api.asking import COUNT, MESSAGES, MODELS, Answer, ask
from batchrunner.api.network import walk
from batchrunner.api.quotas import quotas_of
from batchrunner.clock import SystemClock
from batchrunner.doctor.lines import Area, Health, Line, problem
from batchrunner.doctor.verdicts import (
    Wanted,
    of_clock,
    of_frequency,
    of_key,
    of_message,
    of_models,
    of_network,
    of_parameters,
)
from batchrunner.endpoint import Endpoint, Way, opened
from batchrunner.errors import HaltError, UsageError
from batchrunner.model import ErrorClass, Failure, Outcome

#: What a token count takes of a request.
COUNTED_PARAMETERS = frozenset(
    {
        *("messages", "model", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control"),
        "speed",
    }
)
_BYTES_PER_TOKEN = 3.2


@dataclass(slots=True)
class Diagnosis:
    """What was found at one endpoint."""

    name: str | None  #: In the user's configuration.
    url: str
    sent: list[str] = field(default_factory=list)  #: What was sent there, in words.
    lines: list[Line] = field(default_factory=list)

    @property
    def is_sick(self) -> bool:
        """Whether a run would stop there."""
        return any(line.health is Health.PROBLEM for line in self.lines)

    def add(self, lines: Iterable[Line]) -> None:
        """Take in further lines; they are kept in the order of their areas."""
        self.lines = sorted([*self.lines, *lines], key=lambda line: list(Area).index(line.area))

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that scripts may rely on."""
        lines = [line.as_json() for line in self.lines]
        return {"endpoint": self.name, "url": self.url, "ok": not self.is_sick, "sent": self.sent, "lines": lines}


async def diagnose(endpoint: Endpoint, wanted: Wanted, source: str) -> Diagnosis:
    """Ask *endpoint* for what *wanted* needs; *source* says where its credential comes from. Costs one token of output."""
    found = Diagnosis(endpoint.name, endpoint.base_url or OFFICIAL_URL)
    try:
        async with opened(endpoint, 4) as way:
            found.url = _address(way)
            await _examine(found, way, endpoint, wanted, source)
    except (UsageError, HaltError) as refused:
        area = Area.KEY if isinstance(refused, HaltError) else Area.NETWORK
        found.add([problem(area, "cannot-begin", str(refused).rstrip("."))])
    return found


def _address(way: Way) -> str:
    return str(getattr(way.sender.client, "base_url", way.record["endpoint"])).rstrip("/")


async def _examine(found: Diagnosis, way: Way, endpoint: Endpoint, wanted: Wanted, source: str) -> None:
    steps = [step async for step in walk(found.url)]
    found.add(of_network(steps))
    if not all(step.ok for step in steps):
        return
    client, secrets = await way.sender.sdk_client(), tuple(way.sender.secrets)
    names = [endpoint.models.get(name, name) for name in wanted.models]
    found.sent.append(f"GET {MODELS}")
    models = await ask(client, f"{MODELS}?limit=1000", secrets=secrets)
    found.add(of_clock(models.skew_s(SystemClock().utc_now().timestamp())))
    if models.failure is not None and models.status is None:
        found.add(
            [problem(Area.NETWORK, "no-answer", models.failure.message, "something on the way breaks connections")]
        )
        return
    is_refused = models.failure is not None and models.failure.error_class is ErrorClass.AUTHENTICATION
    if not names or (is_refused and way.official):
        found.add([*of_key(source, models, None), *of_models(models, names, official=way.official)])
        return
    await _count(found, way, endpoint, wanted)
    found.sent.append(f"POST {MESSAGES} ({names[0]}, max_tokens 1, the prompt Hi)")
    hello = {"model": names[0], "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    answer = await ask(client, MESSAGES, hello, secrets=secrets)
    message = answer.outcome(secrets)
    found.add(of_key(source, models, message))
    found.add(of_models(models, names, message, official=way.official))
    found.add(of_message(names[0], message, answer.seconds))
    if not _is_halting(message):
        found.add(of_frequency(quotas_of(answer.headers) or quotas_of(models.headers), wanted))


async def _count(found: Diagnosis, way: Way, endpoint: Endpoint, wanted: Wanted) -> None:
    if wanted.first is None:
        return
    params = {name: value for name, value in json.loads(wanted.first).items() if name in COUNTED_PARAMETERS}
    params["model"] = endpoint.models.get(params["model"], params["model"])
    found.sent.append(f"POST {COUNT} (the first request of the job)")
    count: Answer = await ask(await way.sender.sdk_client(), COUNT, params, secrets=tuple(way.sender.secrets))
    found.add(of_parameters(count, round(len(wanted.first) / _BYTES_PER_TOKEN)))


def _is_halting(message: Outcome) -> bool:
    return isinstance(message, Failure) and message.http_status in {401, 402, 403, 404}
