"""Errands to the API about the batches of a store, outside of a run: look, cancel, forget."""

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from batchrunner.batch import KEPT_S, Batch, BatchState, Remote
from batchrunner.clock import stamp
from batchrunner.endpoint import Endpoint, opened
from batchrunner.engines.batch_line import Line
from batchrunner.errors import StoreLockedError, UsageError
from batchrunner.model import Failure
from batchrunner.store.batches import CancelAsked, Told, open_batches
from batchrunner.store.files import open_reader, owned
from batchrunner.store.forgetting import forget
from batchrunner.store.owner import owner_connection
from batchrunner.store.transactions import transaction
from batchrunner.store.writer import Change


@dataclass(frozen=True, slots=True)
class Errand:
    """What is done about the open batches of *store* at *endpoint*; *note* shows a sentence."""

    store: Path
    endpoint: Endpoint
    note: Callable[[str], None]

    def forget(self) -> None:
        """Let go of every open batch. Raises `StoreLockedError` while a run works on the store."""
        with owned(self.store), self._opened() as conn:
            gone = forget(conn, _now())
        self.note(f"{gone} batches forgotten: their requests are pending again")

    async def run(self, cancel: bool, ids: Collection[str]) -> None:  # noqa: FBT001 - anyio.run passes no keywords
        """Ask where the open batches stand, or *cancel* them (those with *ids*; none: all), and write down what is said.

        While a run owns the store only the API is told: the run learns of it by itself.
        """
        from batchrunner.api.batches import BatchesApi

        async with opened(self.endpoint, 1) as way:
            api = BatchesApi(await way.sender.sdk_client(), way.sender.secrets)
            for batch in self._wanted(ids):
                if batch.remote_id is None:
                    self.note(
                        f"batch {batch.id}: its submission was never answered; `batchrunner resume` finds it or gives it up"
                    )
                    continue
                told = await (api.cancel(batch.remote_id) if cancel else api.retrieve(batch.remote_id))
                if cancel and isinstance(told, Failure) and told.http_status == 400:  # it has ended just now
                    told = await api.retrieve(batch.remote_id)
                if isinstance(told, Failure):
                    if told.http_status == 404:
                        self.note(f"{batch.remote_id}: the endpoint does not know it with this key")
                        continue
                    raise Line.error_of(told)
                self._write(batch, told, cancel=cancel)
                self.note(f"{told.id}: {told.state.replace('_', ' ')}")

    def _wanted(self, ids: Collection[str]) -> list[Batch]:
        with contextlib.closing(open_reader(self.store)) as conn:
            found = open_batches(conn)
        if unknown := set(ids) - {batch.remote_id for batch in found}:
            raise UsageError(f"No open batch has the id {', '.join(sorted(unknown))}.")
        return [batch for batch in found if not ids or batch.remote_id in ids]

    def _write(self, batch: Batch, told: Remote, *, cancel: bool) -> None:
        until = stamp(datetime.fromisoformat(told.created_at) + timedelta(seconds=KEPT_S))
        changes: list[Change] = [Told(batch.id, told, until, _now())]
        if cancel and told.state is not BatchState.ENDED:
            changes.append(CancelAsked(batch.id, _now()))
        with (
            contextlib.suppress(StoreLockedError),
            owned(self.store),
            self._opened() as conn,
            transaction(conn) as cursor,
        ):
            for change in changes:
                change.write(cursor)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with owner_connection(self.store, durability="full", note=self.note) as conn:
            yield conn


def _now() -> str:
    return stamp(datetime.now(UTC))
