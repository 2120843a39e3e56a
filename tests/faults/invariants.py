"""What must hold after every fault, whatever it was. One function for all of them."""

import contextlib
import json
import mmap
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrunner.simulator.answers import body_sha256, compose, prompt_texts, read_prompt
from batchrunner.simulator.ledger import MESSAGES_PATH, read_lines
from batchrunner.simulator.markers import parse_marks
from batchrunner.store.files import open_reader
from running import KEY
from store_helpers import report, typed


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures of a fault test that held."""

    requests: int
    acknowledged: int  #: Requests that a run had said were saved.
    paid: int  #: Answers that the endpoint charged for.
    paid_twice: int  #: Of them, beyond the first for the same request.
    in_vain: int  #: Paid for, and neither kept nor on record as a failure: gone with a run that died.
    listed: int  #: Attempts that `status --possible-duplicates` lists.
    kills: int


def check_invariants(
    job: Path,
    *,
    ledger: Path,
    saved: Mapping[str, str],
    kills: int,
    slots: int,
    outputs: Iterable[Path | str] = (),
    store: Path | None = None,
    finished: bool = True,
    alone: bool = True,
) -> Verdict:
    """Raise `AssertionError` unless nothing was lost, mixed up, paid for in secret or given away.

    *job*: a JSONL file, every line with an `id` (or `custom_id`) and a body of its own. *ledger*: of the simulator, which answers nothing any
    more (`Endpoint.settle`). *saved*: custom_id -> status, what a run had acknowledged as saved before it was killed.
    *kills*: how often a run died (or was cancelled) with at most *slots* calls in flight. *outputs*: captured output, as files or text.
    *finished*: whether every request must be final by now. *alone*: whether nothing but this job was sent to that simulator.

    I1 one row per input line, every one final; I2 every answer is the one to its own request; I3 nothing acknowledged
    is missing; I4 at most `kills * slots` answers were paid for in vain, and each is listed; I5 the file is sound, its
    totals and the export agree; I6 the key is in no file and no output.
    """
    store = store or job.with_suffix(".db")
    with contextlib.closing(open_reader(store)) as conn:
        ids = _one_row_per_line(conn, job, finished=finished)
        own_answers(conn)
        _acknowledged_is_there(conn, saved)
        paid = Counter(line["body"] for line in _charged(ledger))
        bodies = {body_sha256(row["params"].encode()): row["custom_id"] for row in conn.execute(_BODIES)}
        if not alone:
            paid = Counter({body: times for body, times in paid.items() if body in bodies})
        in_vain, listed = _paid_in_vain(conn, store, bodies, paid, kills * slots)
        _sound(conn)
        _same_in_the_export(conn, job, store)
    _no_key([job.parent, ledger], outputs)
    return Verdict(len(ids), len(saved), paid.total(), paid.total() - len(paid), in_vain, listed, kills)


def _charged(ledger: Path) -> Iterable[dict[str, Any]]:
    """Yield the answers that were charged for: calls of their own, and rows of batches."""
    for line in read_lines(ledger):
        is_call = line["event"] == "end" and line["path"] == MESSAGES_PATH
        if line.get("paid") and (is_call or line["event"] == "batch_row"):
            yield line


def _one_row_per_line(conn: sqlite3.Connection, job: Path, *, finished: bool) -> list[str]:
    lines = [json.loads(line) for line in job.read_bytes().split(b"\n") if line.strip()]
    given = [str(line.get("custom_id", line.get("id"))) for line in lines]
    rows = conn.execute("SELECT custom_id, state FROM requests WHERE line IS NOT NULL ORDER BY line").fetchall()
    assert [row["custom_id"] for row in rows] == given, "I1: the store's requests are not the lines of the job file"
    states = Counter(row["state"] for row in rows)
    possible = {"succeeded", "failed"} if finished else {"succeeded", "failed", "pending"}
    assert set(states) <= possible, f"I1: {states} at the end"
    return given


def expected_text(body: str) -> str:
    """Return what the simulator answers to *body* (JSON), markers in its prompt included."""
    params = json.loads(body)
    marks = parse_marks("\n".join(prompt_texts(params)))
    return compose(params, read_prompt(params), attempt=1, marks=marks).text


def own_answers(conn: sqlite3.Connection) -> None:
    """Raise `AssertionError` unless every succeeded request has the answer to its own body (I2)."""
    answered = conn.execute(
        """SELECT q.custom_id, i.params, r.text FROM requests q JOIN inputs i USING (seq)
           LEFT JOIN results r ON r.seq = q.seq AND r.number = q.attempts WHERE q.state = 'succeeded'"""
    )
    for row in answered:
        assert row["text"] == expected_text(row["params"]), f"I2: {row['custom_id']} has not its own answer"


def _acknowledged_is_there(conn: sqlite3.Connection, saved: Mapping[str, str]) -> None:
    states = dict(conn.execute("SELECT custom_id, state FROM requests").fetchall())
    lost = {custom_id for custom_id, status in saved.items() if states.get(custom_id) != status}
    assert not lost, f"I3: {len(lost)} that were said to be saved are lost: {sorted(lost)[:5]}"


def _paid_in_vain(
    conn: sqlite3.Connection, store: Path, bodies: Mapping[str, str], paid: Counter[str], most: int
) -> tuple[int, int]:
    """Check that what was paid for is kept or listed, and that no more was paid for in vain than was in flight."""
    assert len(bodies) == conn.execute("SELECT count(*) FROM inputs").fetchone()[0], "two requests ask the same"
    assert paid.keys() <= bodies.keys(), "I4: something was paid for that is not in the store"
    kept: Counter[str] = Counter(dict(conn.execute(_KEPT).fetchall()))
    failures: Counter[str] = Counter(dict(conn.execute(_FAILED_AND_PERHAPS_PAID).fetchall()))
    found = report("status", store, "--possible-duplicates")["possible_duplicate_attempts"]
    listed = Counter(entry["custom_id"] for entry in found)
    in_vain = 0
    for body, times in paid.items():
        custom_id = bodies[body]
        lost = times - kept[custom_id]
        assert lost <= listed[custom_id], f"I4: {custom_id} was paid for {times} times, which is not listed"
        in_vain += max(0, lost - failures[custom_id])
    open_ended = conn.execute("SELECT count(*) FROM attempts WHERE ended_at IS NULL").fetchone()[0]
    assert in_vain <= most, f"I4: {in_vain} answers were paid for in vain, at most {most} were in flight"
    assert open_ended <= most, f"I4: {open_ended} attempts have no end, at most {most} were in flight"
    return in_vain, listed.total()


_BODIES = "SELECT q.custom_id, i.params FROM requests q JOIN inputs i USING (seq)"
_KEPT = "SELECT q.custom_id, count(*) FROM results r JOIN requests q USING (seq) GROUP BY 1"
_FAILED_AND_PERHAPS_PAID = """SELECT q.custom_id, count(*) FROM attempts a JOIN requests q USING (seq)
    WHERE a.possibly_paid = 1 GROUP BY 1"""


def _sound(conn: sqlite3.Connection) -> None:
    assert [tuple(row) for row in conn.execute("PRAGMA integrity_check")] == [("ok",)], "I5: the file is damaged"
    assert conn.execute("PRAGMA foreign_key_check").fetchall() == [], "I5: a row hangs in the air"
    counted = conn.execute(
        """SELECT count(*), count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'failed')
           FROM requests WHERE line IS NOT NULL"""
    ).fetchone()
    kept = conn.execute("SELECT requests, succeeded, failed FROM job").fetchone()
    assert tuple(kept) == tuple(counted), f"I5: the totals say {tuple(kept)}, the rows {tuple(counted)}"
    groups = conn.execute("SELECT coalesce(sum(failed), 0) FROM failure_groups").fetchone()[0]
    assert groups == counted[2], f"I5: the groups of failures count {groups}, the rows {counted[2]}"


def _same_in_the_export(conn: sqlite3.Connection, job: Path, store: Path) -> None:
    target = job.parent / "invariants.export.jsonl"
    done = typed("export", store, "-f", "-o", target, "--format", "jsonl")
    assert done.exit_code == 0, f"I5: {done.output}"
    rows = conn.execute(
        """SELECT q.custom_id, q.state, r.text FROM requests q
           LEFT JOIN results r ON r.seq = q.seq AND r.number = q.attempts WHERE q.line IS NOT NULL ORDER BY q.line"""
    )
    with target.open(encoding="utf-8") as file:
        for row, line in zip(rows, file, strict=True):
            exported = json.loads(line)
            assert (exported["custom_id"], exported["status"]) == (row["custom_id"], row["state"]), "I5: the export"
            if row["state"] == "succeeded":
                assert exported["text"] == row["text"], "I5: the export has another answer"
    target.unlink()


def _no_key(places: Iterable[Path], outputs: Iterable[Path | str]) -> None:
    texts = [output for output in outputs if isinstance(output, str)]
    assert not any(KEY in text for text in texts), "I6: the key is in an output"
    for place in (*places, *(output for output in outputs if isinstance(output, Path))):
        for path in [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]:
            assert not _contains(path, KEY.encode()), f"I6: the key is in {path}"


def _contains(path: Path, needle: bytes) -> bool:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(needle) >= 0
