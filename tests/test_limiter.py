"""One lane's limiter in virtual time: hours of traffic in a moment, on the real event loop code."""

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.limiter import CATCH_UP_S, Admission, Limiter
from batchrunner.model import ErrorClass
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, default_rules
from builders import attempt, failure, success
from virtual import VirtualClock, in_virtual_time

CLOCK = VirtualClock()
RULES = default_rules()
REFUSED = failure(ErrorClass.RATE_LIMITED)
ATTEMPT = attempt()


def limiter_of(rate: Rate | None, **limits: Any) -> Limiter:
    return Limiter(Limits(rate, **limits), clock=CLOCK, rules=RULES, rng=random.Random(1))


def next_at(limiter: Limiter) -> float:
    """Return from when on an ordinary attempt may start, as things are."""
    return limiter.flow.admit_at(CLOCK.monotonic(), limiter.flow.place_for(ATTEMPT)).at


async def no_pause(_: int) -> None:
    pass


async def traffic(
    rate: Rate | None,
    count: int,
    *,
    delay_s: Callable[[], float] = lambda: 0.0,
    pause: Callable[[int], Awaitable[None]] = no_pause,
) -> tuple[list[float], list[float]]:
    """Admit *count* attempts, each sent *delay_s* later; return the instants of admission and of sending."""
    limiter = limiter_of(rate)
    admitted: list[float] = []
    sent: list[float] = []

    async def send(admission: Admission, after_s: float) -> None:
        await anyio.sleep(after_s)
        admission.mark_sent()
        sent.append(CLOCK.monotonic())

    async with anyio.create_task_group() as group:
        for n in range(count):
            await pause(n)
            await limiter.ready(ATTEMPT)
            admission = limiter.admit()
            admitted.append(CLOCK.monotonic())
            if after_s := delay_s():
                group.start_soon(send, admission, after_s)
            else:
                admission.mark_sent()
                sent.append(CLOCK.monotonic())
    return admitted, sorted(sent)


def most_in(length_s: float, instants: list[float]) -> int:
    """Return how many of *instants* (sorted) the fullest span of *length_s* holds, both its ends included."""
    first, most = 0, 0
    for last, instant in enumerate(instants):
        while instants[first] < instant - length_s:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_ten_thousand_at_4000_a_minute_keep_the_limit_and_use_it() -> None:
    rate = Rate.parse("4000/min")
    _, sent = in_virtual_time(traffic, rate, 10_000)
    assert most_in(rate.period_s, sent) <= rate.count
    spans = Counter(int((instant - sent[0]) // rate.span_s) for instant in sent)
    assert spans[0] >= 0.99 * rate.count
    assert spans[1] >= 0.99 * rate.count
    assert sent[-1] - sent[0] <= 10_000 / rate.per_second


@pytest.mark.parametrize("text", ["600/10s", "100/s", "50/min"])
def test_the_limit_is_kept_and_used_although_sends_are_held_up(text: str) -> None:
    """Up to half a second lies between admission and wire."""
    rate, rng = Rate.parse(text), random.Random(7)
    _, sent = in_virtual_time(lambda: traffic(rate, 6 * rate.count, delay_s=lambda: rng.uniform(0.0, 0.5)))
    assert most_in(rate.period_s, sent) <= rate.count
    # A held-up send keeps its place for so much longer.
    assert len(sent) / (sent[-1] - sent[0]) >= rate.count / (rate.span_s + 0.6)


def test_starts_are_spread_evenly() -> None:
    rate = Rate.parse("4000/min")
    _, sent = in_virtual_time(traffic, rate, 1000)
    under_way = [instant for instant in sent if instant > sent[0] + 1]
    gaps = [after - before for before, after in pairwise(under_way)]
    assert min(gaps) == pytest.approx(1 / rate.per_second, rel=0.01)
    assert max(gaps) == pytest.approx(1 / rate.per_second, rel=0.01)


@pytest.mark.parametrize("text", ["4000/min", "300/s", "2000/s", "50/min"])
def test_after_a_stall_at_most_a_quarter_of_a_second_is_caught_up(text: str) -> None:
    rate = Rate.parse(text)

    async def stall(n: int) -> None:
        if n in {200, 400}:
            await anyio.sleep(20.0)

    _, sent = in_virtual_time(lambda: traffic(rate, 600, pause=stall))
    assert most_in(0.001, sent) <= (CATCH_UP_S + 0.001) * rate.per_second + 2
    assert most_in(1.0, sent) <= (1.0 + CATCH_UP_S) * rate.per_second + 2


@settings(max_examples=40, deadline=None)
@given(
    st.builds(Rate, st.integers(1, 30), st.sampled_from([0.1, 1.0, 10.0, 60.0, 3600.0])),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.01, 0.3, 2.0]),
)
def test_no_period_holds_more_than_the_limit_whatever_the_traffic(rate: Rate, seed: int, delay_s: float) -> None:
    rng = random.Random(seed)

    async def pause(_: int) -> None:
        if rng.random() < 0.1:
            await anyio.sleep(rng.uniform(0.0, 1.5 * rate.period_s))

    admitted, sent = in_virtual_time(
        lambda: traffic(rate, 4 * rate.count + 3, delay_s=lambda: rng.uniform(0.0, delay_s), pause=pause)
    )
    assert len(sent) == len(admitted) == 4 * rate.count + 3
    assert most_in(rate.period_s, sent) <= rate.count


def test_without_a_rate_nothing_waits() -> None:
    admitted, _ = in_virtual_time(traffic, None, 500)
    assert admitted[-1] - admitted[0] < 0.001


def test_one_an_hour_is_one_an_hour() -> None:
    _, sent = in_virtual_time(traffic, Rate.parse("1/h"), 3)
    assert [round(after - before, 2) for before, after in pairwise(sent)] == [3600.25, 3600.25]


async def admitted_at(limiter: Limiter) -> float:
    (await sent_by(limiter)).mark_sent()
    return CLOCK.monotonic()


async def sent_by(limiter: Limiter) -> Admission:
    await limiter.ready(ATTEMPT)
    admission = limiter.admit()
    admission.mark_sent()
    return admission


@pytest.mark.parametrize("rate", [None, Rate.parse("4000/min")])
@pytest.mark.parametrize("error_class", [ErrorClass.RATE_LIMITED, ErrorClass.CONCURRENCY, ErrorClass.RAMP])
def test_a_refusal_holds_everybody_until_the_servers_time(rate: Rate | None, error_class: ErrorClass) -> None:
    async def scene() -> None:
        limiter = limiter_of(rate)
        sent, sent_at = await sent_by(limiter), CLOCK.monotonic()
        lesson = sent.learn(ATTEMPT, failure(error_class, retry_after_s=30.0), 1)
        assert lesson.excused
        assert limiter.flow.gate.open_at == lesson.retry_at == sent_at + 30.0
        assert await admitted_at(limiter) == pytest.approx(sent_at + 30.0)

    in_virtual_time(scene)


def test_a_gate_that_closes_while_the_next_start_waits_for_its_turn_holds_it() -> None:
    async def scene() -> None:
        limiter = limiter_of(Rate(1, 10.0))
        first, began = await sent_by(limiter), CLOCK.monotonic()
        async with anyio.create_task_group() as group:
            instants: list[float] = []

            async def next_one() -> None:
                instants.append(await admitted_at(limiter))

            group.start_soon(next_one)
            await anyio.sleep(5.0)
            first.learn(ATTEMPT, failure(ErrorClass.RATE_LIMITED, retry_after_s=60.0), 1)
        assert instants == [pytest.approx(began + 65.0)]

    in_virtual_time(scene)


def test_other_failures_close_no_gate() -> None:
    async def scene() -> None:
        limiter = limiter_of(None)
        for error_class in set(ErrorClass) - {ErrorClass.RATE_LIMITED, ErrorClass.CONCURRENCY, ErrorClass.RAMP}:
            (await sent_by(limiter)).learn(ATTEMPT, failure(error_class, retry_after_s=30.0), 1)
        assert limiter.flow.gate.open_at == -math.inf

    in_virtual_time(scene)


def test_refusals_without_a_time_close_for_longer_and_longer_until_one_gets_through() -> None:
    async def scene() -> None:
        limiter, held_s = limiter_of(None), []
        for _ in range(4):
            sent = await sent_by(limiter)
            await anyio.sleep(0.001)
            sent.learn(ATTEMPT, REFUSED, 1)
            held_s.append(limiter.flow.gate.open_at - CLOCK.monotonic())
        assert held_s == pytest.approx([1, 2, 4, 8])
        (await sent_by(limiter)).learn(ATTEMPT, success(), 1)
        await anyio.sleep(0.001)
        (await sent_by(limiter)).learn(ATTEMPT, REFUSED, 1)
        assert limiter.flow.gate.open_at - CLOCK.monotonic() == pytest.approx(1)

    in_virtual_time(scene)


def test_a_place_given_back_admits_the_next_at_once() -> None:
    async def scene() -> None:
        limiter = limiter_of(Rate(1, 60.0))
        await limiter.ready(ATTEMPT)
        held = limiter.admit()
        assert next_at(limiter) == math.inf
        instants: list[float] = []

        async def next_one() -> None:
            instants.append(await admitted_at(limiter))

        async with anyio.create_task_group() as group:
            group.start_soon(next_one)
            await anyio.sleep(90.0)
            assert instants == []
            held.close()
        assert instants == [pytest.approx(1090.0)]

    in_virtual_time(scene)


def test_a_stamp_tells_those_who_wait_when_their_turn_is() -> None:
    async def scene() -> None:
        rate = Rate(1, 60.0)
        limiter = limiter_of(rate)
        await limiter.ready(ATTEMPT)
        held = limiter.admit()
        async with anyio.create_task_group() as group:
            instants: list[float] = []

            async def next_one() -> None:
                instants.append(await admitted_at(limiter))

            group.start_soon(next_one)
            await anyio.sleep(90.0)
            held.mark_sent()
        assert instants == [pytest.approx(1090.0 + rate.span_s)]

    in_virtual_time(scene)


def test_an_admission_counts_once_however_often_it_is_told_of() -> None:
    async def scene() -> None:
        limiter = limiter_of(Rate(2, 60.0))
        await limiter.ready(ATTEMPT)
        sent = limiter.admit()
        for _ in range(3):
            sent.mark_sent()
            sent.close()
        assert sent.sent_at == pytest.approx(1000.0)
        await limiter.ready(ATTEMPT)
        given_back = limiter.admit()
        for _ in range(3):
            given_back.close()
            given_back.mark_sent()
        assert next_at(limiter) == CLOCK.monotonic(), "one stamp of two, nothing held"
        await limiter.ready(ATTEMPT)
        limiter.admit()
        assert next_at(limiter) == pytest.approx(1000.0 + 60.25)

    in_virtual_time(scene)


def test_a_turn_waited_for_is_not_lost_when_no_slot_was_free() -> None:
    """Asking again without starting costs nothing: the pace is one start's, not one question's."""

    async def scene() -> None:
        rate = Rate.parse("10/s")
        limiter = limiter_of(rate)
        for _ in range(50):
            await limiter.ready(ATTEMPT)
        assert CLOCK.monotonic() == pytest.approx(1000.0)
        for _ in range(20):
            await admitted_at(limiter)
        assert CLOCK.monotonic() - 1000.0 <= 20 / rate.per_second

    in_virtual_time(scene)


@pytest.mark.parametrize("after_s", [0.0, 0.05, 5.0, 9.9])
def test_a_wait_that_was_cancelled_can_be_taken_up_again(after_s: float) -> None:
    async def scene() -> None:
        rate = Rate(1, 10.0)
        limiter = limiter_of(rate)
        began = await admitted_at(limiter)
        with anyio.move_on_after(after_s):
            await limiter.ready(ATTEMPT)
        assert await admitted_at(limiter) == pytest.approx(began + rate.span_s)

    in_virtual_time(scene)


async def retuned_traffic(
    rate: Rate | None, changes: list[tuple[float, Rate | None]], until_s: float
) -> list[tuple[float, Rate | None]]:
    """Send all that is admitted for so long, while the rate changes; return each send with the rate in force."""
    limiter, started = limiter_of(rate), CLOCK.monotonic()
    now: list[Rate | None] = [rate]
    sent: list[tuple[float, Rate | None]] = []

    async def change() -> None:
        for at, other in changes:
            await CLOCK.sleep_until(started + at)
            limiter.retune(Limits(other))
            now[0] = other

    async with anyio.create_task_group() as group:
        group.start_soon(change)
        with anyio.move_on_at(started + until_s):
            while True:
                await limiter.ready(ATTEMPT)
                limiter.admit().mark_sent()
                sent.append((CLOCK.monotonic() - started, now[0]))
                await anyio.sleep(0.001)
    return sent


def test_a_higher_rate_is_felt_at_once_by_who_waits_for_the_lower_one() -> None:
    changes: list[tuple[float, Rate | None]] = [(5.0, Rate.parse("100/s"))]
    sent = in_virtual_time(lambda: retuned_traffic(Rate.parse("2/min"), changes, 6.0))
    assert [at for at, _ in sent if at < 5.0] == pytest.approx([0.0], abs=0.01)
    after = [at for at, _ in sent if at >= 5.0]
    assert after[0] == pytest.approx(5.0, abs=0.01)
    assert 95 <= len(after) <= 101


def test_the_full_window_of_a_strict_rate_does_not_hold_up_a_higher_one() -> None:
    """Who waits waits for the window here, not for the pacer."""
    changes: list[tuple[float, Rate | None]] = [(0.5, Rate.parse("100/s"))]
    sent = in_virtual_time(lambda: retuned_traffic(Rate.parse("1/h"), changes, 1.0))
    assert len(sent) >= 45


@pytest.mark.parametrize("auto", [False, True])
def test_without_a_rate_nobody_waits_and_with_one_everybody_does_from_now_on(auto: bool) -> None:
    first = Rate.parse("10/10s")
    changes: list[tuple[float, Rate | None]] = [(1.0, None), (2.0, first)] if auto else [(2.0, first)]
    sent = in_virtual_time(lambda: retuned_traffic(first if auto else None, changes, 12.0))
    free = [at for at, rate in sent if rate is None]
    assert len(free) >= 900
    assert len(sent) - len(free) - 2 * auto <= 11


def test_a_change_gives_nothing_to_catch_up() -> None:
    rate = Rate.parse("100/s")
    changes: list[tuple[float, Rate | None]] = [(2.0, Rate.parse("99/s"))]
    sent = in_virtual_time(lambda: retuned_traffic(Rate.parse("50/s"), changes, 4.0))
    after = [at for at, _ in sent if at >= 2.0]
    assert most_in(0.1, after) <= 0.1 * rate.count + 2
    assert len(after) >= 0.97 * 2 * 99


async def held_by(limiter: Limiter) -> Admission:
    await limiter.ready(ATTEMPT)
    return limiter.admit()


def test_places_reserved_before_there_was_a_window_count_in_it() -> None:
    async def scene() -> None:
        limiter = limiter_of(None)
        under_way = [await held_by(limiter) for _ in range(4)]
        limiter.retune(Limits(Rate.parse("5/10s")))
        assert next_at(limiter) == CLOCK.monotonic()
        fifth = await held_by(limiter)
        assert next_at(limiter) == math.inf
        under_way[0].close()
        assert next_at(limiter) == CLOCK.monotonic()
        for admission in (*under_way[1:], fifth, await held_by(limiter)):
            admission.mark_sent()
        assert CLOCK.monotonic() < next_at(limiter) < math.inf

    in_virtual_time(scene)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(1, 40)), max_size=5),
    st.sampled_from([1.0, 5.0]),
)
def test_no_period_holds_more_than_the_rate_in_force_at_its_end(
    first: int, changes: list[tuple[float, int]], period_s: float
) -> None:
    """Also right after a change to fewer: what was sent before counts."""
    ordered: list[tuple[float, Rate | None]] = [(at, Rate(count, period_s)) for at, count in sorted(changes)]
    sent = in_virtual_time(lambda: retuned_traffic(Rate(first, period_s), ordered, 40.0))
    instants = [at for at, _ in sent]
    for n, (at, rate) in enumerate(sent):
        assert isinstance(rate, Rate)
        assert sum(1 for other in instants[: n + 1] if other > at - period_s) <= rate.count
    last = ordered[-1][0] if ordered else 0.0
    assert any(at > max(last, 40.0 - 2 * period_s) for at in instants), "nobody is admitted any more"


def test_tokens_reserved_before_there_was_a_limit_on_them_count_in_it() -> None:
    """Four requests of 16 output tokens are under way: of a minute's 960, 80 can be spent at once, and one a 1/16 s."""

    async def scene() -> None:
        limiter = limiter_of(Rate.parse("1000/s"))
        under_way = [await held_by(limiter) for _ in range(4)]
        limiter.retune(Limits(Rate.parse("1000/s"), otpm=960))
        assert next_at(limiter) == CLOCK.monotonic()
        await held_by(limiter)
        assert next_at(limiter) == pytest.approx(CLOCK.monotonic() + 1.0, abs=0.01)
        under_way[0].close()
        assert next_at(limiter) == CLOCK.monotonic(), "what was given back is there again"

    in_virtual_time(scene)


def test_another_limit_tells_who_waits_for_tokens() -> None:
    async def scene() -> None:
        limiter = limiter_of(None, otpm=1)
        await held_by(limiter)
        async with anyio.create_task_group() as group:
            instants: list[float] = []

            async def next_one() -> None:
                instants.append(await admitted_at(limiter))

            group.start_soon(next_one)
            await anyio.sleep(30.0)
            assert instants == []
            limiter.retune(Limits(None, otpm=6000))
        assert instants == [pytest.approx(1030.3, abs=0.05)], "the debt and the need at 100 tokens a second"

    in_virtual_time(scene)
