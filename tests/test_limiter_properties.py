"""The limiter under any traffic: no period ever over the limit, no deadlock, every wait finite. In virtual time."""

import math
import random
from dataclasses import dataclass, field
from itertools import pairwise

import anyio
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.limiter import Admission, Limiter
from batchrunner.model import Attempt, ErrorClass, LimitKind, Outcome, Quota, Usage
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, default_rules
from builders import attempt, failure, success
from virtual import VirtualClock, in_virtual_time

CLOCK = VirtualClock()
#: However many retunes and refusals: what a wait can add up to in these worlds, in seconds.
LONGEST_S = 7200.0


@dataclass
class World:
    """What surrounds one limiter: chance for latencies, outcomes and accidents."""

    limits: Limits
    seed: int
    count: int
    offered: int | None  #: What the endpoint's headers say, from some answer on.
    changes: list[tuple[float, Limits]] = field(default_factory=list)


@dataclass
class Seen:
    """What was sent, and from when on which limits held."""

    sent: list[float] = field(default_factory=list)
    since: dict[float, Rate | None] = field(default_factory=dict)
    offered_at: float = math.inf


async def traffic(world: World) -> Seen:
    """Send as much as the limiter admits; settle in any order; end when all is over."""
    rng, seen = random.Random(world.seed), Seen()
    limiter = Limiter(world.limits, clock=CLOCK, rules=default_rules(), rng=rng)
    limiter.flow.begin(CLOCK.monotonic(), world.count)
    seen.since[CLOCK.monotonic()] = world.limits.rate

    async def one(tried: Attempt, admission: Admission) -> None:
        await anyio.sleep(rng.choice([0.0, 0.0, 0.01, 2.0]))
        if rng.random() < 0.05:
            admission.close()
            return
        admission.mark_sent()
        seen.sent.append(CLOCK.monotonic())
        await anyio.sleep(rng.choice([0.0, 0.5, 5.0, 30.0]))
        answer = outcome(rng, world.offered if rng.random() < 0.5 else None)
        if answer.quotas:
            seen.offered_at = min(seen.offered_at, CLOCK.monotonic())
        admission.learn(tried, answer, 1)

    async def change() -> None:
        began = CLOCK.monotonic()
        for after_s, limits in world.changes:
            await CLOCK.sleep_until(began + after_s)
            limiter.retune(limits)
            seen.since[CLOCK.monotonic()] = limits.rate

    async with anyio.create_task_group() as group:
        group.start_soon(change)
        with anyio.fail_after(LONGEST_S):
            for seq in range(1, world.count + 1):
                tried = attempt(seq, max_tokens=rng.choice([1, 100, 5000]), params="x" * rng.choice([10, 1000, 20_000]))
                await limiter.ready(tried)
                group.start_soon(one, tried, limiter.admit())
                if rng.random() < 0.1:
                    await anyio.sleep(rng.choice([0.1, 20.0, 90.0]))
    return seen


def outcome(rng: random.Random, offered: int | None) -> Outcome:
    quotas = None if offered is None else {LimitKind.REQUESTS: Quota(offered, rng.randrange(offered + 1))}
    if rng.random() < 0.8:
        return success(usage=Usage(rng.randrange(9000), rng.randrange(5000)), quotas=quotas)
    error_class = rng.choice(
        [ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED, ErrorClass.NETWORK, ErrorClass.CONCURRENCY, ErrorClass.INVALID]
    )
    limit = rng.choice([None, *LimitKind]) if error_class is ErrorClass.RATE_LIMITED else None
    return failure(error_class, limit=limit, retry_after_s=rng.choice([None, 0.5, 10.0]), quotas=quotas)


_RATES = st.builds(Rate, st.integers(1, 20), st.sampled_from([1.0, 10.0, 60.0]))
_LIMITS = st.builds(
    Limits,
    st.none() | _RATES,
    st.none() | st.integers(1, 50),
    st.none() | st.integers(20_000, 500_000),
    st.none() | st.integers(5000, 200_000),
    st.booleans(),
)
_WORLDS = st.builds(
    World,
    _LIMITS,
    st.integers(0, 2**32),
    st.integers(1, 80),
    st.none() | st.integers(2, 60),
    st.lists(st.tuples(st.floats(0.0, 120.0), _LIMITS), max_size=4).map(lambda c: sorted(c, key=lambda x: x[0])),
)


@hypothesis_settings(max_examples=120, deadline=None)
@given(_WORLDS)
def test_no_period_holds_more_sends_than_the_limit_that_held_all_through_it(world: World) -> None:
    """Late stamps, given-back places, refusals, outages, retunes, headers, pauses: and every attempt has its turn."""
    seen = in_virtual_time(lambda: traffic(world))
    changes = [*sorted(seen.since.items()), (math.inf, None)]
    for (since, rate), (until, _) in pairwise(changes):
        if rate is not None:
            # What was admitted under the limit before may still be on its way to the wire for two seconds.
            assert_kept(seen.sent, since + 2.1, until, rate.count, rate.period_s)
    if world.offered is not None:
        assert_kept(seen.sent, seen.offered_at + 2.1, math.inf, world.offered, 60.0)


def assert_kept(sent: list[float], since: float, until: float, count: int, period_s: float) -> None:
    """No period that ends between *since* and *until* holds more, unless what was sent before *since* fills it."""
    for n, at in enumerate(sent):
        if since <= at < until:
            recent = [instant for instant in sent[: n + 1] if instant > at - period_s]
            before = sum(instant <= since for instant in recent)
            assert len(recent) <= max(count, before)
