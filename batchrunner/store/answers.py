"""A store from Python: typed rows, read only, also while a run writes to it."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batchrunner.errors import StoreError, UsageError
from batchrunner.model import ErrorClass, State
from batchrunner.store.detail import HAS_TWINS
from batchrunner.store.files import open_reader, store_path
from batchrunner.store.found import Progress
from batchrunner.store.read import PROGRESS
from batchrunner.store.received import received

#: A page of results ends with the answer that makes it so long.
PAGE_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Result:
    """One request and what became of it. Tokens, latency and `api_request_id` are those of the call that answered."""

    custom_id: str
    status: State  #: `succeeded`, `failed` or `pending`; compares equal to these words.
    text: str | None  #: The answer's text blocks, joined. Failed requests may have one too: truncated, refused.
    stop_reason: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cost_usd: float | None  #: None: unknown.
    attempts: int  #: How often it was sent.
    latency_s: float | None
    error_class: ErrorClass | None  #: Of the latest attempt, if that failed.
    error_message: str | None
    api_request_id: str | None
    metadata: Mapping[str, Any]  #: Yours, from the line; empty if it had none.
    message_json: str | None  #: The answer as received, JSON text.
    line: int | None  #: In the latest input, from 1; None: no longer in it.
    deduplicated_of: str | None = None  #: The identical request whose answer this is (`dedupe`).

    @property
    def ok(self) -> bool:
        """Whether there is an accepted answer."""
        return self.status is State.SUCCEEDED

    @property
    def message(self) -> dict[str, Any] | None:
        """The whole message as the API sent it, parsed; None without an answer."""
        if self.message_json is None:
            return None
        message: dict[str, Any] = received(self.message_json)
        return message


_COLUMNS = ", ".join("f.message AS message_json" if f.name == "message_json" else f"f.{f.name}" for f in fields(Result))
# Only fixed text is put in.
_RESULTS = "SELECT {columns} FROM results_flat AS f WHERE {which}"
_IN_ORDER = "SELECT {columns} FROM json_each(:seqs) AS w CROSS JOIN results_flat AS f ON f.seq = w.value ORDER BY w.key"
BY_SEQ = _IN_ORDER.format(columns=_COLUMNS)
ALL, OF_STATE, BY_ID, EARLIER = (
    _RESULTS.format(columns=_COLUMNS, which=which)
    for which in (
        "line IS NOT NULL ORDER BY line",
        "line IS NOT NULL AND status = :status ORDER BY line",
        "custom_id = :custom_id",
        # What is final and was not made so by this run, by the page: a snapshot held open would let the log grow.
        """line > :after AND status <> 'pending' AND NOT EXISTS (
            SELECT 1 FROM attempts a WHERE a.seq = f.seq AND a.number = f.attempts AND a.run_id = :run_id)
        AND NOT EXISTS (
            SELECT 1 FROM requests q JOIN runs r ON r.id = :run_id
            WHERE q.seq = f.seq AND q.answered_by IS NOT NULL AND q.finished_at >= r.started_at)
        ORDER BY line LIMIT :most""",
    )
)


class Store:
    """The answers in a store, by the name of the store or of its job file.

    Raises `UsageError` if there is none, `StoreError` if it is none of ours or cannot be read. Nothing here changes a
    byte, and it can be used while a run works on the store: each call shows how things stand at that moment.

        with Store("jobs.db") as store:
            texts = {result.custom_id: result.text for result in store.results()}
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = store_path(Path(path))
        self._conn = open_reader(self.path)
        self._knows_twins = bool(self._guarded(lambda: self._conn.execute(HAS_TWINS).fetchone())[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def close(self) -> None:
        """Let go of the file; iterators that are not at their end raise `StoreError` from then on."""
        self._conn.close()

    def results(self, status: State | str | None = None) -> Iterator[Result]:
        """Yield every request of the latest input in its order, pending ones too; of one *status* if given.

        A row at a time, so memory stays flat. An iterator shows the store as it was when it began.
        """
        if status is None:
            return self._rows(ALL, {})
        if status not in set(State):
            raise UsageError(f"status={status!r}: {', '.join(State)}, or None for all.")
        return self._rows(OF_STATE, {"status": str(status)})

    def failures(self) -> Iterator[Result]:
        """Yield the requests that were given up, with `error_class` and `error_message`."""
        return self.results(State.FAILED)

    def get(self, custom_id: str) -> Result | None:
        """Return one request, also one that is no longer in the input; None if there is no such id."""
        return next(self._rows(BY_ID, {"custom_id": custom_id}), None)

    def progress(self) -> Progress:
        """Return how many requests stand where; all zero before an input was read to its end."""
        row = self._guarded(lambda: self._conn.execute(PROGRESS).fetchone())
        return Progress(**row) if row else Progress()

    def settled(self, seqs: Iterable[int]) -> list[Result]:
        """Return the requests at these places of the store, in the order given; of long answers only the first so many."""
        return self._page(BY_SEQ, {"seqs": json.dumps(list(seqs))})

    def finished_before(self, run_id: int | None, *, after: int, most: int) -> list[Result]:
        """Return up to *most* final requests beyond line *after* that this run did not finish, by line; fewer of long answers."""
        return self._page(EARLIER, {"after": after, "most": most, "run_id": run_id})

    def _page(self, sql: str, params: Mapping[str, Any]) -> list[Result]:
        results, size = [], 0
        with contextlib.closing(self._rows(sql, params)) as rows:
            for result in rows:
                results.append(result)
                size += len(result.message_json or "")
                if size >= PAGE_BYTES:
                    break
        return results

    def _rows(self, sql: str, params: Mapping[str, Any]) -> Generator[Result, None, None]:
        if not self._knows_twins:
            sql = sql.replace("f.deduplicated_of", "NULL AS deduplicated_of")
        rows = self._guarded(lambda: self._conn.execute(sql, params))
        try:
            while (row := self._guarded(rows.fetchone)) is not None:
                yield _result(row)
        finally:  # one that is left half read would hold the log
            with contextlib.suppress(sqlite3.Error):
                rows.close()

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path} cannot be read: {error}.") from error


def _result(row: sqlite3.Row) -> Result:
    values = dict(row)
    error_class = values["error_class"]
    return Result(
        **values
        | {
            "status": State(values["status"]),
            "error_class": None if error_class is None else ErrorClass(error_class),
            "metadata": json.loads(values["metadata"] or "{}"),
        }
    )
