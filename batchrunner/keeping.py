"""What goes on beside the dispatching: signs of life, the minutes' accounts, outages, a machine that slept."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import anyio

from batchrunner.clock import Clock, stamp
from batchrunner.dispatcher import Dispatcher
from batchrunner.errors import StoreError
from batchrunner.holding import figures
from batchrunner.lane import Berth, Lane
from batchrunner.policy.breaker import DOUBT_S
from batchrunner.policy.holdups import Reason
from batchrunner.policy.silence import TRY_S
from batchrunner.screen import duration
from batchrunner.store.changes import EndpointsKept, Heartbeat
from batchrunner.store.minutes import MinuteKept
from batchrunner.store.writer import Writer

HEARTBEAT_S = 5.0
#: While these hold a lane, nothing can be answered.
_OUR_OWN = frozenset({Reason.PAUSED, Reason.CONSUMER})
_TICK_S = 1.0
#: A tick that comes so much later than it was due is a machine that slept, or a process that was stopped.
SLEPT_S = 5.0
_REMIND_S = 60.0
#: Waits that come to less in a minute are left out of its account.
_NOTHING_S = 0.05


@dataclass(slots=True)
class _Watched:
    """A lane, and what was said and written of it."""

    lane: Lane
    berth: Berth
    minute: str = ""
    waited_s: dict[Reason, float] = field(default_factory=dict)  # in that minute, as far as it is written down
    outage_since: float | None = None
    told_at: float = 0.0
    told_limit: float = math.inf  # the lowest that was told
    silent_since: float | None = None
    is_held: bool = False  # sending is, because of that silence

    @property
    def name(self) -> str:
        """The lane, and the endpoint if it has a name."""
        endpoint = self.berth.standing.name
        return f"{self.lane.name} at {endpoint}" if endpoint is not None else self.lane.name


class Keeper:
    """Keeps an eye on one run. `run` goes on until it is cancelled; `conclude` follows at the end."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        writer: Writer,
        run_id: int,
        *,
        clock: Clock,
        note: Callable[[str], None],
        check_place: Callable[[], None],
        renew: Callable[[], None],
        max_outage_s: float,
    ) -> None:
        """*note* shows a sentence; *check_place* raises `StoreError` if the store was taken away; *renew* drops connections."""
        self._dispatcher = dispatcher
        self._writer = writer
        self._run_id = run_id
        self._clock = clock
        self._note = note
        self._check_place = check_place
        self._renew = renew
        self._max_outage_s = max_outage_s
        self.began_at = clock.monotonic()
        self._watched = [_Watched(lane, berth) for lane in dispatcher.lanes for berth in lane.berths]
        self._told_given_up: set[str] = set()

    async def run(self) -> None:
        """Look after the run until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat)
            group.start_soon(self._tick)

    def conclude(self) -> None:
        """Look once more, and write down what is left: nothing happens after this."""
        now = self._clock.monotonic()
        for watched in self._watched:
            self._tell_outage(watched, watched.berth.limiter.flow.breaker.opened_at, now)
        self.write_minutes()

    def write_minutes(self) -> None:
        """Write down what the lanes did and waited for since the last time."""
        now, minute = self._clock.monotonic(), _minute(self._clock.utc_now())
        for watched in self._watched:
            flow = watched.berth.limiter.flow
            tally = flow.holdups.take(now)
            if watched.minute != minute:
                watched.minute, watched.waited_s = minute, {}
            if tally.is_empty:
                continue
            for reason, seconds in tally.waited_s.items():
                watched.waited_s[reason] = watched.waited_s.get(reason, 0.0) + seconds
            done = {
                name: getattr(tally, name) for name in ("sent", "refused", "failed", "input_tokens", "output_tokens")
            }
            waited_s = {reason.value: s for reason, s in watched.waited_s.items() if s >= _NOTHING_S}
            kept = MinuteKept(
                self._run_id,
                watched.lane.name,
                minute,
                {**done, **figures(flow)},
                waited_s,
                watched.berth.standing.name or "",
            )
            self._writer.submit(kept)
        if self._dispatcher.endpoints:
            self._writer.submit(EndpointsKept(self._run_id, self._dispatcher.endpoints_record()))

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(HEARTBEAT_S)
            self._writer.submit(Heartbeat(self._run_id, stamp(self._clock.utc_now())))
            self.write_minutes()

    async def _tick(self) -> None:
        """Every second: is the store where it was, has the machine slept, is the endpoint there? Ends when the store is gone."""
        before, wall = self._clock.monotonic(), self._clock.utc_now()
        self._mind_time(before)  # reading a large job file may have taken all of it
        while True:
            await anyio.sleep(_TICK_S)
            if not self._is_in_place():
                return
            now, wall_now = self._clock.monotonic(), self._clock.utc_now()
            # A stopped process misses the first, a machine that slept only the second: the monotonic clock sleeps too.
            slept_s = max(now - before, (wall_now - wall).total_seconds()) - _TICK_S
            before, wall = now, wall_now
            if slept_s > SLEPT_S:
                self._wake_up(now, slept_s)
            for watched in self._watched:
                self._look(watched, now)
            self._mind_time(now)
            self._tell_given_up()
            self._dispatcher.slots.nudge()

    def _is_in_place(self) -> bool:
        """Pay for no answers that nobody would find again."""
        try:
            self._check_place()
        except StoreError as error:
            self._note(f"{error} Nothing more is sent.")
            self._dispatcher.endings.stop()
            return False
        return True

    def _wake_up(self, now: float, slept_s: float) -> None:
        self._note(f"this process did not run for {duration(slept_s)}: going on slowly, over new connections")
        self._renew()
        for watched in self._watched:
            watched.berth.limiter.suspended(now)

    def _look(self, watched: _Watched, now: float) -> None:
        self._tell_limit(watched)
        flow = watched.berth.limiter.flow
        self._listen(watched, now)
        self._tell_outage(watched, flow.breaker.opened_at, now)
        if flow.holdups.waiting_for in _OUR_OWN:
            flow.stuck_since = None
        since = watched.lane.stuck_since
        if since is not None and now - since > self._max_outage_s and not watched.lane.has_ended:
            self._dispatcher.endings.give_up(
                watched.lane,
                f"Nothing was answered for {duration(now - since)} (--max-outage). Look at the endpoint's status, then "
                "run the same command again.",
            )

    def _mind_time(self, now: float) -> None:
        endings = self._dispatcher.endings
        if endings.ran_out is None and any(lane.has_more for lane in self._dispatcher.lanes):
            why = self._dispatcher.bounds.time_is_up(now)
            if why is not None:
                endings.run_out(why)
                self._note("the time is nearly up (--max-duration): nothing more is sent, what is in flight finishes")

    def _tell_limit(self, watched: _Watched) -> None:
        """Say once when the endpoint permits less than the user wants."""
        requests = watched.berth.limiter.flow.requests
        wanted, offered = requests.wanted, requests.offered
        if wanted is None or offered is None or offered >= watched.told_limit:
            return
        watched.told_limit = offered
        if offered < (per_minute := wanted.count * 60 / wanted.period_s):
            self._note(
                f"{watched.name}: the endpoint permits {offered:,} requests a minute, fewer than the "
                f"{per_minute:,.0f} you set: {offered:,} it is"
            )

    def _listen(self, watched: _Watched, now: float) -> None:
        """Notice an endpoint that says nothing at all, and let the lane look for another one."""
        silence, flow = watched.berth.limiter.silence, watched.berth.limiter.flow
        silence.look(now)
        if silence.is_open and not watched.is_held:
            self._renew()  # the network may have lost the connections: a try goes over a new one
            flow.stuck_since = silence.since if flow.stuck_since is None else flow.stuck_since
            watched.lane.reconsider()
        self._tell_silence(watched, now)
        watched.is_held = silence.is_open

    def _tell_silence(self, watched: _Watched, now: float) -> None:
        silence = watched.berth.limiter.silence
        if silence.since is None:
            if watched.silent_since is not None:
                self._note(f"{watched.name}: something comes back again after {duration(now - watched.silent_since)}")
            watched.silent_since = None
            return
        told = f"nothing has come back for {duration(now - silence.since)}; {silence.calls:,} in flight"
        tries = f"On hold, with a try every {TRY_S:g} s"
        if watched.silent_since is None:
            watched.silent_since, watched.told_at = silence.since, now
            held = tries if silence.is_open else "Very long answers may take that long"
            self._note(
                f"{watched.name}: {told}. {held}. What is in flight may be paid for, so none of it is cancelled "
                "before its deadline: ten minutes, more for long answers, or what --timeout says"
            )
        elif silence.is_open and not watched.is_held:
            watched.told_at = now
            self._note(f"{watched.name}: {told}. {tries}")
        elif now - watched.told_at >= _REMIND_S and watched.outage_since is None and not watched.lane.has_ended:
            watched.told_at = now
            self._note(f"{watched.name}: {told}")

    def _tell_given_up(self) -> None:
        for watched in self._watched:
            why = watched.berth.standing.why(watched.lane.name)
            if why is not None and why not in self._told_given_up:
                self._told_given_up.add(why)
                self._note(f"{watched.name}: not used any more in this run: {why}")

    def _tell_outage(self, watched: _Watched, opened_at: float | None, now: float) -> None:
        name = watched.name
        if opened_at is not None and watched.outage_since is None:
            watched.outage_since, watched.told_at = opened_at, now
            elsewhere = watched.lane.has_another(watched.berth)
            if watched.berth.limiter.flow.breaker.is_in_doubt and not elsewhere:
                self._note(
                    f"{name}: the few requests that are left keep failing. Tried again every few seconds for "
                    f"{duration(DOUBT_S)}; after that it counts as theirs"
                )
                return
            on_hold = f"On hold for up to {duration(self._max_outage_s)} (--max-outage)"
            self._note(
                f"{name}: the endpoint is failing. {'Another one takes over' if elsewhere else on_hold}, "
                "with a try every few seconds; no attempt is used up"
            )
        elif opened_at is not None and now - watched.told_at >= _REMIND_S and not watched.lane.has_ended:
            watched.told_at = now
            self._note(f"{name}: no answer for {duration(now - opened_at)}; still trying")
        elif opened_at is None and watched.outage_since is not None:
            self._note(f"{name}: the endpoint answers again after {duration(now - watched.outage_since)}")
            watched.outage_since = None


def _minute(moment: datetime) -> str:
    return stamp(moment.replace(second=0, microsecond=0))
