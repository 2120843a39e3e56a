"""What goes on beside the dispatching: outages are told and end a lane, a sleep is noticed, minutes are written down."""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest

from batchrunner.errors import Exit, StoreError
from batchrunner.keeping import HEARTBEAT_S, Keeper
from batchrunner.model import ErrorClass, Quota
from batchrunner.policy.flow import Around
from batchrunner.policy.holdups import Reason
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits, RunSettings, default_rules, with_retries
from batchrunner.store.owner import last_owner
from batchrunner.store.wishfile import send
from batchrunner.tuning import Tuning, Verb
from builders import LANE, attempt, failure, numbered, rows, success
from engine_room import EngineRoom, engine_room
from virtual import World, in_virtual_time, virtual_run
from virtual import numbered as lines
from virtual.harness import Scene

MINUTE_S = 60.0


@dataclass
class Watch:
    """A keeper at work on a room in which nothing is sent, and what it said and did."""

    room: EngineRoom
    keeper: Keeper
    notes: list[str]
    renewed: list[float] = field(default_factory=list)
    gone: list[StoreError] = field(default_factory=list)  # why the store is not where it was


def kept(path: Path, scene: Callable[[Watch], Awaitable[None]], limits: Limits | None = None) -> None:
    """Play *scene* with a keeper at work beside it."""

    async def play() -> None:
        async with engine_room(path / "s.db", numbered(3), limits or Limits(Rate(100, 1.0))) as room:
            notes: list[str] = []
            renewed: list[float] = []
            gone: list[StoreError] = []

            def check_place() -> None:
                if gone:
                    raise gone[0]

            keeper = Keeper(
                room.dispatcher,
                room.writer,
                room.run_id,
                clock=room.clock,
                note=notes.append,
                check_place=check_place,
                renew=lambda: renewed.append(room.clock.monotonic()),
                max_outage_s=600.0,
            )
            async with anyio.create_task_group() as group:
                group.start_soon(keeper.run)
                await scene(Watch(room, keeper, notes, renewed, gone))
                group.cancel_scope.cancel()

    in_virtual_time(play)


def fail_five(room: EngineRoom) -> None:
    """Let five attempts of the lane be sent and fail as in an outage."""
    flow, now = room.lane.limiter.flow, room.clock.monotonic()
    for seq in range(1, 6):
        place = flow.place_for(attempt(seq))
        flow.reserve(now, place)
        flow.sent(now, place)
        flow.learn(now, attempt(seq), failure(ErrorClass.OVERLOADED), place, Around(1))
    assert flow.breaker.is_open


def answer_one(room: EngineRoom) -> None:
    flow, now = room.lane.limiter.flow, room.clock.monotonic()
    place = flow.place_for(attempt(9))
    flow.reserve(now, place)
    flow.sent(now, place)
    flow.learn(now, attempt(9), success(), place, Around(1))


# Outages.


def test_an_outage_is_told_once_and_again_every_minute_and_so_is_its_end(tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        fail_five(watch.room)
        await anyio.sleep(5.0)
        (first,) = watch.notes
        assert first.startswith(f"{LANE}: the endpoint is failing")
        assert "10 min" in first, "how long it waits at most"
        await anyio.sleep(2 * MINUTE_S)
        assert [note.split(": ")[1] for note in watch.notes[1:]] == [
            "no answer for 1 min 01 s; still trying",
            "no answer for 2 min 01 s; still trying",
        ]
        answer_one(watch.room)
        await anyio.sleep(1.5)
        assert "answers again after 2 min" in watch.notes[-1]
        await anyio.sleep(5 * MINUTE_S)
        assert len(watch.notes) == 4

    kept(tmp_path, scene)


def test_a_lane_is_given_up_when_nothing_was_answered_for_the_longest_outage(tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        fail_five(watch.room)
        await anyio.sleep(599.0)
        assert watch.room.dispatcher.endings.given_up == []
        await anyio.sleep(3.0)
        (reason,) = watch.room.dispatcher.endings.given_up
        assert "--max-outage" in reason
        assert watch.room.lane.scope.cancel_called
        await anyio.sleep(MINUTE_S)
        assert len(watch.room.dispatcher.endings.given_up) == 1

    kept(tmp_path, scene)


def test_an_answer_starts_the_longest_outage_anew(tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        for _ in range(4):
            fail_five(watch.room)
            await anyio.sleep(500.0)
            answer_one(watch.room)
            await anyio.sleep(10.0)
        assert watch.room.dispatcher.endings.given_up == []

    kept(tmp_path, scene)


def test_a_lane_that_has_ended_badly_does_not_end_the_others() -> None:
    """Its last outcome was a failure, and nothing of it will ever be answered."""

    def mixed() -> Iterator[dict[str, Any]]:
        yield {"id": "bad", "prompt": "[[sim:500]] x", "model": "claude-sonnet-5"}
        yield from lines(200)

    settings = RunSettings(
        limits=Limits(Rate(1, 1.0)), rules=with_retries(default_rules(), ["server=2"]), max_outage_s=60.0
    )
    figures = virtual_run(mixed(), "latency=1", settings)
    assert figures.report is not None
    assert (figures.succeeded, figures.failed) == (200, 1)
    assert (figures.report.ending, figures.report.exit_code) == ("finished", Exit.SOME_FAILED)


def test_a_pause_is_no_outage_however_long() -> None:
    async def pause_for_minutes(scene: Scene) -> None:
        await anyio.sleep(1.5)
        owner = last_owner(scene.store)
        assert owner is not None
        assert owner.name is not None
        for verb in (Verb.PAUSE, Verb.UNPAUSE):
            sent = send(scene.store, owner.name, Tuning(verb).as_json())
            assert sent is not None
            sent.close()
            await anyio.sleep(300.0)

    settings = RunSettings(limits=Limits(Rate(1, 1.0)), max_outage_s=60.0)
    figures = virtual_run(lines(5, prompt="[[sim:500*2]] x"), "latency=1", settings, beside=pause_for_minutes)
    assert figures.report is not None
    assert (figures.report.ending, figures.succeeded) == ("finished", 5)
    assert figures.seconds >= 300


def test_a_run_whose_endpoint_stays_away_ends_with_exit_4_and_blames_no_request() -> None:
    settings = RunSettings(limits=Limits(Rate(10, 1.0)), max_outage_s=120.0)
    figures = virtual_run(lines(30), "latency=1,outage=1..100000", settings)
    assert figures.report is not None
    assert (figures.report.exit_code, figures.report.ending) == (Exit.LIMIT, "stopped")
    assert "--max-outage" in str(figures.report.reason)
    assert figures.failed == 0
    assert figures.report.totals.pending > 0
    assert 120 < figures.seconds < 150
    assert figures.statuses[529] < 100


def test_an_outage_that_ends_in_time_costs_no_request() -> None:
    settings = RunSettings(limits=Limits(Rate(10, 1.0)), max_outage_s=120.0)
    figures = virtual_run(lines(100), "latency=1,outage=3..100", settings)
    assert (figures.succeeded, figures.failed) == (100, 0)
    assert figures.statuses[529] < 100
    assert "the endpoint is failing" in figures.notes
    assert "answers again after" in figures.notes


# A machine that slept.


def test_a_machine_that_slept_renews_its_connections_and_goes_on_slowly(tmp_path: Path) -> None:
    """The monotonic clock slept too, so only the time of day tells."""

    async def scene(watch: Watch) -> None:
        await anyio.sleep(10.0)
        assert watch.renewed == []
        watch.room.clock.suspend(3600.0)
        await anyio.sleep(1.5)
        assert len(watch.renewed) == 1
        assert "did not run for 1 h" in watch.notes[0]
        assert watch.room.lane.limiter.flow.requests.pace(watch.room.clock.monotonic())[1] is Reason.RAMP
        await anyio.sleep(60.0)
        assert len(watch.renewed) == 1

    kept(tmp_path, scene)


def test_a_late_tick_of_a_busy_process_is_no_sleep(tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        await anyio.sleep(3.0)
        watch.room.clock.suspend(4.0)
        await anyio.sleep(3.0)
        assert (watch.renewed, watch.notes) == ([], [])

    kept(tmp_path, scene)


def test_a_run_on_a_machine_that_slept_loses_nothing_and_bursts_nothing() -> None:
    async def sleep_in_the_middle(scene: Scene) -> None:
        await anyio.sleep(5.0)
        scene.clock.suspend(1800.0)

    settings = RunSettings(limits=Limits(Rate(600, 60.0)))
    spec = "latency=1..3,rpm=600,bucket_s=1"
    figures = virtual_run(lines(150), spec, settings, world=World(at_most_s=600.0), beside=sleep_in_the_middle)
    assert figures.statuses == {200: 150}
    assert figures.succeeded == 150
    assert "did not run for 30 m" in figures.notes
    after = [one.at for one in figures.seen if one.at > 1800.0]
    assert sum(at < after[0] + 1.0 for at in after) <= 11, "no more than the pace"


# The store, and what is written into it.


def test_a_store_that_was_taken_away_stops_the_sending(tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        watch.gone.append(StoreError("It is gone."))
        await anyio.sleep(1.5)
        assert watch.notes == ["It is gone. Nothing more is sent."]
        assert watch.room.lane.scope.cancel_called

    kept(tmp_path, scene)


def test_each_minute_is_written_down_with_what_was_done_and_waited_for(tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        holdups = watch.room.lane.limiter.holdups
        await anyio.sleep(MINUTE_S - watch.room.clock.utc_now().second % 60 + 1.0)
        watch.keeper.write_minutes()
        holdups.begin(watch.room.clock.monotonic(), Reason.OUTAGE)
        await anyio.sleep(30.0)
        holdups.end(watch.room.clock.monotonic())
        answer_one(watch.room)
        holdups.begin(watch.room.clock.monotonic(), Reason.PAUSED)
        await anyio.sleep(HEARTBEAT_S + 1.0)
        found = rows(watch.room.conn, "SELECT lane, sent, output_tokens, rpm, otpm, waited FROM minutes")
        ((*figures, waited),) = found
        assert figures == [LANE, 1, 5, 6000.0, None]
        waits = json.loads(waited)
        assert waits.pop("outage") == pytest.approx(30.0, abs=0.1)
        assert waits.pop("pause") <= HEARTBEAT_S + 1.1
        await anyio.sleep(MINUTE_S)
        assert len(rows(watch.room.conn, "SELECT 1 FROM minutes")) == 2, "the wait goes on into the next minute"

    kept(tmp_path, scene)


def test_nothing_is_written_of_a_minute_in_which_nothing_was(tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        await anyio.sleep(3 * MINUTE_S)
        assert rows(watch.room.conn, "SELECT count(*) FROM minutes") == [(0,)]
        assert rows(watch.room.conn, "SELECT heartbeat_at > started_at FROM runs") == [(1,)]

    kept(tmp_path, scene)


def test_an_endpoint_that_permits_less_than_the_user_wants_is_told_once(tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        requests = watch.room.lane.limiter.flow.requests
        requests.offer(Quota(50, None), watch.room.clock.monotonic(), 1.0, nth=1, own_sends=1)
        await anyio.sleep(30.0)
        (note,) = watch.notes
        assert "permits 50 requests a minute, fewer than the 6,000 you set" in note

    kept(tmp_path, scene)


def test_an_endpoint_that_tells_one_limit_and_then_another_is_not_told_again_and_again(tmp_path: Path) -> None:
    async def scene(watch: Watch) -> None:
        requests = watch.room.lane.limiter.flow.requests
        for n in range(40):
            figure = 50 if n % 8 < 4 else 70
            requests.offer(Quota(figure, None), watch.room.clock.monotonic(), float(n), nth=1, own_sends=1)
            await anyio.sleep(2.0)
        assert len(watch.notes) == 1

    kept(tmp_path, scene)
