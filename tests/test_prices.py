"""Prices: the figures against the published table, what an answer costs, what is unknown, an endpoint's own."""

import subprocess
import sys
from dataclasses import replace
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.model import Usage
from batchrunner.prices import LIST_PRICES, OwnPrices, Price, Rates, price_of

TODAY = date(2026, 11, 25)
#: USD per million tokens, as published: input, output, cache write for 5 min and 1 h, cache read.
PUBLISHED = {
    "claude-fable-5-2": (8, 40, 10, 16, 0.20),
    "claude-mythos-5-2": (8, 40, 10, 16, 0.20),
    "claude-fable-5-1": (10, 50, 12.50, 20, 0.25),
    "claude-mythos-5-1": (10, 50, 12.50, 20, 0.25),
    "claude-fable-5": (10, 50, 12.50, 20, 1.00),
    "claude-mythos-5": (10, 50, 12.50, 20, 1.00),
    "claude-opus-5-5": (4, 20, 5, 8, 0.20),
    "claude-opus-5": (5, 25, 6.25, 10, 0.50),
    "claude-opus-4-8": (5, 25, 6.25, 10, 0.50),
    "claude-opus-4-7": (5, 25, 6.25, 10, 0.50),
    "claude-opus-4-6": (5, 25, 6.25, 10, 0.50),
    "claude-opus-4-5": (5, 25, 6.25, 10, 0.50),
    "claude-opus-4-5-20251101": (5, 25, 6.25, 10, 0.50),
    "claude-sonnet-5-5": (2, 10, 2.50, 4, 0.10),
    "claude-sonnet-5": (2, 10, 2.50, 4, 0.20),
    "claude-sonnet-4-6": (3, 15, 3.75, 6, 0.30),
    "claude-sonnet-4-5": (3, 15, 3.75, 6, 0.30),
    "claude-sonnet-4-5-20250929": (3, 15, 3.75, 6, 0.30),
    "claude-haiku-5-5": (0.10, 0.50, 0.125, 0.20, 0.01),
    "claude-haiku-4-5": (1, 5, 1.25, 2, 0.10),
    "claude-haiku-4-5-20251001": (1, 5, 1.25, 2, 0.10),
    "claude-mythos-preview": (10, 50, 12.50, 20, 1.00),
}
#: The same with `speed: fast`: input and output.
PUBLISHED_FAST = {
    "claude-opus-5-5": (8, 40),
    "claude-opus-5": (10, 50),
    "claude-opus-4-8": (10, 50),
    "claude-fable-5-2": (16, 80),
}
MTOK = 1_000_000
#: A million tokens of each kind, one at a time.
KINDS = (
    Usage(MTOK, 0, 0, 0),
    Usage(0, MTOK, 0, 0),
    Usage(0, 0, MTOK, 0),
    Usage(0, 0, MTOK, 0, cache_write_1h_tokens=MTOK),
    Usage(0, 0, 0, MTOK),
)


def price(model: str, own: OwnPrices = LIST_PRICES) -> Price:
    found = price_of(model, own=own, today=TODAY)
    assert found is not None
    return found


def figures(rates: Rates | None) -> tuple[float, ...]:
    assert rates is not None
    return tuple(round(rates.of(usage), 9) for usage in KINDS)


def from_package(model: str) -> Price | None:
    from batchrunner.prices.package import packaged

    return packaged(model, model.removesuffix("-20251101").removesuffix("-20250929").removesuffix("-20251001"), TODAY)


@pytest.mark.parametrize("model", PUBLISHED)
def test_every_published_figure_is_what_we_charge(model: str) -> None:
    assert figures(price(model).rates) == PUBLISHED[model]


def test_where_the_package_differs_from_what_is_published_is_known() -> None:
    """A new version of the package that changes a price must be looked at before it is used."""
    differences = {}
    for model, published in PUBLISHED.items():
        found = from_package(model)
        if found is None:
            differences[model] = "missing"
        elif figures(found.rates) != published:
            differences[model] = str(figures(found.rates))
        elif [band.above for band in found.bands] != ([100_000] if model == "claude-haiku-5-5" else []):
            differences[model] = f"dearer above {found.bands[0].above:,} tokens"
        elif found.fast is not None and model not in PUBLISHED_FAST:
            differences[model] = f"fast {figures(found.fast)[:2]}"
    assert differences == {
        "claude-mythos-5-1": "missing",  # both in overrides.toml
        "claude-mythos-5": "missing",
        "claude-mythos-preview": "missing",
        # Its context has 200,000 tokens: no request gets there.
        "claude-sonnet-4-5": "dearer above 200,000 tokens",
        "claude-sonnet-4-5-20250929": "dearer above 200,000 tokens",
        "claude-mythos-5-2": "fast (16.0, 80.0)",
    }


@pytest.mark.parametrize("model", PUBLISHED_FAST)
def test_fast_mode_has_its_own_figures(model: str) -> None:
    assert figures(price(model).fast)[:2] == PUBLISHED_FAST[model]
    assert price(model).cost(Usage(MTOK, MTOK, speed="fast")) == sum(PUBLISHED_FAST[model])


@pytest.mark.parametrize("model", [*PUBLISHED])
def test_the_package_agrees_that_batches_cost_half(model: str) -> None:
    from genai_prices.data_snapshot import get_snapshot

    if model.startswith("claude-mythos") and model != "claude-mythos-5-2":
        return  # not in the package
    _, info = get_snapshot().find_provider_model(model, None, "anthropic", None)
    from datetime import UTC, datetime

    batch = info.get_prices(datetime(2026, 11, 25, tzinfo=UTC), {"processing": "batch"})
    standard = PUBLISHED[model]
    assert float(getattr(batch.input_mtok, "base", batch.input_mtok)) * 2 == pytest.approx(standard[0])  # type: ignore[arg-type]
    usage = Usage(1000, 500, 40, 30, 10)
    assert price(model).cost(usage, batch=True) == pytest.approx(price(model).rates.of(usage) / 2, rel=1e-15)
    assert price(model).cost(replace(usage, service_tier="batch")) == price(model).cost(usage, batch=True)


def test_a_larger_prompt_pays_the_dearer_band_for_every_token_and_the_limit_itself_does_not() -> None:
    haiku = price("claude-haiku-5-5")
    assert haiku.cost(Usage(60_000, 1000, 20_000, 20_000)) == pytest.approx(
        60_000 * 0.1e-6 + 1000 * 0.5e-6 + 20_000 * 0.125e-6 + 20_000 * 0.01e-6
    )
    assert haiku.cost(Usage(60_000, 1000, 20_000, 20_001)) == pytest.approx(
        60_000 * 0.5e-6 + 1000 * 2.5e-6 + 20_000 * 0.625e-6 + 20_001 * 0.05e-6
    )


def test_inference_in_the_united_states_costs_a_tenth_more_where_that_can_be_asked_for() -> None:
    usage = Usage(MTOK, MTOK, MTOK, MTOK)
    assert price("claude-sonnet-4-6").cost(replace(usage, geo="us")) == pytest.approx(22.05 * 1.1)
    assert price("claude-haiku-4-5").cost(replace(usage, geo="us")) == price("claude-haiku-4-5").cost(usage)
    assert price("claude-sonnet-4-6").cost(replace(usage, geo="global")) == price("claude-sonnet-4-6").cost(usage)


def test_searches_cost_a_cent_each_and_are_not_halved() -> None:
    usage = Usage(MTOK, 0, web_searches=3)
    assert price("claude-sonnet-5").cost(usage) == pytest.approx(2.03)
    assert price("claude-sonnet-5").cost(usage, batch=True) == pytest.approx(1.03)


@pytest.mark.parametrize(
    "model",
    ["claude-opus-4-50", "claude-haiku-4-5-turbo", "anthropic/claude-haiku-4.5", "gpt-5", "", "claude", "CLAUDE-X"],
)
def test_a_name_that_is_not_a_models_own_has_no_price(model: str) -> None:
    assert price_of(model, today=TODAY) is None


def test_what_a_price_has_no_figure_for_is_unknown_not_free() -> None:
    assert price("claude-haiku-4-5").cost(Usage(10, 10, speed="fast")) is None
    assert price("claude-sonnet-5").cost(Usage(10, 10, geo="moon")) is None


def test_a_price_says_of_which_day_it_is_and_where_from() -> None:
    assert price("claude-haiku-4-5").priced_at == "2026-11-25 genai-prices 0.2.3"
    assert price("claude-mythos-5").priced_at == "2026-11-25 batchrunner 2026-11-22"


def test_an_endpoint_may_multiply_the_list() -> None:
    dear = price("claude-opus-5-5", OwnPrices(1.2, name="relay"))
    usage = Usage(1000, 1000, 500, 500, 100, speed="fast")
    expected = price("claude-opus-5-5").cost(usage)
    assert expected is not None
    assert dear.cost(usage) == pytest.approx(1.2 * expected)
    assert dear.priced_at == "2026-11-25 genai-prices 0.2.3, endpoint relay x 1.2"
    assert price("claude-haiku-5-5", OwnPrices(2)).cost(Usage(200_000)) == pytest.approx(0.2)
    assert price_of("gpt-5", own=OwnPrices(1.2), today=TODAY) is None
    assert price("claude-haiku-4-5", OwnPrices(0)).cost(usage=Usage(1000)) == 0


def test_an_endpoint_may_have_figures_of_its_own() -> None:
    own = OwnPrices(
        3, {"qwen": {"input": 0.5, "output": 2, "batch": 1}, "claude-haiku-4-5": {"input": 2, "output": 6}}, "x"
    )
    qwen = price("qwen", own)
    assert figures(qwen.rates) == (0.5, 2, 0.625, 1, 0.05)
    assert qwen.cost(Usage(MTOK), batch=True) == 0.5
    assert qwen.priced_at == "2026-11-25 endpoint x"
    assert price("claude-haiku-4-5", own).cost(Usage(MTOK)) == 2
    assert price("claude-opus-5", own).cost(Usage(MTOK)) == pytest.approx(15)


TOKENS = st.integers(0, 2_000_000)


@given(
    model=st.sampled_from(sorted(PUBLISHED)),
    usage=st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS),
    batch=st.booleans(),
)
def test_the_cost_is_the_sum_of_its_parts_to_the_last_fraction_of_a_cent(model: str, usage: Usage, batch: bool) -> None:
    standard = [Fraction(str(figure)) for figure in PUBLISHED[model]]
    if model == "claude-haiku-5-5" and usage.prompt_tokens > 100_000:
        standard = [5 * figure for figure in standard]
    if model.startswith("claude-sonnet-4-5") and usage.prompt_tokens > 200_000:
        return  # beyond its context
    write, hour = usage.cache_write_tokens // 3, usage.cache_write_tokens
    usage = replace(usage, cache_write_1h_tokens=write)
    kinds = (usage.input_tokens, usage.output_tokens, hour - write, write, usage.cache_read_tokens)
    exact = sum((figure * count for figure, count in zip(standard, kinds, strict=True)), Fraction()) / MTOK
    cost = price(model).cost(usage, batch=batch)
    assert cost is not None
    assert abs(Fraction(cost) - (exact / 2 if batch else exact)) < Fraction(1, 10**12)


def test_prices_are_looked_up_without_the_network_and_the_package_is_loaded_when_asked() -> None:
    program = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import batchrunner.prices\n"
        "assert 'genai_prices' not in sys.modules and 'pydantic' not in sys.modules\n"
        "from datetime import date\n"
        "assert batchrunner.prices.price_of('claude-haiku-4-5', today=date(2026, 11, 25)) is not None\n"
        "import threading; assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
