"""Copies of a store that is being written, taken at random instants."""

import contextlib
import random
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from batchrunner.store.files import open_reader
from faults.endpoint import endpoint
from faults.invariants import own_answers
from faults.kills import AT_ONCE
from faults.lives import Place, nursery, place

REQUESTS = 1200
SPEC = "latency=0.1..0.4,seed=6"
_EVERY_S = 0.15


@dataclass(slots=True)
class Copies:
    """What became of them."""

    vacuumed: int = 0  #: Made by `VACUUM INTO`, as docs/store.md says.
    plain: int = 0  #: The files copied one after the other, with no checkpoint between.
    spoiled: int = 0  #: The same, and a checkpoint came between: no copy at all.


def take_copies(folder: Path, *, count: int, seed: int) -> Copies:
    """Take *count* copies of each kind while jobs run, check that each is the store of an instant, and resume one."""
    chance, found, job = random.Random(seed), Copies(), 0
    with nursery() as runs, endpoint(folder / "endpoint", SPEC) as served:
        while found.vacuumed < count:
            job += 1
            where = place(folder / str(job), [f"Question {i} of job {job}" for i in range(REQUESTS)])
            life = runs.run(where, served.url, **AT_ONCE)
            served.wait_until(lambda seen, before=served.ends: seen.ends > before)  # type: ignore[misc]
            while found.vacuumed < count and not life.ends_within(chance.uniform(0, _EVERY_S)):
                _take_both(where, folder / "copy", found)
            life.finish()
        here = Place(folder / "copy" / "jobs.jsonl", folder / "copy-out")
        here.out.mkdir()
        here.job.write_bytes(where.job.read_bytes())
        assert runs.run(here, served.url, **AT_ONCE).finish() == 0, here.stderr.read_text(encoding="utf-8")
        assert _succeeded(here.store) == {f"r{i}" for i in range(REQUESTS)}
    return found


def _take_both(where: Place, folder: Path, found: Copies) -> None:
    """Take a copy of the files, then one by `VACUUM INTO`, and check both against what was acknowledged before."""
    saved = where.saved().keys()
    store, wal = where.store.read_bytes(), _wal(where.store).read_bytes()
    if store == where.store.read_bytes() and wal[:32] == _wal(where.store).read_bytes()[:32]:
        _lay_out(folder, store, wal)
        assert saved <= _succeeded(folder / where.store.name), "a copy of the files lacks what was saved before"
        found.plain += 1
    else:
        found.spoiled += 1
    saved = where.saved().keys()
    _lay_out(folder)
    target = folder / where.store.name
    with contextlib.closing(sqlite3.connect(f"{where.store.as_uri()}?mode=ro", uri=True)) as conn:
        conn.execute("VACUUM INTO ?", (str(target),))
    assert saved <= _succeeded(target), "a copy by VACUUM INTO lacks what was saved before"
    found.vacuumed += 1


def _wal(store: Path) -> Path:
    return store.with_name(store.name + "-wal")


def _lay_out(folder: Path, *contents: bytes) -> None:
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, content in zip(("jobs.db", "jobs.db-wal"), contents, strict=False):
        (folder / name).write_bytes(content)


def _succeeded(store: Path) -> set[str]:
    """Return what has succeeded by *store*, which must be sound, with totals that fit and each answer its own."""
    with contextlib.closing(open_reader(store)) as conn:
        assert [tuple(row) for row in conn.execute("PRAGMA integrity_check")] == [("ok",)]
        own_answers(conn)
        succeeded = {row[0] for row in conn.execute("SELECT custom_id FROM requests WHERE state = 'succeeded'")}
        assert conn.execute("SELECT succeeded FROM job").fetchone()[0] == len(succeeded)
    return succeeded
