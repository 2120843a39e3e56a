"""Counts of failures that the settlements keep: whatever happens to the requests, they are what a count would give."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.errors import UsageError
from batchrunner.model import Decision, ErrorClass, Fail, Retry
from batchrunner.policy.signature import signature, signature_key
from batchrunner.store.changes import Settled, Started
from batchrunner.store.groups import COUNTED, named_groups
from batchrunner.store.selection import Selection, put_back
from builders import (
    AT,
    LATER,
    attempt,
    body,
    failure,
    numbered,
    opened_store,
    request,
    rows,
    settlement,
    take_in,
    write,
)

KEPT = "SELECT error_class, signature, failed, first_at, last_at FROM failure_groups ORDER BY 1, 2"
MESSAGES = ("prompt is too long: 7 tokens", "prompt is too long: 9 tokens", "It broke.")


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with opened_store(tmp_path / "jobs.db") as conn:
        yield conn


def end(
    conn: sqlite3.Connection, seq: int, error_class: ErrorClass | None, message: str = "It broke.", at: str = AT
) -> None:
    """Make the next attempt of *seq*: answered without *error_class*, else given up for it; nothing if none is due."""
    due = "SELECT attempts FROM requests WHERE seq = ? AND state = 'pending' AND line IS NOT NULL"
    found = conn.execute(due, (seq,)).fetchone()
    if found is None:
        return
    tried = attempt(seq, found[0] + 1)
    outcome = None if error_class is None else failure(error_class, message)
    write(conn, Started(tried, 1, at))
    done = settlement(tried, outcome, None if error_class is None else Fail())
    write(conn, Settled(type(done)(done.attempt, done.outcome, done.decision, at, None)))


def check(conn: sqlite3.Connection) -> None:
    assert rows(conn, KEPT) == rows(conn, f"SELECT * FROM ({COUNTED}) ORDER BY 1, 2")


def test_a_settlement_counts_what_was_given_up(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(4))
    end(conn, 1, ErrorClass.INVALID, MESSAGES[0], LATER)
    end(conn, 2, ErrorClass.INVALID, MESSAGES[1], AT)
    end(conn, 3, None)
    end(conn, 4, ErrorClass.SERVER)
    sign = signature(MESSAGES[0])
    assert rows(conn, KEPT) == [("invalid", sign, 2, AT, LATER), ("server", "It broke.", 1, AT, AT)]
    check(conn)


@pytest.mark.parametrize("decision", [Retry(0.0), Fail()], ids=["retried", "late"])
def test_what_is_retried_or_comes_too_late_is_not_counted(conn: sqlite3.Connection, decision: Decision) -> None:
    take_in(conn, numbered(1))
    late = isinstance(decision, Fail)
    if late:
        end(conn, 1, None)
    tried = attempt(1, 1)
    due = None if late else LATER
    write(conn, Settled(settlement(tried, failure(), decision, due)))
    assert rows(conn, KEPT) == []


def test_putting_back_some_of_a_group_leaves_the_others(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    for seq, at in ((1, AT), (2, LATER), (3, LATER)):
        end(conn, seq, ErrorClass.INVALID, MESSAGES[0], at)
    put_back(conn, Selection(ids={"r1"}), at=LATER)
    assert [row[2:] for row in rows(conn, KEPT)] == [(2, LATER, LATER)]
    put_back(conn, Selection(), at=LATER)
    assert rows(conn, KEPT) == []


def test_lines_that_left_or_were_mended_are_not_counted_any_more(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    for seq in (1, 2, 3):
        end(conn, seq, ErrorClass.INVALID, MESSAGES[0])
    mended = request("r1", 1, body("Say it better."))
    take_in(conn, [mended, numbered(2)[1]])
    assert [row[2] for row in rows(conn, KEPT)] == [1]
    check(conn)
    take_in(conn, numbered(3), "rerun")
    check(conn)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_whatever_happens_the_counts_are_those_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    seqs, classes = st.integers(1, 6), st.sampled_from([None, ErrorClass.INVALID, ErrorClass.SERVER])
    steps = st.one_of(
        st.tuples(st.just("end"), seqs, classes, st.sampled_from(MESSAGES), st.sampled_from([AT, LATER])),
        st.tuples(st.just("put back"), st.sets(seqs.map(lambda n: f"r{n}"), max_size=3)),
        st.tuples(st.just("take in"), st.integers(1, 6), st.sampled_from(["Say", "Shout"])),
    )
    with opened_store(tmp_path_factory.mktemp("groups") / "jobs.db") as conn:
        take_in(conn, numbered(6))
        for step in data.draw(st.lists(steps, max_size=12)):
            how: list[Any] = list(step[1:])
            if step[0] == "end":
                end(conn, *how)
            elif step[0] == "put back":
                put_back(conn, Selection(ids=how[0]), at=LATER)
            else:
                count, word = how
                lines = [request(f"r{n}", n, body(f"{word} {n}.")) for n in range(1, count + 1)]
                take_in(conn, lines, "rerun")
            check(conn)


def test_a_group_is_named_by_its_key_its_signature_or_a_message(conn: sqlite3.Connection) -> None:
    take_in(conn, numbered(3))
    end(conn, 1, ErrorClass.INVALID, MESSAGES[0])
    end(conn, 2, ErrorClass.SERVER, "It broke.")
    end(conn, 3, ErrorClass.NETWORK, "It broke.")
    invalid = ("invalid", signature(MESSAGES[0]))
    for name in (signature_key(*invalid), invalid[1], MESSAGES[1]):
        assert named_groups(conn, [name]) == [invalid]
    assert named_groups(conn, ["It broke."]) == [("network", "It broke."), ("server", "It broke.")]
    assert named_groups(conn, [signature_key("server", "It broke.")]) == [("server", "It broke.")]
    with pytest.raises(UsageError, match="No failed request has the signature 'nonsense'"):
        named_groups(conn, [invalid[1], "nonsense"])


def test_keys_are_short_and_differ_by_class() -> None:
    assert signature_key("server", "It broke.") != signature_key("network", "It broke.")
    assert len(signature_key("server", "It \ud800 broke.")) == 8
