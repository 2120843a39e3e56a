"""Reading a job file into the store: whole and checked before anything is sent, skipped when nothing has changed."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchrunner import loading
from batchrunner.errors import ChangedRequestsError, InputError
from batchrunner.jobfile import Defaults, Template
from batchrunner.loading import SHOWN, Interrupted, Source, Watcher, fingerprint, load
from batchrunner.store.changes import Settled, Started
from batchrunner.store.imports import CHUNK
from batchrunner.store.repeats import Imported
from builders import AT, attempt, body, dump, moment, opened_store, rows, settlement, take_in, write

DEFAULTS = Defaults(model="claude-haiku-4-5", max_tokens=16)
TABLES = ("requests", "inputs", "attempts", "results", "job")


class StoppedClock:
    """Time stands at `builders.AT`."""

    def monotonic(self) -> float:
        return 0.0

    def utc_now(self) -> Any:
        return moment()

    async def sleep_until(self, instant: float) -> None:
        raise AssertionError("loading waits for nothing")


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with opened_store(tmp_path / "jobs.db") as conn:
        yield conn


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A job file of three lines."""
    source = Source(tmp_path / "jobs.jsonl", DEFAULTS)
    put(source, *({"id": f"r{n}", "prompt": f"Say {n}."} for n in (1, 2, 3)))
    return source


def put(source: Source, *lines: Any) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    source.path.write_text("".join(f"{text}\n" for text in texts))


def load_it(
    conn: sqlite3.Connection, source: Source, on_change: str | None = None, watcher: Watcher | None = None
) -> Imported | None:
    return load(conn, source, on_change=on_change, clock=StoppedClock(), watcher=watcher or Watcher())


def answer_first(conn: sqlite3.Connection) -> None:
    write(conn, Started(attempt(1), 1, AT), Settled(settlement(attempt(1))))


def test_a_job_file_becomes_requests_and_is_on_record(conn: sqlite3.Connection, source: Source) -> None:
    assert load_it(conn, source) == Imported(requests=3, new=3)
    assert rows(conn, "SELECT custom_id, line, state FROM requests") == [(f"r{n}", n, "pending") for n in (1, 2, 3)]
    assert json.loads(rows(conn, "SELECT params FROM inputs")[0][0]) == body("Say 1.")
    size, sha256 = fingerprint(source.path)
    assert rows(conn, "SELECT input_path, input_bytes, input_sha256, import_completed_at, simulated FROM job") == [
        (str(source.path), size, sha256, AT, 0)
    ]
    assert size == source.path.stat().st_size


def test_an_unchanged_file_is_not_taken_in_again(conn: sqlite3.Connection, source: Source) -> None:
    load_it(conn, source)
    answer_first(conn)
    before = dump(conn, *TABLES)
    assert load_it(conn, source) is None
    assert dump(conn, *TABLES) == before


def test_a_file_that_was_only_touched_or_moved_is_unchanged(conn: sqlite3.Connection, source: Source) -> None:
    load_it(conn, source)
    os.utime(source.path, (1, 1))
    assert load_it(conn, source) is None
    moved = replace(source, path=source.path.rename(source.path.with_name("moved.jsonl")))
    assert load_it(conn, moved) is None


def test_a_file_of_the_same_size_with_other_bytes_is_taken_in(conn: sqlite3.Connection, source: Source) -> None:
    load_it(conn, source)
    source.path.write_text(source.path.read_text().replace("Say 2", "Say 9"))
    assert load_it(conn, source) == Imported(requests=3, updated=1)


@pytest.mark.parametrize(
    "shaping",
    [
        {"defaults": Defaults(model="claude-haiku-4-5", max_tokens=99)},
        {"defaults": Defaults(model="claude-opus-4-8", max_tokens=16)},
        {"defaults": Defaults(model="claude-haiku-4-5", max_tokens=16, system="Be brief.")},
        {"defaults": Defaults(model="claude-haiku-4-5", max_tokens=16, extra={"temperature": 0.5})},
    ],
    ids=["max_tokens", "model", "system", "extra"],
)
def test_other_defaults_for_the_same_file_change_its_requests(
    conn: sqlite3.Connection, source: Source, shaping: dict[str, Any]
) -> None:
    load_it(conn, source)
    answer_first(conn)
    changed = replace(source, **shaping)
    before = dump(conn, *TABLES)
    with pytest.raises(ChangedRequestsError):
        load_it(conn, changed)
    assert dump(conn, *TABLES) == before
    assert load_it(conn, changed, "rerun") == Imported(requests=3, updated=2, rerun=1, examples=["r1"])
    assert load_it(conn, changed) is None


def test_defaults_given_in_another_order_are_the_same(conn: sqlite3.Connection, source: Source) -> None:
    first = replace(source, defaults=replace(DEFAULTS, extra={"top_k": 5, "temperature": 0.5}))
    second = replace(source, defaults=replace(DEFAULTS, extra={"temperature": 0.5, "top_k": 5}))
    load_it(conn, first)
    assert load_it(conn, second) is None


def test_another_template_changes_the_requests(conn: sqlite3.Connection, source: Source) -> None:
    put(source, {"id": "a", "question": "1 + 1"})
    solve = replace(source, template=Template("Solve: {question}"), template_text="Solve: {question}")
    guess = replace(source, template=Template("Guess: {question}"), template_text="Guess: {question}")
    load_it(conn, solve)
    assert load_it(conn, solve) is None
    assert load_it(conn, guess) == Imported(requests=1, updated=1)
    assert json.loads(rows(conn, "SELECT params FROM inputs")[0][0])["messages"][0]["content"] == "Guess: 1 + 1"


def test_an_edited_file_stops_at_what_was_sent_before(conn: sqlite3.Connection, source: Source) -> None:
    load_it(conn, source)
    answer_first(conn)
    put(source, {"id": "r1", "prompt": "Sing."}, {"id": "r2", "prompt": "Say 2."})
    before = dump(conn, *TABLES)
    with pytest.raises(ChangedRequestsError, match="'r1'"):
        load_it(conn, source)
    assert dump(conn, *TABLES) == before
    assert load_it(conn, source, "keep") == Imported(requests=2, removed=1, kept=1, examples=["r1"])


# Files that cannot be taken.


@pytest.mark.parametrize("again", [False, True], ids=["first import", "later import"])
def test_bad_lines_are_counted_and_leave_the_store_as_it_was(
    conn: sqlite3.Connection, source: Source, again: bool
) -> None:
    if again:
        load_it(conn, source)
        answer_first(conn)
    before = dump(conn, *TABLES)
    good = [{"id": f"n{n}", "prompt": "Hi"} for n in range(CHUNK)]
    put(source, *good, "not json", {"id": "x", "prompt": "Hi"}, {"prompt": ""})
    with pytest.raises(InputError) as refused:
        load_it(conn, source)
    said = str(refused.value)
    assert f"jobs.jsonl: 2 bad lines of {CHUNK + 3:,}; nothing was sent." in said
    assert str(CHUNK + 1) in said
    assert str(CHUNK + 3) in said
    assert dump(conn, *TABLES) == before


def test_of_many_bad_lines_the_first_are_shown(conn: sqlite3.Connection, source: Source) -> None:
    put(source, *["not json"] * (SHOWN + 7))
    with pytest.raises(InputError) as refused:
        load_it(conn, source)
    assert str(refused.value).count("\n") == SHOWN + 1
    assert str(refused.value).endswith("... and 7 more")


def test_a_model_that_no_line_names_is_asked_for_once(conn: sqlite3.Connection, source: Source) -> None:
    nameless = replace(source, defaults=Defaults(max_tokens=10))
    put(source, *[{"id": f"n{n}", "prompt": "Hi"} for n in range(50)])
    with pytest.raises(InputError) as refused:
        load_it(conn, nameless)
    assert str(refused.value).endswith(
        "jobs.jsonl: no model: give --model or a model in the line; none of the 50 lines has one. Nothing was sent."
    )
    put(source, *[{"id": f"n{n}", "prompt": "Hi"} for n in range(50)], "not json")
    with pytest.raises(InputError, match="51 bad lines of 51"):
        load_it(conn, nameless)


def test_one_bad_line_is_one_line(conn: sqlite3.Connection, source: Source) -> None:
    put(source, "not json")
    with pytest.raises(InputError, match=r"1 bad line of 1; nothing was sent\."):
        load_it(conn, source)


@pytest.mark.parametrize("again", [False, True], ids=["first import", "later import"])
def test_a_missing_file_leaves_the_store_as_it_was(conn: sqlite3.Connection, source: Source, again: bool) -> None:
    if again:
        load_it(conn, source)
    before = dump(conn, *TABLES)
    source.path.unlink()
    with pytest.raises(InputError, match=r"jobs\.jsonl"):
        load_it(conn, source)
    assert dump(conn, *TABLES) == before


# Long files: shown and stopped.


def test_a_long_file_shows_how_far_it_has_come(
    conn: sqlite3.Connection, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "CHUNK", 1)
    shown: list[tuple[int, int]] = []
    load_it(conn, source, watcher=Watcher(progress=lambda done, total: shown.append((done, total))))
    size = source.path.stat().st_size
    assert len(shown) == 3
    assert shown == sorted(shown)
    assert shown[-1] == (size, size)


@pytest.mark.parametrize("again", [False, True], ids=["first import", "later import"])
def test_an_import_that_the_user_stops_leaves_the_store_as_it_was(
    conn: sqlite3.Connection, source: Source, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    monkeypatch.setattr(loading, "CHUNK", 1)
    if again:
        load_it(conn, source)
        answer_first(conn)
    put(source, *({"id": f"n{n}", "prompt": "Hi"} for n in range(9)))
    before = dump(conn, *TABLES)
    asked = iter([False, False, True])
    with pytest.raises(Interrupted):
        load_it(conn, source, watcher=Watcher(stopped=lambda: next(asked)))
    assert dump(conn, *TABLES) == before
    assert load_it(conn, source) is not None


def test_a_file_full_of_bad_lines_can_be_stopped_too(conn: sqlite3.Connection, source: Source) -> None:
    """After the first bad line nothing is written any more, but ten million lines are still looked at."""
    put(source, *["not json"] * (3 * CHUNK))
    with pytest.raises(Interrupted):
        load_it(conn, source, watcher=Watcher(stopped=lambda: True))


def test_an_import_that_was_killed_is_done_again_although_the_file_is_the_same(
    conn: sqlite3.Connection, source: Source
) -> None:
    load_it(conn, source)
    conn.execute("UPDATE job SET import_completed_at = NULL")
    assert load_it(conn, source) == Imported(requests=3, new=3)
    assert take_in(conn, []) == Imported(removed=3)


# A job file in other hands meanwhile.


def when_half_is_read(act: Callable[[], object]) -> Watcher:
    """Return a watcher that acts once, after the first chunk."""
    acts = iter([act])

    def progress(done: int, total: int) -> None:
        assert done < total or not list(acts), "nothing was left to read"
        for one in acts:
            one()

    return Watcher(progress)


def long_lines(source: Source) -> bytes:
    put(source, *({"id": f"r{n}", "prompt": f"{n} " + "x" * 10_000} for n in range(100)))
    return source.path.read_bytes()


@pytest.mark.parametrize("again", [False, True], ids=["first import", "later import"])
@pytest.mark.parametrize("change", ["appended", "cut short", "written anew"])
def test_a_job_file_that_is_written_to_while_it_is_read_is_refused(
    conn: sqlite3.Connection, source: Source, monkeypatch: pytest.MonkeyPatch, change: str, again: bool
) -> None:
    """Half a file would be taken for the whole, and paid for."""
    monkeypatch.setattr(loading, "CHUNK", 1)
    if again:
        load_it(conn, source)
        answer_first(conn)
    whole = long_lines(source)
    before = dump(conn, *TABLES)

    def act() -> None:
        with source.path.open("r+b") as file:
            if change == "appended":
                file.seek(0, os.SEEK_END)
                file.write(b'{"id": "late", "prompt": "Hi"}\n')
            elif change == "cut short":
                file.truncate(whole.index(b"\n", len(whole) // 2) + 1)
            else:
                file.write(whole.replace(b"x", b"y"))

    with pytest.raises(InputError, match=r"jobs\.jsonl was written to while it was read. Nothing was sent"):
        load_it(conn, source, watcher=when_half_is_read(act))
    assert dump(conn, *TABLES) == before
    assert load_it(conn, source, on_change="keep") is not None, "and now it is complete"


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_job_file_that_vanishes_while_it_is_read_was_read_whole(
    conn: sqlite3.Connection, source: Source, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    monkeypatch.setattr(loading, "CHUNK", 1)
    long_lines(source)

    def act() -> None:
        if replaced:
            other = source.path.with_name("other")
            other.write_text('{"id": "other", "prompt": "Hi"}\n')
            other.replace(source.path)
        else:
            source.path.unlink()

    assert load_it(conn, source, watcher=when_half_is_read(act)) == Imported(requests=100, new=100)
    assert rows(conn, "SELECT count(*), count(DISTINCT params) FROM inputs") == [(100, 100)]
