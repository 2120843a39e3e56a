"""Finding a batch whose submission was never answered: adopt it rather than pay for it twice."""

import anyio

from batchrunner.api.batches import BatchesApi, Cut
from batchrunner.batch import Batch, BatchState, Remote
from batchrunner.engines.batch_book import Book
from batchrunner.engines.batch_line import Line
from batchrunner.model import Failure
from batchrunner.policy.batching import Polling, may_be

_MOST_PAGES = 100


async def find(api: BatchesApi, book: Book, line: Line, batch: Batch, polling: Polling) -> Remote | None:
    """Return the batch that *batch* became at the API; None if it never arrived.

    The list names no rows, so a candidate is followed to its end: the first line of its results proves whose it is.
    """
    others: set[str] = set()
    give_up_at = anyio.current_time() + polling.grace_s
    while True:
        listed = await _listed(api, line, batch)
        candidates = may_be(batch, listed, {*await book.known(), *others})
        for remote in candidates:
            ended = await _ended(api, line, remote, polling)
            if ended is not None and await _is_ours(api, line, batch, ended):
                return ended
            others.add(remote.id)
        if not candidates:
            if anyio.current_time() >= give_up_at:
                return None
            await anyio.sleep(min(polling.first_s, max(0.0, give_up_at - anyio.current_time())) + 0.001)


async def _listed(api: BatchesApi, line: Line, batch: Batch) -> list[Remote]:
    """Return what the API lists, back to well before *batch* was sent."""
    found: list[Remote] = []
    after: str | None = None
    for _ in range(_MOST_PAGES):
        page = await api.page(after)
        while isinstance(page, Failure):
            await line.pause(page)
            page = await api.page(after)
        line.answers()
        found += page.batches
        after = page.next_after
        if after is None or not may_be(
            batch, [Remote("", BatchState.ENDED, found[-1].created_at, processing=batch.requests)], ()
        ):
            break
    return found


async def _ended(api: BatchesApi, line: Line, remote: Remote, polling: Polling) -> Remote | None:
    """Return *remote* when it has ended; None if it is gone."""
    looks = 0
    while remote.state is not BatchState.ENDED:
        await anyio.sleep(polling.wait_s(looks))
        looks += 1
        told = await api.retrieve(remote.id)
        if isinstance(told, Remote):
            line.answers()
            remote = told
        elif told.http_status == 404:
            return None
        else:
            await line.pause(told)
    return None if remote.archived_at is not None else remote


async def _is_ours(api: BatchesApi, line: Line, batch: Batch, remote: Remote) -> bool:
    while True:
        try:
            async for lines in api.results(remote.id):
                return any(result.nonce == batch.nonce for result in api.read(lines[:1]))
        except Cut as cut:
            if cut.failure.http_status == 404:
                return False
            await line.pause(cut.failure)
        else:
            return False
