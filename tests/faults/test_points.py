"""Kills at every step of a run, a few times each; `make soak` does twenty."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.failpoints import VARIABLE, Point
from batchrunner.store.imports import CHUNK
from faults.endpoint import Endpoint, endpoint
from faults.lives import Nursery, nursery, place
from faults.points import REQUESTS, SENDING, STARTING, die_at, killed_at, tagged
from running import RunningCommand


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with endpoint(tmp_path_factory.mktemp("endpoint"), "latency=0.005..0.03,seed=3") as opened:
        yield opened


@pytest.fixture(scope="module")
def runs() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


@pytest.mark.parametrize("point", SENDING)
def test_a_kill_while_it_sends_loses_nothing(point: Point, tmp_path: Path, runs: Nursery, served: Endpoint) -> None:
    verdict = killed_at(tmp_path, runs, served, [f"{point}:1", f"{point}:31", f"{point}:8"])
    assert verdict.paid >= REQUESTS


def test_without_waiting_for_the_disk_a_kill_still_loses_nothing(
    tmp_path: Path, runs: Nursery, served: Endpoint
) -> None:
    wishes = [f"{Point.COMMITTED}:9", f"{Point.ANSWERED}:40"]
    assert killed_at(tmp_path, runs, served, wishes, durability="fast").paid >= REQUESTS


def test_a_kill_on_the_way_to_sending_leaves_nothing_that_stops_the_next_run(
    tmp_path: Path, runs: Nursery, served: Endpoint
) -> None:
    verdict = killed_at(tmp_path, runs, served, [f"{point}:1" for point in STARTING])
    assert (verdict.paid, verdict.in_vain, verdict.listed) == (REQUESTS, 0, 0)


def test_a_kill_between_two_chunks_of_an_import_leaves_no_row_twice(
    tmp_path: Path, runs: Nursery, served: Endpoint
) -> None:
    where = tagged(tmp_path, 2 * CHUNK + 100)
    verdict = killed_at(tmp_path, runs, served, [f"{Point.IMPORTING}:{n}" for n in (1, 3, 2)], where, first=50)
    assert (verdict.requests, verdict.paid) == (2 * CHUNK + 100, 50)


def test_a_kill_while_a_longer_job_file_is_read_again_leaves_the_old_job_or_the_new(
    tmp_path: Path, runs: Nursery, served: Endpoint
) -> None:
    where = tagged(tmp_path, 60)
    assert killed_at(tmp_path, runs, served, [], where).paid == 60
    with where.job.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "late", "prompt": f"One more of {tmp_path}"}) + "\n")
    wishes = [f"{point}:1" for point in (Point.IMPORTING, Point.COMPLETING, Point.IMPORTED)]
    verdict = killed_at(tmp_path, runs, served, wishes, where)
    assert (verdict.requests, verdict.paid) == (61, 61)


def test_a_kill_while_the_log_is_folded_in_loses_nothing(tmp_path: Path, runs: Nursery, served: Endpoint) -> None:
    for delay_s in (0, 0.0005, 0.002, 0.005):
        where = tagged(tmp_path / str(delay_s), 100)
        wish = f"{Point.CHECKPOINT}:1" + (f":{delay_s}" if delay_s else "")
        life = runs.run(where, served.url, concurrency=20, env={VARIABLE: wish})
        assert life.finish() in {-9, 0}  # it may have come to its end in so long
        assert len(where.saved()) == 100
        assert killed_at(tmp_path, runs, served, [], where).paid == 100


@pytest.mark.parametrize("point", [Point.EXPORTED, Point.RENAMED])
def test_a_killed_export_is_there_as_a_whole_or_not_at_all(
    point: Point, tmp_path: Path, runs: Nursery, served: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tagged(tmp_path, 40)
    killed_at(tmp_path, runs, served, [], where)
    target = where.job.with_suffix(".csv")
    words = ("export", where.store.name, "-o", target.name)
    with monkeypatch.context() as patched:
        patched.setenv(VARIABLE, f"{point}:1")
        assert RunningCommand(*words, cwd=where.job.parent).finish().code == -9
    assert target.exists() is (point is Point.RENAMED)
    assert any(path.suffix == ".part" for path in where.job.parent.iterdir()) is (point is Point.EXPORTED)
    whole = target.read_bytes() if target.exists() else None
    assert RunningCommand(*words, "-f", cwd=where.job.parent).finish().code == 0
    assert whole in {None, target.read_bytes()}
    assert not any(path.suffix == ".part" for path in where.job.parent.iterdir())


def test_what_is_left_of_a_new_store_that_was_never_named_is_not_in_the_way(
    tmp_path: Path, runs: Nursery, served: Endpoint
) -> None:
    where = place(tmp_path, [f"Alone in {tmp_path}"])
    die_at(runs, where, served, f"{Point.CREATING}:1")
    draft = where.store.with_name(where.store.name + ".new")
    assert draft.exists()
    assert not where.store.exists()
    shutil.copy(draft, draft.with_suffix(".copy"))
    os.truncate(draft, 100)  # and be it damaged
    assert killed_at(tmp_path, runs, served, [], where).paid == 1
    assert not draft.exists()


@pytest.mark.parametrize(
    "wish", ["", "nowhere:1", "locked", "locked:", "locked:x", "locked:0", "locked:1:x", "locked:-1"]
)
def test_what_asks_for_no_failpoint_kills_nobody(wish: str) -> None:
    program = (
        "from batchrunner.failpoints import Point, reach\nfor _ in range(3):\n    [reach(point) for point in Point]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | {VARIABLE: wish}, check=False)
    assert done.returncode == 0
