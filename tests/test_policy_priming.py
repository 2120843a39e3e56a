"""Who goes first, who waits for how long, and what is known of the cache."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.model import Usage
from batchrunner.policy.prefixes import Mark
from batchrunner.policy.priming import MARGIN_S, MOST_PREFIXES, PATIENCE_S, Priming

A, B = Mark("a", 4000, 300.0), Mark("b", 9000, 300.0)
WROTE = Usage(10, 5, cache_write_tokens=1000)
READ = Usage(10, 5, cache_read_tokens=1000)


def test_one_goes_first_and_the_others_wait_until_its_answer_begins() -> None:
    priming = Priming()
    assert priming.hold([A], 0) is None
    assert priming.lacks([A], 0) == ["a"]
    priming.started([A], 1, 0)
    assert priming.hold([A], 1) == ("a", PATIENCE_S)
    assert priming.hold([B], 1) is None
    assert not priming.begun([A], 2, 2)  # somebody else's
    assert priming.hold([A], 2) is not None
    assert priming.begun([A], 1, 2)
    assert priming.hold([A], 2) is None
    assert priming.lacks([A], 2) == []


def test_an_answer_that_arrives_whole_has_begun() -> None:
    priming = Priming()
    priming.started([A], 1, 0)
    assert priming.over([A], 1, 5, WROTE)
    assert priming.hold([A], 5) is None
    assert priming.lacks([A], 5) == []


def test_one_that_fails_hands_over_to_the_next() -> None:
    priming = Priming()
    priming.started([A], 1, 0)
    assert priming.over([A], 1, 1, None)
    assert priming.hold([A], 1) is None
    assert priming.lacks([A], 1) == ["a"]
    priming.started([A], 2, 1)
    assert priming.hold([A], 2) is not None
    assert not priming.over([A], 1, 3, None)  # long over
    assert priming.hold([A], 3) is not None


def test_one_that_is_not_answered_for_long_holds_nobody_up_for_ever() -> None:
    priming = Priming()
    priming.started([A], 1, 0)
    assert priming.hold([A], PATIENCE_S - 1) is not None
    assert priming.hold([A], PATIENCE_S) is None
    priming.started([A], 2, PATIENCE_S)
    assert priming.hold([A], PATIENCE_S + 1) is not None
    assert not priming.begun([A], 1, PATIENCE_S + 2)  # the second one is waited for now
    assert priming.begun([A], 2, PATIENCE_S + 3)


def test_reads_let_an_entry_live_on_and_without_one_it_is_written_anew() -> None:
    priming = Priming()
    priming.started([A], 1, 0)
    priming.begun([A], 1, 1)
    priming.started([A], 2, 250)
    assert priming.lacks([A], 540) == []
    assert priming.lacks([A], 250 + A.lifetime_s - MARGIN_S) == ["a"]
    priming.started([A], 3, 600)
    assert priming.hold([A], 601) is not None


def test_a_shorter_prefix_that_is_being_written_holds_up_a_longer_one() -> None:
    priming = Priming()
    priming.started([A, B], 1, 0)
    hold = priming.hold([A, Mark("c", 9000, 300.0)], 1)
    assert hold is not None
    assert hold.key == "a"
    priming.begun([A, B], 1, 2)
    assert priming.lacks([A, Mark("c", 9000, 300.0)], 2) == ["c"]


def test_a_prefix_that_the_endpoint_does_not_keep_holds_nobody_up() -> None:
    priming = Priming()
    priming.started([A], 1, 0)
    priming.over([A], 1, 1, Usage(1000, 5))
    assert priming.lacks([A], 2) == []
    priming.started([A], 2, 400)
    assert priming.hold([A], 401) is None
    assert priming.kept_chars([A], 401) == 0
    priming.over([A], 2, 402, WROTE)  # it does after all
    assert priming.kept_chars([A], 403) == A.chars


def test_a_gateway_that_counts_nothing_is_given_the_benefit_of_the_doubt() -> None:
    priming = Priming()
    priming.started([A], 1, 0)
    priming.over([A], 1, 1, Usage())
    assert priming.kept_chars([A], 2) == A.chars


def test_what_the_cache_delivers_is_the_longest_prefix_that_is_there() -> None:
    priming = Priming(holds=False)
    assert priming.kept_chars([A, B], 0) == 0
    priming.started([A], 1, 0)
    priming.over([A], 1, 1, WROTE)
    assert priming.kept_chars([A, B], 2) == A.chars
    priming.started([A, B], 2, 2)
    assert priming.hold([A, B], 3) is None  # it holds nobody up
    priming.over([A, B], 2, 3, READ)
    assert priming.kept_chars([A, B], 4) == B.chars


def test_what_nothing_was_sent_for_is_forgotten() -> None:
    priming = Priming()
    for number in range(3 * MOST_PREFIXES):
        priming.started([Mark(str(number), 4000, 300.0)], number, number / 1000)
        priming.begun([Mark(str(number), 4000, 300.0)], number, number / 1000)
    assert len(priming._prefixes) <= MOST_PREFIXES
    assert priming.lacks([Mark(str(3 * MOST_PREFIXES - 1), 4000, 300.0)], 20) == []


@dataclass
class Group:
    """Requests that share one prefix, at a server whose cache is what the test says it is."""

    priming: Priming = field(default_factory=Priming)
    waiting: list[int] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    readable_until: float = -1.0
    writes: list[float] = field(default_factory=list)
    failed_at: list[float] = field(default_factory=list)

    def start_what_may(self, now: float) -> None:
        while self.waiting and self.priming.hold([A], now) is None:
            if self.readable_until <= now:
                self.writes.append(now)
            else:
                self.readable_until = max(self.readable_until, now + A.lifetime_s)
            self.in_flight.append(self.waiting.pop(0))
            self.priming.started([A], self.in_flight[-1], now)

    def end_one(self, now: float, *, failed: bool) -> None:
        if not self.in_flight:
            return
        if failed:
            self.failed_at.append(now)
        else:
            self.readable_until = max(self.readable_until, now + A.lifetime_s)
        self.priming.over([A], self.in_flight.pop(0), now, None if failed else WROTE)


MOVES = st.lists(st.tuples(st.floats(0, 90), st.sampled_from(["arrive", "arrive", "fail", "answer"])), max_size=60)


@settings(deadline=None)
@given(MOVES)
def test_a_prefix_is_written_once_for_each_lifetime_failure_and_loss_of_patience(
    moves: list[tuple[float, str]],
) -> None:
    """Requests arrive at random, are answered or fail at random; whatever may start starts at once."""
    group, now = Group(), 0.0
    for seq, (pause, what) in enumerate(moves):
        now += pause
        if what == "arrive":
            group.waiting.append(seq)
        else:
            group.end_one(now, failed=what == "fail")
        group.start_what_may(now)
    for before, after in zip(group.writes, group.writes[1:], strict=False):
        excused = any(before <= at <= after for at in group.failed_at)
        assert excused or after - before >= min(PATIENCE_S, A.lifetime_s - MARGIN_S)
    assert not group.waiting or group.priming.hold([A], now + PATIENCE_S) is None
