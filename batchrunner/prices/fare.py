"""What a request may cost before it is sent: its size and its `max_tokens`, scaled by what those before it have used."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from batchrunner.model import Attempt, Usage
from batchrunner.policy.estimates import InputEstimate, OutputEstimate
from batchrunner.prices.price import Price

#: Looks up the price of a model; None: not known.
PriceList = Callable[[str], Price | None]


@dataclass(frozen=True, slots=True)
class Fare:
    """What one attempt may cost, in USD."""

    likely_usd: float  #: With an answer as long as 95 % of the latest; before there are any, as `max_tokens` permits.
    worst_usd: float  #: With an answer as long as `max_tokens` permits.


@dataclass(slots=True)
class _Known:
    """What is known of one model."""

    price: Price | None
    inputs: InputEstimate = field(default_factory=InputEstimate)
    outputs: OutputEstimate = field(default_factory=OutputEstimate)


class Fares:
    """Fares of one endpoint's models. The whole prompt counts as written to the cache where a line marks any of it."""

    def __init__(self, prices: PriceList) -> None:
        self._prices = prices
        self._known: dict[str, _Known] = {}

    def of(self, attempt: Attempt) -> Fare | None:
        """Return what *attempt* may cost; None where a price is not known: of the model, fast mode or the place."""
        body = json.loads(attempt.params)
        known = self._of(str(body.get("model")))
        if known.price is None:
            return None
        prompt = round(known.inputs.tokens(attempt.params))
        likely = known.price.cost(_usage(body, attempt.params, prompt, known.outputs.tokens(attempt.max_tokens)))
        worst = known.price.cost(_usage(body, attempt.params, prompt, attempt.max_tokens))
        return None if likely is None or worst is None else Fare(likely, worst)

    def answered(self, attempt: Attempt, usage: Usage) -> None:
        """Take in what an answer to *attempt* has used."""
        known = self._of(str(json.loads(attempt.params).get("model")))
        known.inputs.note(attempt.params, usage.prompt_tokens)
        known.outputs.note(usage.output_tokens)

    def _of(self, model: str) -> _Known:
        if model not in self._known:
            self._known[model] = _Known(self._prices(model))
        return self._known[model]


def _usage(body: dict[str, Any], params: str, prompt: int, output: float) -> Usage:
    is_marked, is_kept_long = '"cache_control"' in params, '"1h"' in params
    return Usage(
        input_tokens=0 if is_marked else prompt,
        output_tokens=round(output),
        cache_write_tokens=prompt if is_marked else 0,
        cache_write_1h_tokens=prompt if is_marked and is_kept_long else 0,
        speed=body.get("speed"),
        geo=body.get("inference_geo"),
    )
