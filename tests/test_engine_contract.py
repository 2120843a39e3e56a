"""What every engine must do with what it takes. New engines join `ENGINES`; the wire and the simulator are real."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
import pytest

from batch_book import Booked, MemoryBook
from batchrunner.api.batches import BatchesApi
from batchrunner.api.sender import open_senders
from batchrunner.engines import Admitted, Engine
from batchrunner.engines.batch_book import Plan
from batchrunner.engines.batch_line import Line
from batchrunner.engines.live import LiveEngine
from batchrunner.engines.message_batches import MessageBatchesEngine
from batchrunner.model import Attempt, ErrorClass, Failure, Outcome, Success
from batchrunner.policy.batching import Polling
from running import KEY, MODEL, expected_answer, simulator


@asynccontextmanager
async def live(url: str) -> AsyncIterator[Engine]:
    async with open_senders(url, api_key=KEY) as senders:
        yield LiveEngine(senders)


@asynccontextmanager
async def batches(url: str) -> AsyncIterator[Engine]:
    async with open_senders(url, api_key=KEY) as senders:
        book = MemoryBook()
        plan = Plan(rows=7, linger_s=0.05, polling=Polling(0.05, 0.2))
        line = Line(lambda _: None, first_s=0.05)
        yield Booked(MessageBatchesEngine(BatchesApi(await senders.sdk_client()), book, line, plan), book)


ENGINES = [live, batches]
#: What goes wrong in a call of its own, and in a batch.
FAILURES = {
    "live": {
        "[[sim:500]] a": ErrorClass.SERVER,
        "[[sim:reset]] b": ErrorClass.NETWORK,
        "[[sim:200_html]] c": ErrorClass.BAD_RESPONSE,
        "[[sim:401]] d": ErrorClass.AUTHENTICATION,
    },
    "batches": {
        "[[sim:500]] a": ErrorClass.SERVER,
        "[[sim:529]] b": ErrorClass.OVERLOADED,
        "[[sim:400]] c": ErrorClass.INVALID,
        "[[sim:401]] d": ErrorClass.AUTHENTICATION,
    },
}
#: Batches take a second unless they are told otherwise.
QUICK = "batch_s=0.2"
OpenEngine = Callable[[str], AbstractAsyncContextManager[Engine]]


@dataclass(eq=False)
class Ticket:
    attempt: Attempt
    sent: int = 0
    begun: int = 0

    def mark_sent(self) -> None:
        self.sent += 1

    def mark_begun(self) -> None:
        self.begun += 1


@dataclass
class Desk:
    """Stands in for the dispatcher: gives out batches, notes what comes back."""

    batches: list[Sequence[Ticket]]
    settled: list[tuple[Admitted, Outcome]] = field(default_factory=list)
    asked: int = 0
    on_settle: Callable[[], Awaitable[None]] | None = None

    async def take(self, count: int) -> Sequence[Admitted]:
        self.asked += 1
        assert count >= 1
        return self.batches.pop(0) if self.batches else ()

    async def settle(self, admitted: Admitted, outcome: Outcome) -> None:
        self.settled.append((admitted, outcome))
        if self.on_settle is not None:
            await self.on_settle()


def tickets(*prompts: str, stream: bool = False) -> list[Ticket]:
    found = []
    for seq, prompt in enumerate(prompts, 1):
        params = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}
        found.append(Ticket(Attempt(seq, 1, f"r{seq}", "lane", json.dumps(params), 100, stream, timeout_s=20)))
    return found


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def open_engine(request: pytest.FixtureRequest) -> OpenEngine:
    engine: OpenEngine = request.param
    return engine


async def test_everything_taken_is_settled_once_with_its_own_answer(open_engine: OpenEngine) -> None:
    taken = tickets(*(f"Question {i}" for i in range(60)))
    desk = Desk([taken[:1], taken[1:40], taken[40:]])
    async with simulator(f"latency=0.01..0.1,{QUICK}") as (url, _), open_engine(url) as engine:
        await engine.run(desk.take, desk.settle)
    assert sorted(admitted.attempt.seq for admitted, _ in desk.settled) == list(range(1, 61))
    for admitted, outcome in desk.settled:
        assert isinstance(outcome, Success)
        assert outcome.text == expected_answer(admitted.attempt.params)
    assert all(ticket.sent == 1 for ticket in taken)


async def test_it_goes_on_taking_while_earlier_attempts_are_in_flight(open_engine: OpenEngine) -> None:
    slow = tickets(*["[[sim:delay=30]] slow"] * 7)
    quick = [Ticket(replace(slow[0].attempt, seq=8, params=tickets("quick")[0].attempt.params))]
    desk = Desk([slow, quick])
    done = anyio.Event()

    async def noted() -> None:
        done.set()

    desk.on_settle = noted
    async with simulator(QUICK) as (url, _), open_engine(url) as engine, anyio.create_task_group() as group:
        group.start_soon(engine.run, desk.take, desk.settle)
        with anyio.fail_after(10):
            await done.wait()
        group.cancel_scope.cancel()
    assert [admitted for admitted, _ in desk.settled] == quick


async def test_a_failure_is_a_value_and_stops_nothing(open_engine: OpenEngine) -> None:
    failures = FAILURES[open_engine.__name__]
    taken = tickets(*failures, "e")
    desk = Desk([taken])
    async with simulator(QUICK) as (url, _), open_engine(url) as engine:
        await engine.run(desk.take, desk.settle)
    classes = {
        admitted.attempt.seq: outcome.error_class for admitted, outcome in desk.settled if isinstance(outcome, Failure)
    }
    assert classes == dict(enumerate(failures.values(), 1))
    assert len(desk.settled) == 5


async def test_streams_bring_the_same_answers(open_engine: OpenEngine) -> None:
    desk = Desk([tickets("one", "two", stream=True)])
    async with simulator(QUICK) as (url, _), open_engine(url) as engine:
        await engine.run(desk.take, desk.settle)
    assert [isinstance(o, Success) and o.text == expected_answer(a.attempt.params) for a, o in desk.settled] == [
        True
    ] * 2


async def test_an_error_while_settling_ends_the_run(open_engine: OpenEngine) -> None:
    desk = Desk([tickets("one")])

    async def broken() -> None:
        raise RuntimeError("the store is gone")

    desk.on_settle = broken
    async with simulator(QUICK) as (url, _), open_engine(url) as engine:
        with pytest.raises(ExceptionGroup) as error:
            await engine.run(desk.take, desk.settle)
    assert error.group_contains(RuntimeError, match="the store is gone")
