"""Kills at random instants, in a small number; `make soak` does a thousand."""

from pathlib import Path

import pytest

from faults.kills import LEVELS, SLOTS, chains, random_kills

KILLS = 25
CHAINS = 2


@pytest.mark.slow
def test_random_kills_lose_nothing_that_was_said_to_be_saved(tmp_path: Path) -> None:
    verdicts = list(random_kills(tmp_path, kills=KILLS, seed=1))
    assert sum(verdict.kills for verdict in verdicts) == KILLS
    # The rest was saved, and its run killed before it could say so.
    assert all(verdict.requests - KILLS * SLOTS <= verdict.acknowledged for verdict in verdicts)
    assert any(verdict.paid_twice for verdict in verdicts), "no kill hit a call in flight"


def test_kills_of_what_resumes_add_nothing_beyond_what_was_in_flight(tmp_path: Path) -> None:
    verdicts = list(chains(tmp_path, count=CHAINS, seed=2))
    assert [verdict.kills for verdict in verdicts] == [1 + LEVELS] * CHAINS
