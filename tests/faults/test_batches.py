"""Kills of runs by batches, a few; `pytest -m soak` does fifty at random instants on larger jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.batch_kills import WISHES, killed_at, random_kills
from faults.lives import Nursery, nursery


@pytest.fixture(scope="module")
def runs() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


def test_a_kill_around_the_submission_submits_no_batch_twice(tmp_path: Path, runs: Nursery) -> None:
    verdict = killed_at(tmp_path, runs, WISHES, requests=300, size=20)
    assert verdict.kills >= 8
    assert verdict.paid == 300


def test_kills_at_random_instants_lose_no_result(tmp_path: Path, runs: Nursery) -> None:
    verdicts = list(random_kills(tmp_path, runs, kills=4, requests=120, size=20, seed=2))
    assert sum(verdict.kills for verdict in verdicts) >= 2


@pytest.mark.soak
def test_fifty_kills_submit_no_batch_twice_and_lose_no_result(tmp_path: Path, runs: Nursery) -> None:
    named = killed_at(tmp_path / "named", runs, WISHES * 2, requests=2000, size=100)
    verdicts = list(random_kills(tmp_path / "random", runs, kills=34, requests=600, size=50, seed=7))
    assert named.kills + sum(verdict.kills for verdict in verdicts) >= 50
    assert all(verdict.paid == verdict.requests for verdict in (named, *verdicts))
