"""The dispatcher between lanes, writer and engine: what is never sent, what is excused, how many are in flight."""

import sqlite3
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from batchrunner.clock import stamp
from batchrunner.model import ErrorClass, State
from batchrunner.policy.holdups import Reason
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits
from builders import LANE, body, failure, numbered, request, rows, state_of, success
from engine_room import EngineRoom, engine_room
from virtual import in_virtual_time


async def take_and_settle(room: EngineRoom, count: int, *, fails: int = 0) -> None:
    """Be the engine: take so many attempts one by one; the first *fails* of them fail as in an outage."""
    for n in range(count):
        (admitted,) = await room.dispatcher.take(1)
        admitted.mark_sent()
        await anyio.sleep(0.05)
        await room.dispatcher.settle(admitted, failure(ErrorClass.OVERLOADED) if n < fails else success())


def test_a_request_larger_than_a_minute_permits_fails_with_both_figures_and_is_not_sent(tmp_path: Path) -> None:
    large = request("large", 1, body("x" * 100_000))

    async def scene() -> None:
        async with engine_room(tmp_path / "s.db", [large, *numbered(2)[1:]], Limits(itpm=10_000)) as room:
            async with anyio.create_task_group() as group:
                group.start_soon(room.dispatcher.run)
                (admitted,) = await room.dispatcher.take(5)
                assert admitted.attempt.custom_id == "r2"
                admitted.mark_sent()
                await room.dispatcher.settle(admitted, success())
            assert await room.dispatcher.take(1) == ()
            assert (room.dispatcher.counts.sent, room.dispatcher.counts.failed) == (1, 1)
            assert state_of(room.conn, "large") is State.FAILED
            ((number, error_class, message, run_id, ended),) = rows(
                room.conn,
                "SELECT number, a.error_class, message, run_id, ended_at IS NOT NULL FROM attempts a "
                "JOIN requests USING (seq) WHERE custom_id = 'large'",
            )
            assert (number, error_class, run_id, ended) == (1, "too_large", room.run_id, 1), "its start is on record"
            assert "10,000 per minute" in message
            assert "at least 12," in message, "and what it would need"

    in_virtual_time(scene)


def test_a_request_that_fits_into_a_minute_waits_and_goes_out(tmp_path: Path) -> None:
    """Larger than the account ever holds, and not starved: it waits for the brim, here for nothing."""

    async def scene() -> None:
        requests = [request("large", 1, body("x" * 30_000))]
        async with engine_room(tmp_path / "s.db", requests, Limits(itpm=10_000)) as room:
            async with anyio.create_task_group() as group:
                group.start_soon(room.dispatcher.run)
                await take_and_settle(room, 1)
            assert room.dispatcher.counts.succeeded == 1

    in_virtual_time(scene)


def test_failures_of_an_outage_use_up_no_attempt_from_the_moment_it_is_noticed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with engine_room(tmp_path / "s.db", numbered(8), Limits(Rate(1000, 1.0))) as room:
            async with anyio.create_task_group() as group:
                group.start_soon(room.dispatcher.run)
                await take_and_settle(room, 20, fails=12)
            assert rows(room.conn, "SELECT counted, count(*) FROM attempts WHERE outcome != 'success' GROUP BY 1") == [
                (0, 8),
                (1, 4),
            ]
            assert rows(room.conn, "SELECT count(*) FROM requests WHERE state = 'succeeded'") == [(8,)]
            assert room.lane.limiter.holdups.total.failed == 12

    in_virtual_time(scene)


@pytest.mark.parametrize(("limits", "connections", "most"), [
    (Limits(Rate(1000, 1.0)), 500, 100),
    (Limits(Rate(1000, 1.0), concurrency=7), 7, 7),
    (Limits(Rate(1000, 1.0)), 9, 9),
    (Limits(), 500, 5),
])  # fmt: skip
def test_no_more_are_in_flight_than_user_system_and_caution_permit(
    tmp_path: Path, limits: Limits, connections: int, most: int
) -> None:
    async def scene() -> None:
        requests = numbered(100)
        async with engine_room(tmp_path / "s.db", requests, limits, connections=connections) as room:
            taken = 0
            async with anyio.create_task_group() as group:
                group.start_soon(room.dispatcher.run)
                with anyio.move_on_after(0.9):
                    while True:
                        taken += len(await room.dispatcher.take(100))
                assert taken == most
                assert room.dispatcher.slots.taken == room.lane.in_flight == most
                group.cancel_scope.cancel()
            room.dispatcher.give_back()

    in_virtual_time(scene)


def test_another_rate_does_not_permit_more_connections_than_the_system_has(tmp_path: Path) -> None:
    """`-j` was left to the run, and open files permit nine; `tune --rpm` changes nothing of that."""

    async def scene() -> None:
        async with engine_room(tmp_path / "s.db", numbered(1), Limits(Rate(10, 1.0)), connections=9) as room:
            room.dispatcher.retune(Limits(Rate(1000, 1.0)))
            assert room.dispatcher.slots.total == 9
            room.dispatcher.retune(Limits(Rate(1000, 1.0), concurrency=40))
            assert room.dispatcher.slots.total == 40

    in_virtual_time(scene)


def test_what_an_earlier_run_sent_counts_from_when_it_was_on_the_wire_at_the_latest(tmp_path: Path) -> None:
    """The start is on record before the request goes out; a new connection can take half a second."""
    sent_before = {LANE: ["2026-11-22T13:59:50.000Z"] * 10}

    async def scene() -> None:
        limits = Limits(Rate(10, 60.0))
        async with engine_room(tmp_path / "s.db", numbered(1), limits, sent_before=sent_before) as room:
            began = room.clock.monotonic()
            async with anyio.create_task_group() as group:
                group.start_soon(room.dispatcher.run)
                await take_and_settle(room, 1)
            assert room.clock.monotonic() - 0.05 - began == pytest.approx(-10.0 + 0.5 + 60.25, abs=0.05)

    in_virtual_time(scene)


# A store that refuses.


class FullDisk:
    """A change that the disk refuses so many times."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals

    def write(self, cursor: sqlite3.Cursor) -> None:
        if self.refusals:
            self.refusals -= 1
            raise sqlite3.OperationalError("database or disk is full")


def test_nothing_is_started_while_the_store_refuses(tmp_path: Path) -> None:
    async def scene() -> None:
        async with engine_room(tmp_path / "s.db", numbered(50), Limits(Rate(1000, 1.0))) as room:
            began = room.clock.utc_now()
            room.writer.submit(FullDisk(refusals=4))
            await anyio.sleep(1.0)
            assert not room.writer.is_steady
            async with anyio.create_task_group() as group:
                group.start_soon(room.dispatcher.run)
                await anyio.sleep(15.0)
                assert room.dispatcher.slots.taken == 0
                assert room.lane.limiter.holdups.binding(room.clock.monotonic()) is Reason.STORE
                await take_and_settle(room, 50)
            assert room.dispatcher.counts.succeeded == 50
            assert rows(room.conn, "SELECT min(started_at) FROM attempts")[0][0] >= stamp(began + timedelta(seconds=20))

    in_virtual_time(scene)


def test_an_answer_that_cannot_be_bound_fails_alone_and_is_on_record_as_paid(tmp_path: Path) -> None:
    async def scene() -> None:
        async with engine_room(tmp_path / "s.db", numbered(3), Limits(Rate(1000, 1.0))) as room:
            async with anyio.create_task_group() as group:
                group.start_soon(room.dispatcher.run)
                for text in ("good", "half a pair: \ud800", "good too"):
                    (admitted,) = await room.dispatcher.take(1)
                    admitted.mark_sent()
                    await room.dispatcher.settle(admitted, success(text))
            assert (room.dispatcher.counts.succeeded, room.dispatcher.counts.failed) == (2, 1)
            assert rows(room.conn, "SELECT error_class, error_message FROM requests WHERE state = 'failed'") == [
                ("bad_response", "The answer could not be written to the store.")
            ]
            assert rows(room.conn, "SELECT possibly_paid FROM attempts WHERE outcome = 'failure'") == [(1,)]

    in_virtual_time(scene)


def test_what_was_admitted_and_not_taken_is_taken_back_at_a_stop(tmp_path: Path) -> None:
    async def scene() -> None:
        async with engine_room(tmp_path / "s.db", numbered(50), Limits(Rate(1000, 1.0), concurrency=10)) as room:
            async with anyio.create_task_group() as group:
                group.start_soon(room.dispatcher.run)
                await anyio.sleep(1.0)
                assert room.dispatcher.slots.taken == 10
                room.dispatcher.endings.stop()
                room.dispatcher.recall()
                assert room.dispatcher.slots.taken == 0
            assert await room.dispatcher.take(5) == ()
            await anyio.sleep(1.0)
            assert rows(room.conn, "SELECT count(*) FROM attempts") == [(0,)], "nothing is left to be taken for paid"

    in_virtual_time(scene)
