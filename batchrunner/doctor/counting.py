"""`check --estimate --count-tokens`: has the API count the tokens of a few requests. It is free, and sends their prompts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from batchrunner.api.asking import COUNT, ask
from batchrunner.attachments import names_files
from batchrunner.doctor import COUNTED_PARAMETERS
from batchrunner.endpoint import Endpoint, opened
from batchrunner.errors import HaltError, UsageError
from batchrunner.prices import requested_model
from batchrunner.prices.sizing import JobSize

_AT_ONCE = 4


@dataclass(slots=True)
class Counted:
    """What the API has counted."""

    requests: int = 0
    tokens_per_char: dict[str, float] = field(default_factory=dict)  #: By model.
    trouble: str | None = None  #: Why some, or all, could not be counted.


async def count_tokens(endpoint: Endpoint, sample: Sequence[str]) -> Counted:
    """Have *endpoint* count the tokens of *sample*, bodies of requests as JSON text. Raises nothing that it can tell."""
    found, sums = Counted(), dict[str, list[float]]()
    limit = anyio.CapacityLimiter(_AT_ONCE)
    try:
        async with opened(endpoint, _AT_ONCE) as way:
            client, secrets = await way.sender.sdk_client(), tuple(way.sender.secrets)

            async def count(params: str) -> None:
                body = {name: value for name, value in json.loads(params).items() if name in COUNTED_PARAMETERS}
                model = str(body.get("model"))
                async with limit:
                    answer = await ask(
                        client, COUNT, body | {"model": endpoint.models.get(model, model)}, secrets=secrets
                    )
                tokens = (answer.json or {}).get("input_tokens")
                if not isinstance(tokens, int):
                    found.trouble = found.trouble or (
                        answer.failure.message if answer.failure else "no number came back"
                    )
                    return
                found.requests += 1
                known = sums.setdefault(requested_model(params), [0.0, 0.0])
                known[0] += tokens
                known[1] += _chars(params)

            async with anyio.create_task_group() as group:
                for params in sample:
                    if not names_files(params):
                        group.start_soon(count, params)
    except (UsageError, HaltError) as refused:
        found.trouble = str(refused).rstrip(".")
    found.tokens_per_char = {model: tokens / chars for model, (tokens, chars) in sums.items() if chars}
    return found


def _chars(params: str) -> float:
    size = JobSize()
    size.add(params, "", 1)
    (sized,) = size.kinds.values()
    return sized.chars + sized.wide_bytes
