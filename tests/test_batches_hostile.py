"""What an endpoint may say of batches to do harm: through its list, its objects, its results."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from api_helpers import KEY, Scripted, Step, attempt, reply, scripted
from batch_book import BEGUN, MemoryBook
from batchrunner.api.batches import BatchesApi
from batchrunner.api.sender import open_senders
from batchrunner.batch import BatchState, Remote, RowKey
from batchrunner.engines import Admitted
from batchrunner.engines.batch_following import Follower
from batchrunner.engines.batch_line import Line
from batchrunner.model import ErrorClass, Failure, Outcome
from batchrunner.policy.batching import Polling

BATCH: dict[str, Any] = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "ended",
    "created_at": BEGUN,
    "request_counts": {"succeeded": 0, "errored": 1},
}
NONCE = "0123456789abcdef"


class Ticket:
    """An attempt that sits in a batch."""

    def __init__(self) -> None:
        self.attempt = attempt()

    def mark_sent(self) -> None:
        pass

    def mark_begun(self) -> None:
        pass


@asynccontextmanager
async def api_to(*scripts: Sequence[Step]) -> AsyncIterator[tuple[BatchesApi, Scripted]]:
    async with scripted(*scripts) as server, open_senders(server.url, api_key=KEY) as senders:
        yield BatchesApi(await senders.sdk_client(), senders.secrets), server


@pytest.mark.parametrize(
    "name",
    ["", "\x1b]0;owned\x07", "a b", "\ud800", "../../v1/files", "a/../b", "..", "a?b", "a#b", "a%2e", "x" * 10_000],
    ids=ascii,
)
async def test_an_id_that_no_batch_has_is_no_batch(name: str) -> None:
    """It would be part of an address, of the store and of a screen."""
    listed = {"data": [BATCH | {"id": name}], "has_more": True, "last_id": "msgbatch_1"}
    async with api_to([reply(BATCH | {"id": name})], [reply(listed)]) as (api, _):
        for found in [await api.retrieve("msgbatch_1"), await api.page()]:
            assert isinstance(found, Failure)
            assert found.error_class is ErrorClass.BAD_RESPONSE


async def test_what_is_told_of_another_batch_is_not_believed() -> None:
    """Its results would be taken for ours, which then lack every row."""
    other = reply(BATCH | {"id": "msgbatch_2"})
    async with api_to([other], [other], [reply(BATCH)], [reply(BATCH)]) as (api, _):
        for ask in (api.retrieve, api.cancel):
            found = await ask("msgbatch_1")
            assert isinstance(found, Failure)
            assert Line.is_passing(found)
        assert isinstance(await api.retrieve("msgbatch_1"), Remote)
        assert isinstance(await api.cancel("msgbatch_1"), Remote)


@pytest.mark.parametrize("last", ["\ud800", "x" * 10_000, "", 7, None], ids=ascii)
async def test_a_list_that_goes_on_nowhere_ends(last: Any) -> None:
    async with api_to([reply({"data": [BATCH], "has_more": True, "last_id": last})]) as (api, _):
        found = await api.page()
        assert not isinstance(found, Failure)
        assert found.next_after is None


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:59Z",  # 29 days later there is no calendar
        pytest.param("9" * 5000, id="digits"),
        [],
        "now",
    ],
)
async def test_an_instant_beyond_all_calendars_is_none(moment: Any) -> None:
    ended = BATCH | {"ended_at": moment}
    async with api_to([reply(ended)], [reply(BATCH | {"created_at": moment})]) as (api, _):
        found = await api.retrieve("msgbatch_1")
        assert isinstance(found, Remote)
        assert found.ended_at is None
        assert isinstance(await api.retrieve("msgbatch_1"), Failure)


async def test_a_key_that_stands_in_the_results_is_nowhere_to_be_found() -> None:
    error = {"type": "error", "error": {"type": "api_error", "message": f"x-api-key {KEY} met a fault"}}
    refused = {"custom_id": f"{NONCE}-1-1", "result": {"type": "errored", "error": error}}
    odd = {"custom_id": f"{NONCE}-1-1", "result": {"type": "succeeded", "message": {"headers": KEY}}}
    for line in (refused, odd):
        (outcome,) = await outcomes_of(json.dumps(line).encode() + b"\n")
        assert isinstance(outcome, Failure)
        assert KEY not in repr(outcome)


async def outcomes_of(results: bytes) -> list[Outcome]:
    """Return what becomes of the one row of a batch with these *results*."""
    book, ticket, key, settled = MemoryBook(), Ticket(), RowKey(1, 1), list[Outcome]()
    book.taken[key] = ticket
    batch = await book.intend(NONCE, [key], 100)

    async def settle(_: Admitted, outcome: Outcome) -> None:
        del book.rows[key]
        settled.append(outcome)

    async with api_to([reply(results)]) as (api, _):
        follower = Follower(api, book, Line(lambda _: None, first_s=0.01), Polling(0.01, 0.01))
        await follower.follow(batch, Remote("msgbatch_1", BatchState.ENDED, BEGUN, errored=1), settle)
    return settled
