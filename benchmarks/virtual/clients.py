"""How clients send: in slots that sleep, or from a queue to which everything returns. Designs are put into these."""

import heapq
import itertools
import json
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from batchrunner.clock import Clock
from batchrunner.policy.window import Rate
from virtual.figures import Figures, SeeingLedger
from virtual.harness import MODEL, World
from virtual.loop import VirtualClock, in_virtual_time
from virtual.network import Response

#: Sends a body and waits for what comes back.
Post = Callable[[bytes], Awaitable[Response]]


class Client:
    """A way to send many requests. The one seam: bodies in, the number that was given up out."""

    name = "a client"

    def __init__(self, clock: Clock, rate: Rate, rng: random.Random) -> None:
        """*rate*: what the server permits, for designs that know it."""
        self._clock, self._rate, self._rng = clock, rate, rng

    async def run(self, bodies: Iterable[bytes], post: Post) -> int:
        """Send *bodies* until each is answered or given up; return how many were given up."""
        raise NotImplementedError


def client_run(
    kind: type[Client], prompts: Iterable[str], spec: str, rate: Rate, *, world: World | None = None
) -> Figures:
    """Send *prompts* in virtual time as a client of that *kind* does, to the simulator of *spec*."""
    bodies = [
        json.dumps({"model": MODEL, "max_tokens": 1024, "messages": [{"role": "user", "content": prompt}]}).encode()
        for prompt in prompts
    ]
    return in_virtual_time(_run, kind, bodies, spec, rate, world or World())


async def _run(kind: type[Client], bodies: Sequence[bytes], spec: str, rate: Rate, world: World) -> Figures:
    clock = VirtualClock()
    server = world.server(spec, clock)
    client = kind(clock, rate, random.Random(world.seed + 1))
    with anyio.fail_after(world.at_most_s):
        failed = await client.run(bodies, server.post)
    ledger = server.simulator.ledger
    seen = ledger.seen if isinstance(ledger, SeeingLedger) else []
    return Figures(server.simulator, seen, server.now(), len(bodies) - failed, failed)


def retry_after_s(response: Response) -> float | None:
    """Return what the server asks to wait, in seconds, if it does."""
    value = response.headers.get("retry-after")
    return None if value is None else float(value)


class InSlot(Client):
    """Workers, each of which sends one request, sleeps and tries again until it is through: a sleeper holds its slot."""

    workers = 400
    tries = 1

    def wait_s(self, failures: int, response: Response) -> float:
        """Return how long to sleep after so many *failures* of a request, the latest being *response*."""
        raise NotImplementedError

    async def run(self, bodies: Iterable[bytes], post: Post) -> int:
        """Send *bodies*; see `Client.run`."""
        waiting, given_up = iter(bodies), 0

        async def work() -> None:
            nonlocal given_up
            for body in waiting:
                given_up += not await self._sent(body, post)

        async with anyio.create_task_group() as group:
            for _ in range(self.workers):
                group.start_soon(work)
        return given_up

    async def _sent(self, body: bytes, post: Post) -> bool:
        for failures in itertools.count(1):
            response = await post(body)
            if response.status == 200 or failures == self.tries:
                return response.status == 200
            await anyio.sleep(self.wait_s(failures, response))
        raise AssertionError


@dataclass(slots=True)
class _Row:
    body: bytes
    failures: int = 0


class Requeueing(Client):
    """One loop that sends what is due as soon as its own limit permits; what failed goes back into the queue."""

    in_flight = 400
    tries: float = math.inf

    def admit_at(self, now: float) -> float:
        """Return when the next request may go out, *now* at the earliest."""
        raise NotImplementedError

    def sent(self, now: float) -> None:
        """Note that one goes out."""

    def answered(self, now: float, response: Response) -> None:
        """Note what came back."""

    def wait_s(self, failures: int, response: Response) -> float:
        """Return in how many seconds a request that failed is due again."""
        raise NotImplementedError

    async def run(self, bodies: Iterable[bytes], post: Post) -> int:
        """Send *bodies*; see `Client.run`."""
        return await _Requeueing(self, self._clock, post, bodies).run()


class _Requeueing:
    """The loop and the queue of one run of a `Requeueing`."""

    def __init__(self, design: Requeueing, clock: Clock, post: Post, bodies: Iterable[bytes]) -> None:
        self._design, self._clock, self._post = design, clock, post
        self._queue: list[tuple[float, int, _Row]] = [(0.0, n, _Row(body)) for n, body in enumerate(bodies)]
        self._left = self._number = len(self._queue)
        self._free: float = design.in_flight
        self._given_up = 0
        self._news = anyio.Event()

    async def run(self) -> int:
        async with anyio.create_task_group() as group:
            while self._left:
                self._send_due(group)
                self._news = anyio.Event()
                now = self._clock.monotonic()
                idle = not self._queue or self._free < 1
                next_s = math.inf if idle else max(self._queue[0][0], self._design.admit_at(now)) - now
                with anyio.move_on_after(next_s):
                    await self._news.wait()
        return self._given_up

    def _send_due(self, group: TaskGroup) -> None:
        now = self._clock.monotonic()
        while self._queue and self._free >= 1 and self._queue[0][0] <= now and self._design.admit_at(now) <= now:
            _, _, row = heapq.heappop(self._queue)
            self._free -= 1
            self._design.sent(now)
            group.start_soon(self._try, row)

    async def _try(self, row: _Row) -> None:
        response = await self._post(row.body)
        now = self._clock.monotonic()
        self._design.answered(now, response)
        self._free += 1
        row.failures += response.status != 200
        if response.status != 200 and row.failures < self._design.tries:
            self._number += 1
            due = now + self._design.wait_s(row.failures, response)
            heapq.heappush(self._queue, (due, self._number, row))
        else:
            self._left -= 1
            self._given_up += response.status != 200
        self._news.set()
