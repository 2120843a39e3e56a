"""Servers that reserve `max_tokens` are told from those that count what is produced by their refusals."""

from batchrunner.policy.reserving import EPISODE_S, PROBATION, SENDS, ReservingWatch


def test_one_refusal_in_two_hundred_sends_is_chance() -> None:
    watch = ReservingWatch()
    for n in range(1, 20):
        assert not watch.refused(n * 1000.0, n * SENDS)
    assert not watch.is_on


def test_a_second_one_within_two_hundred_sends_turns_it_on_once() -> None:
    watch = ReservingWatch()
    assert not watch.refused(0.0, 100)
    assert watch.refused(EPISODE_S + 1, 100 + SENDS - 1)
    assert watch.is_on
    assert not watch.refused(100.0, 320), "it is on already"


def test_refusals_that_come_together_are_one_episode() -> None:
    watch = ReservingWatch()
    for n in range(50):
        assert not watch.refused(n * (EPISODE_S - 1), 100 + n)


def test_it_goes_off_after_as_many_sends_without_a_refusal_and_twice_as_many_the_next_time() -> None:
    watch = ReservingWatch()
    assert not watch.is_over(10**6)
    watch.refused(0.0, 10)
    watch.refused(30.0, 20)
    assert not watch.is_over(20 + PROBATION - 1)
    watch.refused(60.0, 100)
    assert not watch.is_over(100 + PROBATION - 1), "a refusal begins the probation anew"
    assert watch.is_over(100 + PROBATION)
    assert not watch.is_on
    assert not watch.is_over(10**6)
    watch.refused(1000.0, 400)
    assert not watch.is_on, "what was before is forgotten"
    assert watch.refused(1030.0, 410)
    assert not watch.is_over(410 + 2 * PROBATION - 1)
    assert watch.is_over(410 + 2 * PROBATION)
