"""What a run could not write: kept elsewhere, brought home once, and never in place of what is settled."""

import contextlib
import json
import os
import pwd
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrunner.errors import Exit, StoreError, UsageError
from batchrunner.model import ErrorClass, Fail, Halt, Retry, Settlement
from batchrunner.store import rescue
from batchrunner.store.adoption import Adopted, adopt, adopt_found
from batchrunner.store.changes import RunEnded, Settled, Started, Unstarted, recover, run_identity
from batchrunner.store.records import change_of, record_of
from batchrunner.store.rescue import Rescue
from builders import (
    AT,
    attempt,
    dump,
    failure,
    numbered,
    opened_store,
    rows,
    run_on,
    settlement,
    success,
    take_in,
    write,
)
from store_helpers import report, typed

TABLES = ("attempts", "requests", "results", "job", "lane_totals", "failure_groups", "runs")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "work" / "jobs.db"


@pytest.fixture
def conn(store: Path) -> Iterator[sqlite3.Connection]:
    """A store with five requests, a run, and a start on record for each of the first four."""
    with opened_store(store) as conn:
        take_in(conn, numbered(5))
        run_id = run_on(conn)
        write(conn, *(Started(attempt(seq), run_id, AT) for seq in range(1, 5)))
        yield conn


def of_run(conn: sqlite3.Connection, store: Path) -> Rescue:
    return Rescue(store, run_identity(conn, 1))


#: One of each kind that a run settles.
SETTLED = [
    settlement(attempt(1), success("Käse \u2028 and more")),
    settlement(attempt(2), failure(message="no", http_status=500, possibly_paid=True, body="<html>"), Retry(9.0), AT),
    settlement(attempt(3), failure(ErrorClass.TRUNCATED, "cut", answer=success("half an ans")), Fail()),
    settlement(attempt(4), failure(ErrorClass.BILLING, "no credit"), Halt("no credit")),
]


@pytest.mark.parametrize("one", SETTLED, ids=["success", "retry", "failed with an answer", "halt"])
def test_a_rescued_settlement_leaves_the_store_as_if_it_had_been_written(
    conn: sqlite3.Connection, store: Path, one: Settlement
) -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as twin:
        conn.backup(twin)
        write(twin, Settled(one))
        expected = dump(twin, *TABLES)
    of_run(conn, store).keep([Settled(one)])
    (adopted,) = adopt_found(conn, store)
    assert (adopted.answers, adopted.known) == (1, 0)
    assert dump(conn, *TABLES) == expected


@pytest.mark.parametrize(
    "decision", [None, Fail(), Halt(""), Retry(0.0), Retry(0.0, counted=False)], ids=lambda d: repr(d)[:30]
)
def test_what_decides_of_the_store_comes_back_from_a_record(decision: Any) -> None:
    outcome = success() if decision is None else failure()
    change = Settled(settlement(attempt(3, 2), outcome, decision))
    again = change_of(json.loads(json.dumps(record_of(change))), 7)
    assert isinstance(again, Settled)
    assert again.settlement.outcome == outcome
    assert again.settlement.decision == decision
    assert (again.settlement.attempt.seq, again.settlement.attempt.number) == (3, 2)


def test_a_start_that_was_taken_back_and_the_end_of_the_run_are_kept_too(conn: sqlite3.Connection, store: Path) -> None:
    changes = [Settled(SETTLED[0]), Unstarted(attempt(2)), RunEnded(1, AT, "interrupted", None)]
    of_run(conn, store).keep(changes)
    list(adopt_found(conn, store))
    recover(conn)
    assert rows(conn, "SELECT seq FROM attempts WHERE ended_at IS NULL") == [(3,), (4,)]
    assert rows(conn, "SELECT ending FROM runs") == [("interrupted",)]


def test_without_an_answer_there_is_no_file(conn: sqlite3.Connection, store: Path) -> None:
    kept = of_run(conn, store)
    kept.keep([RunEnded(1, AT, "interrupted", None), Unstarted(attempt(1)), Started(attempt(5), 1, AT)])
    assert kept.paths == []
    assert str(kept.told(StoreError("Full."))) == "Full."
    assert not list(store.parent.glob("*rescue*"))


def test_the_file_is_for_its_owner_only_and_grows_as_answers_come(conn: sqlite3.Connection, store: Path) -> None:
    before = os.umask(0)
    try:
        kept = of_run(conn, store)
        for one in SETTLED:
            kept.keep([Settled(one)])
    finally:
        os.umask(before)
    (path,) = kept.paths
    assert path.parent == store.parent
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes().splitlines()) == 1 + len(SETTLED)
    assert f"4 finished answers are kept in {path}" in str(kept.told(StoreError("Full.")))


# Where there is no room.


def test_the_next_place_is_taken_where_one_cannot_be_written(
    conn: sqlite3.Connection, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = {store.parent.resolve(), Path.cwd()}
    real = rescue._appended
    monkeypatch.setattr(
        rescue, "_appended", lambda path, content: "full" if path.parent in full else real(path, content)
    )
    kept = of_run(conn, store)
    kept.keep([Settled(SETTLED[0])])
    assert kept.paths[0].parent.name == "batchrunner"
    full.add(kept.paths[0].parent)  # and then that fills up too
    monkeypatch.setattr(rescue, "LASTING", store.parent.parent)
    kept.keep([Settled(SETTLED[1])])
    assert [path.parent for path in kept.paths][1:] == [store.parent.parent]
    assert sum(adopted.answers for adopted in adopt_found(conn, store)) == 2
    assert not any(path.exists() for path in kept.paths)


def test_no_place_at_all_is_an_error_that_says_what_is_lost(
    conn: sqlite3.Connection, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "_appended", lambda path, _: f"{path.parent}: No space left on device")
    with pytest.raises(StoreError, match=r"last answers \(2\) cannot be kept anywhere .* No space left .* are lost"):
        of_run(conn, store).keep([Settled(SETTLED[0]), Settled(SETTLED[1])])
    assert not list(store.parent.parent.rglob("*rescue*"))


def test_half_a_line_is_never_left_behind(
    conn: sqlite3.Connection, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = of_run(conn, store)
    kept.keep([Settled(SETTLED[0])])
    before = kept.paths[0].read_bytes()
    real = os.write

    def write_half(fd: int, content: Any) -> int:
        real(fd, bytes(content)[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write_half)
    with pytest.raises(StoreError):
        kept.keep([Settled(SETTLED[1])])
    assert kept.paths[0].read_bytes() == before


# Taking it in.


def kept_file(conn: sqlite3.Connection, store: Path, *changes: Settled) -> Path:
    kept = of_run(conn, store)
    kept.keep(changes)
    return kept.paths[0]


def test_taking_in_twice_changes_nothing(conn: sqlite3.Connection, store: Path) -> None:
    path = kept_file(conn, store, *map(Settled, SETTLED))
    copy = shutil.copy(path, store.parent.parent / "copy")
    (adopted,) = adopt_found(conn, store)
    assert adopted == Adopted(path, 4, 0)
    assert not path.exists()
    before = dump(conn, *TABLES)
    again = adopt(conn, Path(copy), store)
    assert (again.answers, again.known) == (0, 4)
    assert "(4 were there already)" in again.words
    assert dump(conn, *TABLES) == before


def test_an_answer_comes_home_although_a_run_has_taken_it_for_lost(conn: sqlite3.Connection, store: Path) -> None:
    """Its file was elsewhere; nothing was sent since."""
    path = kept_file(conn, store, Settled(SETTLED[0]))
    recover(conn)
    assert rows(conn, "SELECT attempts FROM requests WHERE seq = 1") == [(1,)]
    adopt(conn, path, store)
    assert rows(conn, "SELECT state, attempts FROM requests WHERE seq = 1") == [("succeeded", 1)]
    assert rows(conn, "SELECT succeeded FROM job") == [(1,)]


def test_an_answer_that_comes_late_settles_what_is_still_tried(conn: sqlite3.Connection, store: Path) -> None:
    path = kept_file(conn, store, Settled(SETTLED[0]), Settled(SETTLED[1]))
    recover(conn)
    for seq in (1, 2):
        write(conn, Started(attempt(seq, 2), run_on(conn), AT))
        write(conn, Settled(settlement(attempt(seq, 2), failure(), Retry(0.0), AT)))
    adopt(conn, path, store)
    found = rows(conn, "SELECT state, attempts, not_before IS NULL FROM requests WHERE seq < 3 ORDER BY seq")
    assert found == [("succeeded", 2, 1), ("pending", 2, 0)], "a failure of then decides nothing any more"
    assert rows(conn, "SELECT text FROM results_flat WHERE custom_id = 'r1'") == [("Käse \u2028 and more",)]
    assert rows(conn, "SELECT count(*) FROM attempts WHERE ended_at IS NULL AND seq < 3") == [(0,)]


def test_a_request_that_has_its_answer_keeps_it(conn: sqlite3.Connection, store: Path) -> None:
    path = kept_file(conn, store, Settled(SETTLED[0]))
    recover(conn)
    write(conn, Started(attempt(1, 2), run_on(conn), AT))
    write(conn, Settled(settlement(attempt(1, 2), success("the later one"))))
    adopt(conn, path, store)
    assert rows(conn, "SELECT text, attempts FROM results_flat WHERE custom_id = 'r1'") == [("the later one", 2)]
    assert rows(conn, "SELECT succeeded FROM job") == [(1,)]
    assert rows(conn, "SELECT ended_at IS NULL FROM attempts WHERE seq = 1") == [(0,), (0,)], "it is on record as paid"


def test_an_answer_to_what_is_not_asked_any_more_is_no_answer(conn: sqlite3.Connection, store: Path) -> None:
    path = kept_file(conn, store, Settled(SETTLED[0]))
    recover(conn)
    changed = numbered(5)
    changed[0] = changed[0]._replace(params=changed[1].params, params_hash="other", line_hash="other")
    take_in(conn, changed, on_change="rerun")
    adopt(conn, path, store)
    assert rows(conn, "SELECT status, text FROM results_flat WHERE custom_id = 'r1'") == [("pending", None)]


def test_totals_are_right_when_the_line_has_gone_meanwhile(conn: sqlite3.Connection, store: Path) -> None:
    path = kept_file(conn, store, Settled(SETTLED[0]))
    recover(conn)
    take_in(conn, numbered(5)[1:])
    adopt(conn, path, store)
    assert rows(conn, "SELECT requests, succeeded, removed FROM job") == [(4, 0, 1)]


# Files that are not to be taken in.


def test_a_file_of_another_store_of_the_same_name_stays(conn: sqlite3.Connection, store: Path) -> None:
    path = kept_file(conn, store, Settled(SETTLED[0]))
    conn.execute("UPDATE runs SET started_at = '2020-01-01T00:00:00.000Z'")
    before = dump(conn, *TABLES)
    assert list(adopt_found(conn, store)) == []
    with pytest.raises(UsageError, match=r"is no rescue file of .* this store knows nothing of"):
        adopt(conn, path, store)
    assert path.exists()
    assert dump(conn, *TABLES) == before


@pytest.mark.parametrize("make", ["link", "writable", "pipe"])
def test_what_somebody_else_may_have_put_there_is_left_alone(conn: sqlite3.Connection, store: Path, make: str) -> None:
    path = kept_file(conn, store, Settled(SETTLED[0]))
    if make == "writable":
        path.chmod(0o666)
    else:
        moved = path.rename(store.parent.parent / "moved")
        path.symlink_to(moved) if make == "link" else os.mkfifo(path)
    assert list(adopt_found(conn, store)) == []
    assert rows(conn, "SELECT succeeded FROM job") == [(0,)]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        pytest.param(b"[" * 100_000, id="deep"),
        b'{"settled": {}}',
        b'{"settled": {"seq": "x"}}',
        b'{"settled": {"attempt": []}}',
        b'{"unstarted": []}',
        b'{"price": "x"}',
        b"\xff",
        b'{"other": 1}',
    ],
)
def test_a_damaged_file_stops_the_run_before_anything_is_paid_for_again(
    conn: sqlite3.Connection, store: Path, line: bytes
) -> None:
    path = kept_file(conn, store, Settled(SETTLED[0]))
    path.write_bytes(path.read_bytes() + line + b"\n")
    before = dump(conn, *TABLES)
    with pytest.raises(StoreError, match=rf"{path}, line 3, is damaged, so nothing of the file was taken in"):
        list(adopt_found(conn, store))
    assert dump(conn, *TABLES) == before
    assert path.exists()


def edited(path: Path, edit: Callable[[Any], object]) -> None:
    """Change the one answer in the file at *path*."""
    header, line = path.read_text().splitlines()
    record = json.loads(line)
    edit(record["settled"])
    path.write_text(f"{header}\n{json.dumps(record)}\n")


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s["attempt"].update(seq=10**30),
        lambda s: s["answer"].update(text="\ud800"),
        lambda s: s["answer"].update(text=["x"]),
        lambda s: s["answer"].update(usage=[]),
        lambda s: s["answer"]["usage"].update(input_tokens=10**30),
        lambda s: s["answer"].update(stop_reason=None),
        lambda s: s.update(bill=[1]),
        lambda s: s.update(not_before={}),
    ],
    ids=["seq", "half a character", "text", "usage", "tokens", "reason", "bill", "due"],
)
def test_a_value_that_no_store_takes_is_damage_too(
    conn: sqlite3.Connection, store: Path, edit: Callable[[Any], object]
) -> None:
    path = kept_file(conn, store, Settled(SETTLED[0]))
    edited(path, edit)
    before = dump(conn, *TABLES)
    with pytest.raises(StoreError, match=rf"{path}, line 2, is damaged, so nothing of the file was taken in"):
        list(adopt_found(conn, store))
    assert dump(conn, *TABLES) == before


@pytest.mark.parametrize("cut", [1, 20])
def test_a_last_line_that_was_cut_off_costs_its_own_answer_at_most(
    conn: sqlite3.Connection, store: Path, cut: int
) -> None:
    """The run was killed while it wrote that line: nobody was told of the answer, and its call is listed."""
    path = kept_file(conn, store, Settled(SETTLED[0]), Settled(SETTLED[2]))
    path.write_bytes(path.read_bytes()[:-cut])
    (adopted,) = adopt_found(conn, store)
    is_whole = cut == 1
    assert adopted.answers == 1 + is_whole
    assert ("its last line is cut off" in adopted.words) is not is_whole
    assert rows(conn, "SELECT count(*) FROM attempts WHERE seq = 3 AND ended_at IS NULL") == [(0 if is_whole else 1,)]
    assert not path.exists()


@pytest.mark.parametrize("missing", ["working directory", "home", "room for anything temporary"])
def test_a_place_that_does_not_exist_is_passed_over(
    conn: sqlite3.Connection, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "home":  # a container that runs as a user whom it does not know
        monkeypatch.delenv("XDG_STATE_HOME")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    elif missing == "room for anything temporary":  # a container without, or every disk but the store's is full
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
    else:
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
    path = kept_file(conn, store, Settled(SETTLED[0]))
    assert [adopted.path for adopted in adopt_found(conn, store)] == [path]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        pytest.param(b"[" * 100_000 + b"\n", id="deep"),
        b"[]\n",
        b"{}\n",
        b'{"kind": "batchrunner rescue", "version": 2}\n',
    ],
)
def test_what_is_no_rescue_file_is_refused_by_name(conn: sqlite3.Connection, store: Path, content: bytes) -> None:
    path = store.parent / "jobs.db.1.rescue.jsonl"
    path.write_bytes(content)
    assert list(adopt_found(conn, store)) == []
    with pytest.raises(UsageError, match="is no rescue file of"):
        adopt(conn, path, store)
    assert path.read_bytes() == content


# The verb.


@pytest.mark.parametrize("moved", [False, True])
def test_recover_takes_in_what_lies_there_or_what_is_named(store: Path, tmp_path: Path, moved: bool) -> None:
    with opened_store(store) as conn:
        take_in(conn, numbered(2))
        write(conn, Started(attempt(1), run_on(conn), AT))
        path = kept_file(conn, store, Settled(SETTLED[0]))
    if moved:
        path = path.rename(tmp_path / "somewhere.jsonl")
        path.chmod(0o644)
        assert "nothing to take in" in typed("recover", store).stdout
    told = typed("recover", store, *([path] if moved else []))
    assert told.exit_code == Exit.OK
    assert f"1 answer that an earlier run could not write taken in from {path}" in told.stdout
    with opened_store(store) as conn:
        assert rows(conn, "SELECT succeeded FROM job") == [(1,)]


def test_recover_makes_no_store(store: Path) -> None:
    with pytest.raises(UsageError, match="no store"):
        typed("recover", store)
    assert not store.exists()


def test_status_names_what_waits_to_be_taken_in(store: Path) -> None:
    with opened_store(store) as conn:
        take_in(conn, numbered(2))
        write(conn, Started(attempt(1), run_on(conn), AT))
        path = kept_file(conn, store, Settled(SETTLED[0]))
    assert f"{path}: answers that a run could not write; the next one takes them in" in typed("status", store).stdout
    assert report("status", store)["rescue_files"] == [str(path)]
    typed("recover", store)
    assert "rescue" not in typed("status", store).stdout


def test_status_does_not_announce_what_somebody_else_has_put_there(store: Path) -> None:
    with opened_store(store) as conn:
        take_in(conn, numbered(1))
    planted = store.parent / "jobs.db.\x1b]0;mine\x07.rescue.jsonl"
    planted.write_bytes(b"")
    planted.chmod(0o666)
    (store.parent / "jobs.db.1.rescue.jsonl").symlink_to(planted)
    assert "rescue" not in typed("status", store).stdout
    assert report("status", store)["rescue_files"] == []


def test_looking_for_rescue_files_makes_no_directory(store: Path, tmp_path: Path) -> None:
    with opened_store(store) as conn:
        take_in(conn, numbered(1))
        assert list(adopt_found(conn, store)) == []
    assert not (tmp_path / "state").exists()
