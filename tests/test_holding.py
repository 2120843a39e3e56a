"""What holds a run back, in words that mislead nobody."""

from pathlib import Path

from batchrunner.holding import held_by
from batchrunner.model import ErrorClass, LimitKind
from batchrunner.policy.flow import Around
from batchrunner.policy.holdups import Reason
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits
from builders import attempt, failure, numbered
from engine_room import engine_room
from virtual import in_virtual_time


def words(path: Path, reason: Reason, *, refused: bool = False, limits: Limits | None = None) -> str | None:
    """Return what the bar says of a lane that has waited for *reason* for five seconds."""
    said: list[str | None] = []

    async def scene() -> None:
        async with engine_room(path / "s.db", numbered(3), limits or Limits(Rate(100, 1.0), otpm=6000)) as room:
            flow, now = room.lane.limiter.flow, room.clock.monotonic()
            if refused:
                place = flow.place_for(attempt())
                flow.reserve(now, place)
                flow.sent(now, place)
                refusal = failure(ErrorClass.RATE_LIMITED, limit=LimitKind.OUTPUT_TOKENS, retry_after_s=1.0)
                flow.learn(now, attempt(), refusal, place, Around(1))
            flow.holdups.begin(now, reason)
            said.append(held_by([room.lane], now + 5.0))

    in_virtual_time(scene)
    return said[0]


def test_a_limit_is_told_with_its_use(tmp_path: Path) -> None:
    assert words(tmp_path, Reason.OUTPUT_TOKENS) == "output tokens 0 % of 6k/min"


def test_a_limit_that_refusals_have_lowered_is_not_shown_as_unused(tmp_path: Path) -> None:
    assert words(tmp_path, Reason.OUTPUT_TOKENS, refused=True) == "output tokens 0 % of 6k/min, slower after refusals"


def test_a_pace_is_told_only_where_there_is_one(tmp_path: Path) -> None:
    assert words(tmp_path, Reason.RAMP, limits=Limits()) == "ramp"
    assert words(tmp_path, Reason.RAMP) == "ramp: 5,941 requests/min"


def test_an_endpoint_that_says_nothing_is_told_whatever_the_lane_waits_for(tmp_path: Path) -> None:
    said: list[str | None] = []

    async def scene() -> None:
        async with engine_room(tmp_path / "s.db", numbered(3), Limits()) as room:
            silence, now = room.lane.limiter.silence, room.clock.monotonic()
            silence.sent(now, "a call", 100.0)
            for seconds in (100.0, 150.0):
                silence.look(now + seconds)
                said.append(held_by([room.lane], now + seconds))
            room.lane.limiter.holdups.begin(now, Reason.SILENCE)
            silence.came_back(now + 151.0, "a call", is_answer=True, is_heard=True)
            said.append(held_by([room.lane], now + 151.0))

    in_virtual_time(scene)
    assert said == [None, "no answer for 2 min 30 s", "no answer until a moment ago"]
