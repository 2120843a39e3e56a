"""The batches engine at the API's odd moments: batches in doubt, batches of others, cancellation, files."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import anyio
import pytest

from batch_book import Booked, MemoryBook
from batchrunner.api.batch_results import read_results
from batchrunner.api.batches import BatchesApi
from batchrunner.api.sender import open_senders
from batchrunner.batch import BatchState, RowKey
from batchrunner.engines import Admitted
from batchrunner.engines.batch_body import Filling
from batchrunner.engines.batch_book import Plan
from batchrunner.engines.batch_line import Line
from batchrunner.engines.message_batches import MessageBatchesEngine
from batchrunner.model import ErrorClass, Failure, Outcome, Success
from batchrunner.policy.batching import Polling
from running import KEY, WatchedLedger, expected_answer, simulator
from test_engine_contract import Desk, Ticket, tickets

SOON = Polling(0.05, 0.2)


@asynccontextmanager
async def engine_on(spec: str) -> AsyncIterator[tuple[MessageBatchesEngine, MemoryBook, str, WatchedLedger]]:
    async with simulator(spec) as (url, ledger), open_senders(url, api_key=KEY) as senders:
        book = MemoryBook()
        plan = Plan(rows=10, linger_s=0.05, polling=SOON)
        line = Line(lambda _: None, first_s=0.05)
        yield MessageBatchesEngine(BatchesApi(await senders.sdk_client()), book, line, plan), book, url, ledger


async def in_doubt(book: MemoryBook, rows: Sequence[Ticket]) -> Filling:
    """Put a batch on record whose submission was never answered; return its body."""
    filling = Filling(100, 1 << 20)
    book.taken |= {RowKey(row.attempt.seq, 1): row for row in rows}
    for row in rows:
        key = RowKey(row.attempt.seq, 1)
        filling.add(key, filling.row(key, row.attempt.params.encode()), row.mark_sent)
    filling.seal()
    await book.intend(filling.nonce, filling.keys, filling.size)
    return filling


async def submitted(url: str, body: dict[str, Any]) -> None:
    async with anthropic.AsyncAnthropic(base_url=url, api_key=KEY) as client:
        await client.messages.batches.create(requests=body["requests"])


async def whole(filling: Filling) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join([chunk async for chunk in filling.chunks()]))
    return found


async def test_a_batch_in_doubt_that_did_arrive_is_adopted() -> None:
    rows, desk = tickets("one", "two"), Desk([])
    async with engine_on("latency=0,batch_s=0.3") as (engine, book, url, ledger):
        filling = await in_doubt(book, rows)
        await submitted(url, await whole(filling))
        filling.close()
        await Booked(engine, book).run(desk.take, desk.settle)
    assert {admitted.attempt.seq for admitted, _ in desk.settled} == {1, 2}
    assert book.batches[1].state is BatchState.COLLECTED
    assert sum(arrival.action == "created" for arrival in ledger.seen) == 1


async def test_somebody_elses_batch_of_the_same_size_is_not_taken_for_ours() -> None:
    rows, desk = tickets("one", "two"), Desk([])
    foreign = [{"custom_id": f"theirs-{n}", "params": json.loads(row.attempt.params)} for n, row in enumerate(rows)]
    async with engine_on("latency=0,batch_s=0.3") as (engine, book, url, _):
        (await in_doubt(book, rows)).close()
        await submitted(url, {"requests": foreign})
        await Booked(engine, book).run(desk.take, desk.settle)
    assert desk.settled == []
    assert book.batches[1].state is BatchState.WITHDRAWN
    assert sorted(key.seq for key in book.freed) == [1, 2]


async def test_what_a_cancelled_batch_had_not_begun_is_free_again() -> None:
    rows = tickets(*(f"row {n}" for n in range(10)))
    desk = Desk([rows])
    async with (
        engine_on("latency=0,batch_s=4,batch_cancel_s=0.05") as (engine, book, _, ledger),
        anyio.create_task_group() as group,
    ):
        group.start_soon(Booked(engine, book).run, desk.take, desk.settle)
        with anyio.fail_after(10):
            while not ledger.batch_rows:  # noqa: ASYNC110 - the simulator's own time
                await anyio.sleep(0.05)
        engine.cancel_all()
    assert len(desk.settled) + len(book.freed) == 10
    assert desk.settled
    assert book.freed
    assert book.batches[1].cancel_asked_at is not None
    for admitted, outcome in desk.settled:
        assert isinstance(outcome, Success)
        assert outcome.text == expected_answer(admitted.attempt.params)


async def test_rows_that_no_result_mentions_fail_and_may_have_been_paid(monkeypatch: pytest.MonkeyPatch) -> None:
    from batchrunner.simulator.batch_held import HeldBatch

    desk = Desk([tickets("one", "two", "three")])
    whole_chunks = HeldBatch.chunks
    monkeypatch.setattr(HeldBatch, "chunks", lambda held: [b"".join(whole_chunks(held)).split(b"\n", 1)[1]])
    async with engine_on("latency=0,batch_s=0.1") as (engine, book, _, _):
        await Booked(engine, book).run(desk.take, desk.settle)
    outcomes: list[tuple[Admitted, Outcome]] = desk.settled
    lost = [outcome for _, outcome in outcomes if isinstance(outcome, Failure)]
    assert len(outcomes) == 3
    assert [(failure.error_class, failure.possibly_paid) for failure in lost] == [(ErrorClass.BAD_RESPONSE, True)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"custom_id": "mine", "result": {"type": "expired"}}', None),
        (b'{"custom_id": "00000000000000ff-3-1", "result": {"ty', None),
        (b"[]", None),
        (b'{"custom_id": "00000000000000ff-3-1", "result": {"type": "expired"}}', ErrorClass.EXPIRED),
        (b'{"custom_id": "00000000000000ff-3-1", "result": {"type": "new"}}', ErrorClass.BAD_RESPONSE),
        (b'{"custom_id": "00000000000000ff-3-1", "result": null}', ErrorClass.BAD_RESPONSE),
        (
            (
                b'{"custom_id": "00000000000000ff-3-1", "result": {"type": "errored", "error": {"type": "error", '
                b'"error": {"type": "invalid_request_error", "message": "prompt is too long"}}}}'
            ),
            ErrorClass.INVALID,
        ),
    ],
    ids=["not-ours", "half", "no-object", "expired", "unknown", "nothing", "errored"],
)
def test_lines_of_results_are_values_whatever_they_hold(line: bytes, expected: ErrorClass | None) -> None:
    found = read_results([line])
    if expected is None:
        assert found == []
        return
    ((nonce, key, outcome),) = found
    assert (nonce, key) == ("00000000000000ff", RowKey(3, 1))
    assert isinstance(outcome, Failure)
    assert outcome.error_class is expected
