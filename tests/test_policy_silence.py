"""Nothing comes back: when that is noticed, what it holds up, and what ends it."""

import pytest

from batchrunner.policy.silence import NOTICED_S, TRY_S, Silence

SHORT = 256.0  # tokens: nine seconds at the slowest


def swallowed(count: int = 5, tokens: float = SHORT) -> Silence:
    """Return the state of affairs after so many calls went out at 0 and nothing came back."""
    silence = Silence()
    for call in range(count):
        silence.sent(0.0, call, tokens)
    silence.look(NOTICED_S - 1)
    assert (silence.since, silence.is_open) == (None, False)
    silence.look(NOTICED_S)
    return silence


def test_two_minutes_without_a_word_are_noticed_and_hold_up_sending() -> None:
    silence = swallowed()
    assert (silence.since, silence.is_open, silence.calls) == (0.0, True, 5)
    assert silence.overdue == 5


def test_nothing_out_is_no_silence() -> None:
    silence = Silence()
    silence.look(10_000.0)
    assert silence.since is None
    silence.sent(10_000.0, "a", SHORT)
    silence.look(10_000.0 + NOTICED_S - 1)
    assert silence.since is None


def test_a_row_that_hangs_while_others_come_back_is_no_silence() -> None:
    silence = Silence()
    silence.sent(0.0, "hangs", SHORT)
    for second in range(0, 3600, 60):
        silence.sent(second, second, SHORT)
        silence.came_back(second + 30.0, second, is_answer=True, is_heard=True)
        silence.look(second + 59.0)
        assert silence.since is None


def test_long_answers_are_told_and_do_not_hold_up_sending() -> None:
    silence = swallowed(tokens=16_000.0)
    assert (silence.since, silence.is_open) == (0.0, False)
    silence.look(16_000 / 30 - 1)
    assert silence.admit_at(530.0) == 530.0
    silence.look(16_000 / 30)
    assert silence.is_open


def test_where_answers_take_minutes_a_silence_is_longer() -> None:
    silence = Silence()
    silence.sent(0.0, "slow", SHORT)
    silence.came_back(200.0, "slow", is_answer=True, is_heard=True)
    silence.sent(200.0, "next", SHORT)
    silence.look(599.0)
    assert silence.since is None
    silence.look(600.0)
    assert silence.since == 200.0


def test_a_try_goes_out_now_and_then_and_takes_nobodys_place() -> None:
    silence, now = swallowed(), NOTICED_S
    for number in range(3):
        assert silence.admit_at(now) == now
        assert silence.wants_probe(now) == (number == 0), "one at a time where another endpoint does the work"
        silence.reserve(now)
        assert silence.admit_at(now) == now + TRY_S
        silence.sent(now, f"try {number}", SHORT)
        assert silence.overdue == silence.calls
        now += TRY_S
    silence.came_back(now, "try 0", is_answer=False, is_heard=False)
    assert silence.is_open, "its time has run out: that is no word"
    assert silence.overdue == silence.calls == 7


@pytest.mark.parametrize("is_answer", [False, True])
def test_any_word_ends_it(is_answer: bool) -> None:
    silence = swallowed()
    silence.came_back(130.0, 3, is_answer=is_answer, is_heard=True)
    assert (silence.since, silence.is_open, silence.overdue) == (None, False, 0)
    assert silence.admit_at(130.0) == 130.0


def test_what_it_swallowed_holds_no_place_once_a_later_call_was_answered() -> None:
    silence = swallowed()
    silence.sent(125.0, "try", SHORT)
    silence.came_back(127.0, "try", is_answer=True, is_heard=True)
    assert (silence.since, silence.overdue, silence.calls) == (None, 5, 5)
    silence.sent(128.0, "ordinary", SHORT)
    silence.came_back(129.0, "ordinary", is_answer=True, is_heard=True)
    assert silence.overdue == 5
    silence.came_back(600.0, 0, is_answer=False, is_heard=False)
    assert silence.overdue == 4
    silence.came_back(601.0, 1, is_answer=True, is_heard=True)
    assert silence.overdue == 0, "they were being worked on after all"


def test_a_streamed_answer_that_has_begun_is_no_silence_and_ends_one() -> None:
    """What becomes of it after that is the matter of its own idle time."""
    silence = Silence()
    silence.sent(0.0, "stream", SHORT)
    silence.begun(3.0, "stream")
    silence.look(3600.0)
    assert (silence.since, silence.calls) == (None, 0)
    silence.came_back(3600.0, "stream", is_answer=True, is_heard=True)
    silence = swallowed()
    silence.sent(125.0, "try", SHORT)
    silence.begun(126.0, "try")
    assert (silence.since, silence.is_open, silence.overdue) == (None, False, 5)
    silence.came_back(130.0, "try", is_answer=True, is_heard=True)
    assert silence.overdue == 5, "the same try, and not one of those"


def test_deadlines_that_pass_do_not_end_it() -> None:
    silence = swallowed()
    for call in range(5):
        silence.came_back(600.0, call, is_answer=False, is_heard=False)
    assert silence.is_open
    assert silence.admit_at(600.0) == NOTICED_S, "the next try"


def test_a_machine_that_slept_could_not_hear() -> None:
    silence = swallowed()
    silence.suspended(5000.0)
    assert silence.since is None
    silence.look(5000.0 + NOTICED_S - 1)
    assert silence.since is None
    silence.look(5000.0 + NOTICED_S)
    assert silence.since == 5000.0


def test_calls_that_are_not_known_change_nothing() -> None:
    silence = swallowed()
    silence.came_back(130.0, "never sent", is_answer=False, is_heard=True)
    assert silence.is_open
