"""A lane between its queue and its dispatcher: nothing due is forgotten, and it holds no more than a claim's worth."""

import random
import sqlite3
from pathlib import Path

import anyio
import pytest

from batchrunner.lane import Lane, utc_stamp
from batchrunner.limiter import Limiter
from batchrunner.model import Attempt, Retry
from batchrunner.settings import Limits, default_rules
from batchrunner.store import queue
from batchrunner.store.changes import Settled, Started
from batchrunner.store.queue import Claim, Claimed, Queue
from builders import AT, LANE, attempt, body, failure, numbered, opened_store, run_on, settlement, take_in, write
from virtual import VirtualClock, in_virtual_time

CLOCK = VirtualClock()
DUE_SINCE = "2026-11-22T13:00:00.000Z"


def lane_of() -> Lane:
    return Lane(LANE, Limiter(Limits(), clock=CLOCK, rules=default_rules(), rng=random.Random(1)), CLOCK)


def put_back_by_a_run(conn: sqlite3.Connection, count: int, *, not_before: str = DUE_SINCE, first: int = 1) -> None:
    """Let requests `first`, ... fail once and wait for their retry."""
    run_id = run_on(conn)
    for seq in range(first, first + count):
        tried = attempt(seq)
        put_back = settlement(tried, failure(), Retry(0.0), not_before)
        write(conn, Started(tried, run_id, AT), Settled(put_back))


class Reading:
    """The queue as the dispatcher reads it, without its thread; notes every claim."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.queue = Queue(conn)
        self.claims: list[Claim] = []

    async def __call__(self, claim: Claim) -> Claimed:
        self.claims.append(claim)
        assert len(self.claims) < 500, "the lane asks again and again and gets nothing"
        await anyio.lowlevel.checkpoint()
        return self.queue.claim(claim)


def send_all(conn: sqlite3.Connection) -> tuple[list[Attempt], int]:
    """Let a lane give out what *conn*'s store has due; return the attempts and the most it held at a time."""

    async def scene() -> tuple[list[Attempt], int]:
        lane, reading, sent, most = lane_of(), Reading(conn), [], 0
        while await lane.fill(reading):
            most = max(most, len(lane.due))
            tried = lane.due.popleft()
            sent.append(tried)
            write(conn, Settled(settlement(tried)))
            lane.settled(tried, None)
        return sent, most

    return in_virtual_time(scene)


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1200])
def test_every_fresh_request_is_given_out_once_in_order(tmp_path: Path, count: int) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(count))
        sent, most = send_all(conn)
    assert [tried.seq for tried in sent] == list(range(1, count + 1))
    assert most <= 500


def test_due_retries_stand_before_fresh_requests(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(10))
        put_back_by_a_run(conn, 3, first=6)
        sent, _ = send_all(conn)
    assert [tried.seq for tried in sent] == [6, 7, 8, 1, 2, 3, 4, 5, 9, 10]


def test_a_lane_with_many_due_retries_holds_no_more_than_a_claims_worth(tmp_path: Path) -> None:
    """After an outage tens of thousands are due at once; memory stays flat all the same."""
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(1300))
        put_back_by_a_run(conn, 1300)
        sent, most = send_all(conn)
    assert sorted(tried.seq for tried in sent) == list(range(1, 1301))
    assert most <= 500


def test_due_retries_that_are_larger_than_one_claim_are_all_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in hand stands first in the index and must not use up the claim's bytes."""
    monkeypatch.setattr(queue, "CLAIM_BYTES", 2000)
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(20, system="x" * 500))
        put_back_by_a_run(conn, 20)
        sent, most = send_all(conn)
    assert sorted(tried.seq for tried in sent) == list(range(1, 21))
    assert most <= 5


def test_due_retries_behind_large_ones_in_flight_are_given_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "CLAIM_BYTES", 2000)
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(20, system="x" * 500))
        put_back_by_a_run(conn, 20)

        async def scene() -> set[int]:
            lane, reading = lane_of(), Reading(conn)
            in_flight: set[int] = set()
            while len(in_flight) < 20:
                assert await lane.fill(reading)
                in_flight.add(lane.due.popleft().seq)
            return in_flight

        assert in_virtual_time(scene) == set(range(1, 21))


def test_a_retry_that_comes_due_overtakes_the_fresh_requests_held(tmp_path: Path) -> None:
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(5))

        async def scene() -> list[int]:
            lane, reading = lane_of(), Reading(conn)
            assert await lane.fill(reading)
            first = lane.due.popleft()
            retry = Retry(CLOCK.monotonic() + 5.0)
            put_back = settlement(first, failure(), retry, utc_stamp(CLOCK, retry.at))
            write(conn, Started(first, run_on(conn), AT), Settled(put_back))
            lane.settled(first, retry)
            assert lane.retrying == 1
            sent = [lane.due.popleft().seq]
            await anyio.sleep(10.0)
            while await lane.fill(reading):
                tried = lane.due.popleft()
                sent.append(tried.seq)
                write(conn, Settled(settlement(tried)))
                lane.settled(tried, None)
                if len(sent) == 5:
                    lane.settled(attempt(2), None)
            assert lane.retrying == 0
            return sent

        assert in_virtual_time(scene) == [2, 1, 3, 4, 5]


@pytest.mark.parametrize("committed", ["before the read", "after the read"])
def test_a_retry_settled_while_the_queue_is_being_read_is_not_forgotten(tmp_path: Path, committed: str) -> None:
    """The read excludes what is in hand and may be older than the settlement: its answer knows nothing of this retry."""
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(2))

        async def scene() -> list[int]:
            lane, reading, run_id = lane_of(), Reading(conn), run_on(conn)
            sent: list[int] = []

            def fail(tried: Attempt, wait_s: float) -> None:
                retry = Retry(CLOCK.monotonic() + wait_s)
                stamped = utc_stamp(CLOCK, retry.at)
                write(conn, Started(tried, run_id, AT), Settled(settlement(tried, failure(), retry, stamped)))
                lane.settled(tried, retry)

            async def overtaken(claim: Claim) -> Claimed:
                """Settle the second request while the claim for the first one's retry is on its way."""
                if committed == "before the read":
                    fail(second, 30.0)
                    return await reading(claim)
                claimed = await reading(claim)
                fail(second, 30.0)
                return claimed

            await lane.fill(reading)
            first, second = lane.due.popleft(), lane.due.popleft()
            fail(first, 5.0)
            await anyio.sleep(6.0)
            assert await lane.fill(overtaken)
            while await lane.fill(reading):
                tried = lane.due.popleft()
                sent.append(tried.seq)
                write(conn, Settled(settlement(tried)))
                lane.settled(tried, None)
            return sent

        assert in_virtual_time(scene) == [1, 2]


def test_a_lane_waits_for_what_is_in_flight_before_it_ends(tmp_path: Path) -> None:
    """The attempt in flight may come back as a retry."""
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(1))

        async def scene() -> float:
            lane, reading = lane_of(), Reading(conn)
            assert await lane.fill(reading)
            tried = lane.due.popleft()

            async def settle_later() -> None:
                await anyio.sleep(60.0)
                lane.settled(tried, None)

            async with anyio.create_task_group() as group:
                group.start_soon(settle_later)
                assert not await lane.fill(reading)
            return CLOCK.monotonic()

        assert in_virtual_time(scene) == pytest.approx(1060.0)


def test_a_retry_is_not_claimed_before_it_is_due(tmp_path: Path) -> None:
    """Its stamp is rounded up to the millisecond, and the lane wakes after that."""
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(1))
        put_back_by_a_run(conn, 1, not_before="2026-11-22T14:00:07.500Z")

        async def scene() -> tuple[float, int]:
            lane, reading = lane_of(), Reading(conn)
            assert await lane.fill(reading)
            return CLOCK.monotonic(), len(reading.claims)

        instant, claims = in_virtual_time(scene)
    assert 1007.5 <= instant < 1007.51
    assert claims <= 3


def test_bodies_are_read_for_one_claim_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long prompts do not fill the memory."""
    monkeypatch.setattr(queue, "CLAIM_BYTES", 5000)
    with opened_store(tmp_path / "s.db") as conn:
        take_in(conn, numbered(50, system="x" * 1000))
        size = len(str(body(system="x" * 1000)))
        sent, most = send_all(conn)
    assert [tried.seq for tried in sent] == list(range(1, 51))
    assert most * size <= 5000 + 2 * size
