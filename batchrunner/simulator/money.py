"""What the simulator charges: its own figures and its own arithmetic, in whole picodollars (1e-12 USD), without rounding.

Kept apart from `batchrunner.prices` on purpose: what a run says it has spent is held against this.
"""

from dataclasses import dataclass

#: Picodollars per token: input, output, cache write for 5 min and for 1 h, cache read. 1 USD per million is 1,000,000.
_RATES = {
    "claude-fable-5-2": (8_000_000, 40_000_000, 10_000_000, 16_000_000, 200_000),
    "claude-opus-5-5": (4_000_000, 20_000_000, 5_000_000, 8_000_000, 200_000),
    "claude-opus-5": (5_000_000, 25_000_000, 6_250_000, 10_000_000, 500_000),
    "claude-opus-4-8": (5_000_000, 25_000_000, 6_250_000, 10_000_000, 500_000),
    "claude-sonnet-5-5": (2_000_000, 10_000_000, 2_500_000, 4_000_000, 100_000),
    "claude-sonnet-5": (2_000_000, 10_000_000, 2_500_000, 4_000_000, 200_000),
    "claude-sonnet-4-6": (3_000_000, 15_000_000, 3_750_000, 6_000_000, 300_000),
    "claude-haiku-5-5": (100_000, 500_000, 125_000, 200_000, 10_000),
    "claude-haiku-4-5": (1_000_000, 5_000_000, 1_250_000, 2_000_000, 100_000),
}
#: The one model whose prompts above so many tokens cost more, all of the request, and how many times as much.
_BANDED, _BAND_ABOVE, _BAND_FACTOR = "claude-haiku-5-5", 100_000, 5
#: Models that have a fast mode, at twice the price.
FAST = frozenset({"claude-fable-5-2", "claude-opus-5-5", "claude-opus-5", "claude-opus-4-8"})


@dataclass(frozen=True, slots=True)
class Consumption:
    """What one answer took."""

    model: str
    input_tokens: int = 0  #: Neither read from the cache nor written to it.
    output_tokens: int = 0
    write_5m_tokens: int = 0
    write_1h_tokens: int = 0
    read_tokens: int = 0
    fast: bool = False
    in_us: bool = False  #: Inference was asked to run in the United States.
    batch: bool = False


def charge_pusd(taken: Consumption) -> int | None:
    """Return what *taken* costs, in picodollars; None for a model that has no price here."""
    if (rates := _RATES.get(taken.model)) is None:
        return None
    prompt = (taken.input_tokens, taken.write_5m_tokens, taken.write_1h_tokens, taken.read_tokens)
    counts = (prompt[0], taken.output_tokens, *prompt[1:])
    charge = sum(rate * count for rate, count in zip(rates, counts, strict=True))
    if taken.model == _BANDED and sum(prompt) > _BAND_ABOVE:
        charge *= _BAND_FACTOR
    if taken.fast and taken.model in FAST:
        charge *= 2
    # Every rate is a multiple of 10,000, so nothing is lost.
    if taken.in_us:
        charge = charge * 11 // 10
    return charge // 2 if taken.batch else charge
