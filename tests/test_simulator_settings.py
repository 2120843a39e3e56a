"""What may be written after `--simulate`, and what comes of it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import UsageError
from batchrunner.simulator.chance import Shape, Spread, draw
from batchrunner.simulator.settings import Quota, SimulatorSettings, parse_spec
from batchrunner.simulator.shares import Tenant


def test_an_empty_spec_is_the_defaults() -> None:
    assert parse_spec("") == SimulatorSettings()


def test_every_setting_is_read() -> None:
    settings = parse_spec(
        "latency=0.5..2, rpm=4000, itpm=2e6, otpm=400000, bucket_s=10, strict=1, seed=7, key=sk-test, "
        "output_tokens=lognormal:50..1000, retry_after=0.25, concurrency=9, outage=10..70, 429=0.02,reset=0.01, "
        "tenant=75..195:0.5, output_limit=reserved, accelerate=60, headers=0"
    )
    assert settings == SimulatorSettings(
        latency=Spread(0.5, 2.0),
        requests=Quota(4000),
        input_tokens=Quota(2_000_000),
        output_tokens_limit=Quota(400_000),
        concurrency=9,
        outage=Spread(10, 70),
        bucket_s=10,
        strict=True,
        seed=7,
        api_key="sk-test",
        output_tokens=Spread(50, 1000, Shape.LOGNORMAL),
        retry_after_s=0.25,
        faults={"429": 0.02, "reset": 0.01},
        tenant=Tenant(75, 195, 0.5),
        reserve_output=True,
        accelerate_s=60,
        limit_headers=False,
    )


def test_a_tenant_may_stay_for_good() -> None:
    assert parse_spec("tenant=75..:0.25").tenant == Tenant(75, math.inf, 0.25)


@pytest.mark.parametrize(
    ("text", "quota"),
    [("600/10s", Quota(600, 10)), ("10/s", Quota(10, 1)), ("4000/min", Quota(4000, 60)), ("9/0.5h", Quota(9, 1800))],
)
def test_a_rate_names_its_period(text: str, quota: Quota) -> None:
    assert parse_spec(f"rate={text}").requests == quota


@pytest.mark.parametrize(
    "spec",
    [
        "latency",
        "latency=",
        "latency=fast",
        "latency=2..1",
        "latency=nan",
        "latency=-1",
        "latency=normal:1..2",
        "latency=lognormal:0..2",
        "rpm=0",
        "rpm=inf",
        "rpm=1,rate=1/s",
        "rate=600",
        "rate=600/10",
        "rate=/s",
        "rate=1/0s",
        "strict=yes",
        "concurrency=0",
        "outage=5",
        "outage=9..1",
        "seed=1.5",
        "tenant=0.5",
        "tenant=75:0.5",
        "tenant=..75:0.5",
        "tenant=9..1:0.5",
        "tenant=1..9:1.5",
        "tenant=1..:1",
        "output_limit=1",
        "accelerate=0",
        "headers=no",
        "429=1.5",
        "429=x",
        "429=0.6,500=0.6",
        "429=0.1,429=0.1",
        "seed=1,seed=1",
    ],
)
def test_nonsense_is_a_usage_error(spec: str) -> None:
    with pytest.raises(UsageError, match="simulator"):
        parse_spec(spec)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'latancy' is unknown.*latency.*429.*sse_cut"):
        parse_spec("latancy=1")


def test_the_key_is_not_shown() -> None:
    assert "sk-secret" not in repr(parse_spec("key=sk-secret"))


@given(st.text(max_size=60))
def test_any_text_gives_settings_or_a_usage_error(text: str) -> None:
    try:
        settings = parse_spec(text)
    except UsageError:
        return
    assert isinstance(settings, SimulatorSettings)


@given(st.integers(), st.text(), st.integers())
def test_a_draw_is_repeatable_and_below_one(seed: int, body: str, attempt: int) -> None:
    chance = draw(seed, body, attempt)
    assert 0 <= chance < 1
    assert chance == draw(seed, body, attempt)


def test_draws_are_evenly_spread() -> None:
    chances = [draw(1, "body", number) for number in range(2000)]
    assert 0.47 < sum(chances) / len(chances) < 0.53


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(Shape))
def test_a_spread_stays_between_its_ends(chance: float, shape: Shape) -> None:
    assert 1 <= Spread(1, 10, shape).at(chance) <= 10


def test_a_lognormal_spread_has_its_median_at_the_geometric_mean() -> None:
    assert math.isclose(Spread(1, 10, Shape.LOGNORMAL).at(0.5), math.sqrt(10))


def test_a_lognormal_latency_of_1_to_10_s_is_3_9_s_in_the_mean() -> None:
    spread = parse_spec("latency=lognormal:1..10").latency
    drawn = [spread.at(draw(1, "body", number)) for number in range(20_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(3.9, abs=0.1)
