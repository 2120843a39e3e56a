"""What a job will take and cost before anything was answered: ranges, never more than a factor of four wide."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from batchrunner.policy.intervals import Range
from batchrunner.prices.price import Price
from batchrunner.prices.sizing import JobSize, Kind, Sized

#: Characters per token of JSON in European languages, over the API's tokenizers: most and fewest.
_CHARS_PER_TOKEN = (4.6, 2.6)
#: Bytes per token of everything else.
_BYTES_PER_TOKEN = (4.6, 1.9)
_TOKENS_PER_BLOB = (400.0, 2500.0)
#: How far the truth lies from a count by the API, which calls it an estimate itself.
_COUNTED = 0.03
#: What spans more says nothing: such a range is drawn in around its middle.
WIDEST = 4.0
#: A prefix that is shared is written so often at most: entries expire, and a few requests go out at once.
_WRITERS = 3
#: In batches the cache is best effort: so large a part of what could be read is written at worst.
_MISSED_IN_BATCHES = 0.7


NOTHING = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job will take, and cost."""

    requests: int
    input_tokens: Range
    output_tokens: Range
    live_usd: Range | None  #: Over the Messages API; None: no price is known for some model.
    batch_usd: Range | None  #: Over the Message Batches API; what cannot go there counts at its full price.
    unpriced: tuple[str, ...] = ()  #: Models without a price.
    max_output_tokens: int = 0  #: What the requests permit together.
    worst_usd: float | None = None  #: If every answer were as long as it may be.
    by_model: Mapping[str, tuple[Range, Range]] = field(default_factory=dict)  #: Input and output tokens.


#: Looks up the price of a model; None: not known.
PriceList = Callable[[str], Price | None]


def between(low: float, high: float) -> Range:
    """Return the range from *low* to *high* of which nothing more is known: its middle is as many times off both."""
    return Range(low, math.sqrt(low * high), high)


def estimate(size: JobSize, prices: PriceList, counted: Mapping[str, float] | None = None) -> Estimate:
    """Return what a job of this *size* will take and cost.

    *counted*: tokens per character of a sample, by model, where the API was asked to count them.
    """
    inputs, outputs, live, batch, worst = NOTHING, NOTHING, NOTHING, NOTHING, 0.0
    by_model: dict[str, tuple[Range, Range]] = {}
    unpriced = []
    for kind, sized in size.kinds.items():
        if not sized.requests:
            continue
        prompt, answer = _prompt(sized, (counted or {}).get(kind.model)), between(sized.likely_low, sized.likely_high)
        known = by_model.get(kind.model, (NOTHING, NOTHING))
        by_model[kind.model] = (known[0].plus(prompt), known[1].plus(answer))
        inputs, outputs = inputs.plus(prompt), outputs.plus(answer)
        price = prices(kind.model)
        cost = None if price is None else _cost(price, kind, sized, prompt, answer)
        if price is None or cost is None:
            unpriced.append(kind.model)
            continue
        live = live.plus(cost)
        batch = batch.plus(_batched(price, kind, sized, (prompt, answer), cost))
        longest = _cost(price, kind, sized, prompt, between(sized.max_tokens, sized.max_tokens))
        worst += longest.high if longest is not None else 0.0
    return Estimate(
        requests=round(size.requests),
        input_tokens=inputs,
        output_tokens=outputs,
        live_usd=None if unpriced else live.drawn_in(WIDEST),
        batch_usd=None if unpriced else batch.drawn_in(WIDEST),
        unpriced=tuple(dict.fromkeys(unpriced)),
        max_output_tokens=round(sum(sized.max_tokens for sized in size.kinds.values())),
        worst_usd=None if unpriced else worst,
        by_model=by_model,
    )


def _prompt(sized: Sized, tokens_per_char: float | None) -> Range:
    blobs = between(*_TOKENS_PER_BLOB).times(sized.blobs)
    if tokens_per_char is not None:
        tokens = (sized.chars + sized.wide_bytes) * tokens_per_char
        return Range(tokens * (1 - _COUNTED), tokens, tokens * (1 + _COUNTED)).plus(blobs)
    few = sized.chars / _CHARS_PER_TOKEN[0] + sized.wide_bytes / _BYTES_PER_TOKEN[0]
    many = sized.chars / _CHARS_PER_TOKEN[1] + sized.wide_bytes / _BYTES_PER_TOKEN[1]
    return between(few, many).plus(blobs)


def _cost(price: Price, kind: Kind, sized: Sized, prompt: Range, answer: Range) -> Range | None:
    """Return what the requests of a kind cost, as if all were alike in size; None if the price has no such figure."""
    low = cost_of(price, kind, sized, prompt.low, answer.low, writers=1)
    high = cost_of(price, kind, sized, prompt.high, answer.high, writers=_WRITERS)
    return None if low is None or high is None else between(low, high)


def _batched(price: Price, kind: Kind, sized: Sized, tokens: tuple[Range, Range], live: Range) -> Range:
    """Return what the requests of a kind cost by batches, *live* over the Messages API: some have to stay there."""
    stays = sized.streams / sized.requests if not kind.fast else 1.0
    by_batches = live
    if sized.shared:
        dearest = cost_of(
            price, kind, sized, tokens[0].high, tokens[1].high, writers=_WRITERS, missed=_MISSED_IN_BATCHES
        )
        by_batches = between(live.low, max(live.high, dearest or 0.0))
    return live.times(stays).plus(by_batches.times((1 - stays) * price.batch))


def cost_of(
    price: Price, kind: Kind, sized: Sized, prompt: float, answer: float, *, writers: int, missed: float = 0.0
) -> float | None:
    """Return what all requests of a kind cost, in USD; of each group that shares a prefix so many *writers* write it.

    *prompt* and *answer*: tokens of all of them; *missed*: the part of a group that writes it at least. None where the
    price has no such figure.
    """
    text = max(1.0, sized.chars + sized.wide_bytes)
    shares = [(one, one.chars / text) for one in sized.shared.values()]
    written = read = hours = 0.0
    for one, share in shares:
        writes = min(one.requests, max(float(writers), missed * one.requests))
        written += prompt * share * writes
        hours += prompt * share * writes * one.hour
        read += prompt * share * max(0.0, one.requests - writes)
    rest = max(0.0, prompt - written - read)
    each = sized.requests or 1
    # Bands go by the size of single prompts: those of the average one count.
    rates = price.rates_for(round(prompt / each), fast=kind.fast)
    factor = price.factor(kind.geo)
    if rates is None or factor is None:
        return None
    exact = rest * rates.input + answer * rates.output + (written - hours) * rates.cache_write_5m
    exact += hours * rates.cache_write_1h + read * rates.cache_read
    return exact * factor
