"""Builds real stores, change by change, with the statements that a run uses, and types commands that read them."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from batchrunner.cli import cli
from batchrunner.errors import Exit
from batchrunner.model import (
    Attempt,
    Decision,
    ErrorClass,
    Fail,
    Failure,
    Outcome,
    Request,
    Retry,
    Settlement,
    Success,
    Usage,
)
from batchrunner.store.changes import Heartbeat, RunEnded, Settled, Started, begin_run
from batchrunner.store.files import close_owner, open_owner, owned
from batchrunner.store.imports import begin_import
from batchrunner.store.transactions import transaction
from batchrunner.store.writer import Change

#: The present of these tests.
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def at(clock: str) -> str:
    """Return the UTC stamp of `HH:MM:SS` on the day of these tests."""
    return f"2026-11-22T{clock}.000Z"


def request(custom_id: str, line: int, *, metadata: Mapping[str, Any] | None = None, prompt: str = "?") -> Request:
    params = json.dumps({"model": "claude-haiku-4-5", "max_tokens": 10, "prompt": prompt})
    digest = hashlib.sha256(params.encode()).hexdigest()
    return Request(
        custom_id=custom_id,
        line=line,
        line_hash=hashlib.sha256(f"{custom_id} {digest}".encode()).hexdigest(),
        params=params,
        params_hash=digest,
        model="claude-haiku-4-5",
        max_tokens=10,
        metadata=None if metadata is None else json.dumps(metadata, ensure_ascii=False, separators=(",", ":")),
    )


def requests(count: int, *, first: int = 1) -> list[Request]:
    """Return *count* requests `r1`, `r2`, ..., each on the line of its number."""
    return [request(f"r{n}", n) for n in range(first, first + count)]


def answer(text: str = "42", *, stop_reason: str = "end_turn", model: str = "claude-haiku-4-5") -> Success:
    message = json.dumps({"content": [{"type": "text", "text": text}]})
    return Success(message, text, stop_reason, model, Usage(100, 20, 3, 4), "req_1")


def failure(
    error_class: ErrorClass, message: str = "it broke", *, possibly_paid: bool = False, kept: Success | None = None
) -> Failure:
    """A failure; *kept*: the answer that was not accepted."""
    return Failure(error_class, message, http_status=500, possibly_paid=possibly_paid, answer=kept)


@dataclass
class StoreMaker:
    """The owner of a store under construction."""

    path: Path
    conn: sqlite3.Connection
    input_path: Path
    run_id: int = 0
    numbers: dict[int, int] = field(default_factory=dict)

    def take_in(self, given: Sequence[Request], *, on_change: str | None = None, simulated: bool = False) -> None:
        loading = begin_import(self.conn, on_change=on_change)
        loading.add(given)
        loading.complete(
            {
                "input_path": str(self.input_path),
                "input_bytes": 1,
                "input_sha256": "0",
                "defaults": "{}",
                "simulated": simulated,
                "at": at("10:00:00"),
            }
        )

    def begin(self, clock: str = "11:00:00", *, pid: int = 4242) -> int:
        run = {"version": "0.1.0", "host": "box", "pid": pid, "at": at(clock)}
        self.run_id = begin_run(self.conn, run, {}, at("23:59:59"))
        return self.run_id

    def write(self, *changes: Change) -> None:
        with transaction(self.conn) as cursor:
            for change in changes:
                change.write(cursor)

    def beat(self, clock: str) -> None:
        self.write(Heartbeat(self.run_id, at(clock)))

    def end(self, clock: str = "11:30:00", ending: str = "finished", reason: str | None = None) -> None:
        self.write(RunEnded(self.run_id, at(clock), ending, reason))

    def start(self, custom_id: str, clock: str = "11:00:01", *, lane: str = "haiku") -> Attempt:
        """Put the start of the next attempt of *custom_id* on record."""
        (seq, params) = self.conn.execute(
            "SELECT q.seq, i.params FROM requests q JOIN inputs i ON i.seq = q.seq WHERE custom_id = ?", (custom_id,)
        ).fetchone()
        number = self.numbers[seq] = self.numbers.get(seq, 0) + 1
        attempt = Attempt(seq, number, custom_id, lane, params, 10)
        self.write(Started(attempt, self.run_id, at(clock)))
        return attempt

    def settle(
        self,
        custom_id: str,
        outcome: Outcome,
        *,
        started: str = "11:00:01",
        ended: str = "11:00:03",
        decision: Decision | None = None,
        retry_at: str | None = None,
        lane: str = "haiku",
    ) -> None:
        """Make one attempt of *custom_id*: a success is accepted; a failure is final unless *retry_at* or *decision*."""
        attempt = self.start(custom_id, started, lane=lane)
        if decision is None and isinstance(outcome, Failure):
            decision = Retry(0.0) if retry_at else Fail()
        not_before = at(retry_at) if retry_at else None
        self.write(Settled(Settlement(attempt, outcome, decision, at(ended), not_before)))


@contextmanager
def building(path: Path, *, input_path: Path | None = None) -> Iterator[StoreMaker]:
    """Own the store *path*, made if it is new, for the length of the block."""
    with owned(path):
        conn = open_owner(path, durability="fast")
        try:
            yield StoreMaker(path, conn, input_path or path.with_suffix(".jsonl"))
        finally:
            close_owner(conn)


def typed(*words: object) -> Result:
    """Run the command that consists of *words*, in this process."""
    return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)


def report(*words: object) -> dict[str, Any]:
    """Return what the command *words* prints with `--json`."""
    result = typed(*words, "--json")
    assert result.exit_code == Exit.OK
    parsed = json.loads(result.stdout)
    assert isinstance(parsed, dict)
    return parsed
