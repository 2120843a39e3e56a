"""A stretch of a large job: the real runner on a real store, stopped after so many requests, and what it spent on what."""

import contextlib
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel

from batchrunner import runner, shift
from batchrunner.api.sender import Senders
from batchrunner.audience import Nobody
from batchrunner.endpoint import Endpoint, Way
from batchrunner.loading import Source
from batchrunner.model import Attempt, Outcome, Success, Usage
from batchrunner.progress import Silent
from batchrunner.report import Job
from batchrunner.settings import Limits, RunSettings
from batchrunner.stopping import Stopper
from batchrunner.store import writer
from batchrunner.store.queue import Claim, Claimed, Queue

_IN_FLIGHT = 200
_MESSAGE = (
    '{"model":"claude-haiku-4-5-20251001","id":"msg_01","type":"message","role":"assistant","content":[{"type":"text",'
    '"text":"%s"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":31,"output_tokens":64}}'
)
_TEXT = "The units, the tens and the hundreds are added one after the other, and what goes beyond nine is carried over."
_ANSWER = Success(
    _MESSAGE % _TEXT, _TEXT, "end_turn", "claude-haiku-4-5-20251001", Usage(31, 64), "req_011CQ0000000000000000000"
)


@dataclass(slots=True)
class Stretch:
    """What so many requests took. Instants are those of the monotonic clock, the same for all processes."""

    requests: int
    loaded_at: float = 0.0  #: The job file was in the store.
    loaded_cpu_s: float = 0.0  #: What that took of the processor.
    began_at: float = 0.0  #: The first request was final, from here on:
    ended_at: float = 0.0
    cpu_s: float = 0.0
    claims_s: list[float] = field(default_factory=list)  #: How long each took.
    changes: int = 0  #: Written by the commits.
    commits_s: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first request to the last."""
        return self.ended_at - self.began_at


class _Instant:
    """A sender that has the answer at once: nobody is asked."""

    async def send(
        self, _attempt: Attempt, on_sent: Callable[[], None], _on_begun: Callable[[], None] | None = None
    ) -> Outcome:
        on_sent()
        await anyio.lowlevel.checkpoint()
        return _ANSWER

    async def aclose(self) -> None:
        """Nothing is open."""


class _Counting(Nobody):
    """Hears of each final request, notes the instants and stops the run after so many."""

    def __init__(self, stretch: Stretch, stopper: Stopper) -> None:
        self._stretch = stretch
        self._stopper = stopper
        self._finals = 0
        self._cpu_s = 0.0

    def final(self, seq: int) -> None:  # noqa: ARG002 - which one it is does not matter
        if not self._finals:
            self._stretch.began_at, self._cpu_s = time.monotonic(), time.process_time()
        self._finals += 1
        if self._finals == self._stretch.requests:
            self._stretch.ended_at, self._stretch.cpu_s = time.monotonic(), time.process_time() - self._cpu_s
            self._stopper.ask("so many were wanted")


class _Noting(Silent):
    """Notes when the job file was taken in."""

    def __init__(self, stretch: Stretch) -> None:
        super().__init__(notes=False)
        self._stretch = stretch
        self._cpu_s = time.process_time()

    def stop(self) -> None:
        if not self._stretch.loaded_at:
            self._stretch.loaded_at, self._stretch.loaded_cpu_s = time.monotonic(), time.process_time() - self._cpu_s


def over_the_wire(store: Path, source: Source | None, url: str, requests: int) -> Stretch:
    """Take *source* in, if there is one, and settle *requests* of the store at the endpoint *url*."""
    return _stretch(Job(store, source), Endpoint(url), requests)


def without_wire(store: Path, requests: int) -> Stretch:
    """Settle *requests* of the store, each answered as soon as it is sent."""

    @contextlib.asynccontextmanager
    async def opened(_: object, concurrency: int, **__: object) -> AsyncIterator[Way]:
        yield Way(Senders(None, _Instant(), _Instant()), True, {"endpoint": "simulator"}, concurrency)

    with patch.object(shift, "opened", opened):
        return _stretch(Job(store, None), Endpoint(), requests)


def _stretch(job: Job, endpoint: Endpoint, requests: int) -> Stretch:
    stretch = Stretch(requests)
    settings = RunSettings(limits=Limits(concurrency=_IN_FLIGHT))
    stopper = Stopper(settings.stopping, lambda _: None)
    with _timed(stretch):
        anyio.run(
            lambda: runner.run(
                job,
                settings,
                endpoint,
                reporter=_Noting(stretch),
                rng=random.Random(1),
                stopper=stopper,
                audience=_Counting(stretch, stopper),
            )
        )
    if not stretch.ended_at:
        raise AssertionError(f"the store had fewer than {requests:,} requests left")
    return stretch


@contextlib.contextmanager
def _timed(stretch: Stretch) -> Iterator[None]:
    """Note what each claim and each commit takes."""
    claim, commit = Queue.claim, writer._commit_group  # noqa: SLF001 - the only place that sees whole groups

    def timed_claim(queue: Queue, asked: Claim) -> Claimed:
        began = time.perf_counter()
        claimed = claim(queue, asked)
        stretch.claims_s.append(time.perf_counter() - began)
        return claimed

    def timed_commit(conn: sqlite3.Connection, group: writer.Group) -> Any:
        began = time.perf_counter()
        commit(conn, group)
        stretch.commits_s.append(time.perf_counter() - began)
        stretch.changes += len(group.changes)

    with patch.object(Queue, "claim", timed_claim), patch.object(writer, "_commit_group", timed_commit):
        yield
