"""One lane's flow control as a whole: what each outcome teaches, and that there is always a next start."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batchrunner.model import ErrorClass, LimitKind, Outcome, Quota, Usage
from batchrunner.policy.breaker import OUTAGE
from batchrunner.policy.flow import Around, Flow, Place
from batchrunner.policy.holdups import Reason
from batchrunner.policy.judge import GATED, NOTHING
from batchrunner.policy.reserving import EPISODE_S, PROBATION
from batchrunner.policy.window import Rate
from batchrunner.settings import default_rules
from builders import attempt, failure, success

RATE = Rate.parse("6000/min")
ASKING = attempt(max_tokens=1000)
ALONE = Around(1)


def flow_of(
    rate: Rate | None = RATE, itpm: int | None = None, otpm: int | None = None, *, cap: int = 500, cautious: int = 50
) -> Flow:
    return Flow(rate, itpm, otpm, cap=cap, cautious_cap=cautious, rules=default_rules(), rng=random.Random(1))


def sent(flow: Flow, now: float, **fields: Any) -> Place:
    place = flow.place_for(attempt(**({"max_tokens": 1000} | fields)))
    flow.reserve(now, place)
    flow.sent(now, place)
    return place


def learn(flow: Flow, now: float, outcome: Outcome, place: Place | None = None, **fields: Any) -> Any:
    place = place or sent(flow, now - 1.0)
    return flow.learn(now, attempt(**({"max_tokens": 1000} | fields)), outcome, place, ALONE)


def used(output_tokens: int, input_tokens: int = 10, cache_write: int = 0, cache_read: int = 0) -> Outcome:
    return success(usage=Usage(input_tokens, output_tokens, cache_write, cache_read))


# Admission.


def test_the_latest_of_all_instants_counts_and_is_named() -> None:
    flow = flow_of(Rate(1, 60.0), itpm=60, otpm=60)
    assert flow.admit_at(0.0, flow.place_for(ASKING)).at == 0.0
    place = sent(flow, 0.0)
    assert flow.admit_at(0.0, flow.place_for(ASKING)).reason is Reason.OUTPUT_TOKENS
    flow.learn(0.0, ASKING, used(0, 0), place, ALONE)
    permit = flow.admit_at(0.0, flow.place_for(ASKING))
    assert permit.at == pytest.approx(60.25)
    assert permit.reason is Reason.REQUESTS
    learn(flow, 30.0, failure(ErrorClass.RATE_LIMITED, retry_after_s=100.0), sent(flow, 29.0))
    assert flow.admit_at(30.0, flow.place_for(ASKING)) == (130.0, Reason.REFUSED)


def test_a_request_larger_than_the_minute_is_impossible_and_both_figures_are_told() -> None:
    flow = flow_of(itpm=1000)
    large = attempt(params="x" * 32_000)
    why = flow.impossible(large)
    assert why is not None
    assert "at least 4,000 input tokens" in why
    assert "1,000 per minute" in why
    assert flow.impossible(attempt()) is None
    assert flow.impossible(attempt(params="x" * 7_900)) is None, "in doubt the API decides"


def test_a_large_request_that_the_cache_may_hold_is_sent() -> None:
    """What the cache delivers counts for nothing, as the answers before it have shown."""
    flow = flow_of(itpm=1000)
    body = "x" * 32_000
    for n in range(200):
        learn(flow, 1.0 + n, used(10, 20, 0, 9_980), sent(flow, 1.0 + n, params=body), params=body)
    assert flow.impossible(attempt(params=body)) is None


# What outcomes teach.


def test_tokens_are_settled_with_what_the_limits_count() -> None:
    """What the cache wrote counts, what it read does not."""
    flow = flow_of(itpm=6000, otpm=6000)
    place = sent(flow, 0.0)
    learn(flow, 1.0, used(30, 40, cache_write=50, cache_read=10_000), place)
    tally = flow.holdups.total
    assert (tally.sent, tally.input_tokens, tally.output_tokens) == (1, 90, 30)
    assert flow.inputs.admit_at(1.0, 500.0) == pytest.approx(1.0 + (90 - place.input_tokens) / 100)
    assert flow.outputs.admit_at(1.0, 500.0) == 1.0, "a thousand were reserved, thirty used"


def test_where_a_gateway_tells_no_usage_it_is_guessed() -> None:
    flow = flow_of()
    learn(flow, 1.0, success("x" * 320, usage=Usage()))
    assert flow.holdups.total.output_tokens == 100
    assert flow.holdups.total.input_tokens > 0
    assert flow.place_for(ASKING).output_tokens == 1000, "a guess teaches nothing"


@pytest.mark.parametrize(("paid", "comes_back"), [(True, False), (False, True)])
def test_an_answer_that_was_lost_has_used_what_it_reserved_and_a_refusal_nothing(paid: bool, comes_back: bool) -> None:
    flow = flow_of(otpm=6000)
    place = sent(flow, 0.0)
    flow.learn(0.0, ASKING, failure(ErrorClass.NETWORK, possibly_paid=paid), place, ALONE)
    assert (flow.outputs.admit_at(0.0, 500.0) == 0.0) is comes_back


def test_a_flawed_answer_counts_as_what_it_cost() -> None:
    flow = flow_of(otpm=6000)
    answer = success(usage=Usage(10, 700))
    learn(flow, 1.0, failure(ErrorClass.BAD_RESPONSE, answer=answer))
    assert flow.holdups.total.output_tokens == 700


@pytest.mark.parametrize("kind", [LimitKind.INPUT_TOKENS, LimitKind.OUTPUT_TOKENS])
def test_a_refusal_cuts_the_limit_that_it_names_and_no_other(kind: LimitKind) -> None:
    flow = flow_of(itpm=6000, otpm=6000)
    lesson = learn(flow, 10.0, failure(ErrorClass.RATE_LIMITED, limit=kind, retry_after_s=7.0))
    assert (lesson.excused, lesson.retry_at) == (True, 17.0)
    assert flow.inputs.is_cut(10.0) is (kind is LimitKind.INPUT_TOKENS)
    assert flow.outputs.is_cut(10.0) is (kind is LimitKind.OUTPUT_TOKENS)
    assert flow.requests.pace(10.0) == (RATE.per_second, Reason.REQUESTS)


@pytest.mark.parametrize("kind", [None, LimitKind.REQUESTS, LimitKind.OUTPUT_TOKENS])
def test_a_refusal_that_names_no_limit_we_keep_cuts_the_rate_of_requests(kind: LimitKind | None) -> None:
    flow = flow_of()
    learn(flow, 10.0, failure(ErrorClass.RATE_LIMITED, limit=kind))
    assert flow.requests.pace(10.0)[1] is Reason.LEARNED


def test_one_row_under_suspicion_is_refused_without_harm_to_the_others() -> None:
    """Refused again and again while the lane flows: it waits by itself, and nothing is cut."""
    flow = flow_of(otpm=6000)
    refusal = failure(ErrorClass.RATE_LIMITED, limit=LimitKind.OUTPUT_TOKENS, retry_after_s=30.0)
    lesson = flow.learn(10.0, ASKING, refusal, sent(flow, 9.0), Around(50, is_suspect=True))
    assert (lesson.excused, lesson.retry_at) == (True, 40.0)
    assert flow.gate.open_at == -math.inf
    assert not flow.outputs.is_cut(10.0)
    assert flow.holdups.total.refused == 1


def test_too_many_at_once_without_a_time_costs_slots_and_closes_no_gate() -> None:
    flow = flow_of()
    lesson = flow.learn(10.0, ASKING, failure(ErrorClass.CONCURRENCY), sent(flow, 9.0), Around(100))
    assert lesson.excused
    assert lesson.retry_at > 10.0
    assert flow.gate.open_at == -math.inf
    assert flow.room(10.0) == 80


def test_a_ramp_refusal_slows_the_growth_and_one_of_too_many_at_once_the_slots_and_neither_the_rate() -> None:
    flow = flow_of()
    learn(flow, 10.0, failure(ErrorClass.RAMP))
    pace, reason = flow.requests.pace(10.0)
    assert pace == pytest.approx(RATE.per_second / 2)
    assert reason is Reason.RAMP
    flow = flow_of()
    assert flow.room(10.0) == 500
    flow.learn(10.0, ASKING, failure(ErrorClass.CONCURRENCY), sent(flow, 9.0), Around(100))
    assert flow.room(10.0) == 80
    assert flow.requests.pace(10.0) == (RATE.per_second, Reason.REQUESTS)


def test_repeated_refusals_for_output_tokens_reserve_max_tokens_until_it_goes_well_for_long() -> None:
    flow = flow_of(otpm=60_000)
    for n in range(40):
        learn(flow, float(n), used(20), sent(flow, n - 1.0))
    assert flow.place_for(ASKING).output_tokens == 20
    refusal = failure(ErrorClass.RATE_LIMITED, limit=LimitKind.OUTPUT_TOKENS)
    learn(flow, 100.0, refusal)
    assert flow.place_for(ASKING).output_tokens == 20, "one is chance"
    learn(flow, 100.0 + EPISODE_S + 2, refusal)
    assert flow.place_for(ASKING).output_tokens == 1000
    for n in range(PROBATION):
        learn(flow, 200.0 + n, used(20))
    assert flow.place_for(ASKING).output_tokens == 20


def test_what_is_in_flight_gives_back_what_the_first_answers_show_it_will_not_need() -> None:
    """Otherwise it would come back bit by bit, and more would start than the server's bucket holds."""
    flow = flow_of(otpm=60_000)
    under_way = [sent(flow, 0.0, max_tokens=4000) for _ in range(10)]
    learn(flow, 1.0, used(10), under_way.pop())
    assert all(place.output_tokens == 160 for place in under_way)
    for place in under_way:
        flow.learn(2.0, ASKING, used(10), place, ALONE)
    assert flow.outputs.admit_at(2.0, 5000.0) == pytest.approx(2.0, abs=0.2)


# Outages.


def fail_five(flow: Flow, now: float) -> list[Any]:
    return [
        flow.learn(now, attempt(seq), failure(ErrorClass.OVERLOADED), sent(flow, now - 0.1), Around(5))
        for seq in range(1, 6)
    ]


def test_failures_are_excused_from_the_moment_an_outage_is_noticed() -> None:
    flow = flow_of()
    lessons = fail_five(flow, 10.0)
    assert lessons[:4] == [NOTHING] * 4
    assert lessons[4].excused
    assert lessons[4].retry_at == 10.0
    place = flow.place_for(ASKING)
    assert flow.admit_at(10.0, place).reason is Reason.OUTAGE
    late = flow.learn(10.5, attempt(6), failure(ErrorClass.OVERLOADED), sent(flow, 9.0), ALONE)
    assert late.excused
    assert late.retry_at > 10.5 + 5.0, "another row is the next probe"


@pytest.mark.parametrize("error_class", sorted(GATED))
def test_a_refusal_shows_neither_an_outage_nor_its_end(error_class: ErrorClass) -> None:
    """An overloaded endpoint mixes 529 and 429; were each 429 its end, rows would use up their attempts between them."""
    flow = flow_of()
    for n in range(4):
        assert not learn(flow, 10.0, failure(ErrorClass.OVERLOADED), seq=n).excused
        learn(flow, 10.0, failure(error_class, retry_after_s=1.0), seq=10 + n)
    assert learn(flow, 10.0, failure(ErrorClass.OVERLOADED), seq=4).excused
    probe = flow.place_for(ASKING)
    flow.reserve(13.0, probe)
    flow.sent(13.0, probe)
    lesson = flow.learn(13.2, ASKING, failure(error_class, retry_after_s=1.0), probe, ALONE)
    assert lesson.excused
    assert 13.2 < flow.admit_at(13.2, flow.place_for(ASKING)).at <= 16.0, "the next probe goes out all the same"
    assert flow.breaker.opened_at == 10.0
    learn(flow, 17.0, success(), sent(flow, 16.0))
    assert not flow.breaker.is_open


def test_after_an_outage_the_way_back_is_short_but_stepwise() -> None:
    flow = flow_of()
    fail_five(flow, 10.0)
    probe = sent(flow, 13.0)
    flow.learn(13.2, ASKING, success(), probe, ALONE)
    assert flow.requests.pace(13.2)[1] is Reason.RAMP
    assert flow.requests.pace(20.0) == (RATE.per_second, Reason.REQUESTS)


def test_it_is_known_since_when_nothing_was_answered() -> None:
    flow = flow_of()
    before = flow.stuck_since
    assert before is None
    learn(flow, 5.0, failure(ErrorClass.NETWORK))
    learn(flow, 9.0, failure(ErrorClass.RATE_LIMITED))
    assert flow.stuck_since == 5.0
    learn(flow, 10.0, failure(ErrorClass.INVALID))
    after = flow.stuck_since
    assert after is None, "any answer about the request is one"


def test_what_could_not_be_sent_gives_its_place_back_and_still_tells_of_an_outage() -> None:
    flow = flow_of(Rate(1, 60.0))
    for seq in range(1, 6):
        place = flow.place_for(ASKING)
        flow.reserve(10.0, place)
        lesson = flow.learn(10.1, attempt(seq), failure(ErrorClass.NETWORK), place, ALONE)
    assert lesson.excused
    assert flow.requests.admit_at(10.1) == 10.1
    assert flow.requests.sends == 0


def test_a_limit_on_input_tokens_that_the_answer_itself_exceeds_is_not_believed() -> None:
    """A gateway forges its headers. No row may fail as too large for such a minute, nor wait for it."""
    flow = flow_of()
    forged = {LimitKind.INPUT_TOKENS: Quota(5, 5), LimitKind.OUTPUT_TOKENS: Quota(8000, None)}
    learn(flow, 1.0, replace(used(20, 300), quotas=forged))
    assert flow.inputs.per_minute is None
    assert flow.outputs.per_minute == 8000
    learn(flow, 2.0, replace(used(20, 5), quotas=forged))
    assert flow.inputs.per_minute == 5


def test_a_machine_that_slept_comes_back_slowly_and_blames_nobody() -> None:
    flow = flow_of()
    places = [sent(flow, 9.0) for _ in range(20)]
    flow.suspended(100.0)
    assert flow.requests.pace(100.0)[1] is Reason.RAMP
    unlimited = flow_of(None)
    assert unlimited.room(9.0) == 5
    assert unlimited.room(100.0) == 50
    unlimited.suspended(100.0)
    assert unlimited.room(100.0) == 5
    for seq, place in enumerate(places):
        assert flow.learn(100.5, attempt(seq), failure(ErrorClass.NETWORK), place, ALONE).excused
    assert not flow.breaker.is_open


# Whatever happens.

_OUTCOMES: list[Outcome] = [
    success(),
    success(usage=Usage()),
    used(60_000, 100_000),
    failure(ErrorClass.BAD_RESPONSE, answer=success()),
    failure(ErrorClass.NETWORK, possibly_paid=True),
    failure(ErrorClass.OVERLOADED),
    failure(ErrorClass.INVALID),
    failure(ErrorClass.CONCURRENCY),
    failure(ErrorClass.RAMP, retry_after_s=5.0),
    *(failure(ErrorClass.RATE_LIMITED, limit=kind, retry_after_s=3.0) for kind in (None, *LimitKind)),
    success(quotas={LimitKind.REQUESTS: Quota(7, 0), LimitKind.OUTPUT_TOKENS: Quota(900, None)}),
    success(quotas={LimitKind.REQUESTS: Quota(50_000, 1), LimitKind.INPUT_TOKENS: Quota(10**9, 3)}),
]
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "sent", "sent", "learn", "give back", "retune", "suspend"]),
        st.floats(-10.0, 40.0),
        st.integers(0, 1000),
        st.sampled_from(_OUTCOMES),
    ),
    max_size=100,
)


class Life:
    """A flow, what holds a place in it, and what is on its way, at an instant that may go back."""

    def __init__(self, otpm: int | None) -> None:
        self.flow = flow_of(Rate(20, 10.0), otpm=otpm)
        self.now = self.latest = 0.0
        self.held: list[Place] = []
        self.out: list[Place] = []

    def step(self, what: str, wait_s: float, which: int, outcome: Outcome) -> None:
        self.now += wait_s
        self.latest = max(self.latest, self.now)
        match what:
            case "reserve":
                self.reserve(which)
            case "sent" if self.held:
                self.out.append(self.held.pop(which % len(self.held)))
                self.flow.sent(self.now, self.out[-1])
            case "learn" if self.out:
                self.settle(self.out.pop(which % len(self.out)), outcome, which)
            case "give back" if self.held:
                self.flow.give_back(self.now, self.held.pop(which % len(self.held)))
            case "retune":
                self.flow.requests.retune(Rate(1 + which % 40, 10.0) if which % 3 else None)
                self.flow.outputs.retune(self.now, 1 + which * 100 if which % 2 else None)
            case "suspend":
                self.flow.suspended(self.now)

    def reserve(self, which: int) -> None:
        place = self.flow.place_for(attempt(which, max_tokens=1 + which * 30))
        if self.flow.admit_at(self.now, place).at <= self.now:
            self.flow.reserve(self.now, place)
            self.held.append(place)

    def settle(self, place: Place, outcome: Outcome, which: int) -> None:
        around = Around(1 + len(self.out), is_suspect=not which % 5)
        lesson = self.flow.learn(self.now, attempt(which), outcome, place, around)
        assert lesson.retry_at < self.latest + 400.0

    def end(self) -> None:
        for place in self.held:
            self.flow.give_back(self.now, place)
        for place in self.out:
            self.settle(place, success(), 1)


@hypothesis_settings(max_examples=300, deadline=None)
@given(_STEPS, st.none() | st.integers(1, 10**6))
def test_there_is_always_a_next_start_and_nothing_stays_reserved_in_the_end(
    steps: list[tuple[str, float, int, Outcome]], otpm: int | None
) -> None:
    """Only places that wait for their stamp can make the next instant infinite; each is stamped or given back."""
    life = Life(otpm)
    for step in steps:
        life.step(*step)
        permit = life.flow.admit_at(life.now, life.flow.place_for(ASKING))
        assert permit.at >= life.now
        assert permit.at < math.inf or life.held
        assert life.flow.room(life.now) >= 1
    life.end()
    assert life.flow.admit_at(life.now, life.flow.place_for(ASKING)).at < math.inf
    assert not life.flow._places
    assert life.flow.outputs._reserved == pytest.approx(0.0, abs=1e-3)
    assert life.flow.inputs._reserved == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("error_class", sorted(set(ErrorClass) - GATED - OUTAGE))
def test_failures_of_a_request_itself_teach_the_lane_nothing(error_class: ErrorClass) -> None:
    flow = flow_of()
    for n in range(30):
        assert learn(flow, 10.0 + n / 100, failure(error_class)) == NOTHING
    assert flow.admit_at(11.0, flow.place_for(ASKING)).at == 11.0
    assert flow.requests.pace(11.0) == (RATE.per_second, Reason.REQUESTS)
