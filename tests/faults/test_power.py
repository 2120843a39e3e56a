"""Power cuts on the write log of real runs, and kills in the middle of a write. `make soak` goes through 20,000 states."""

import contextlib
import random
from pathlib import Path

import pytest

from batchrunner.store.files import open_reader
from faults.disk import cuts
from faults.endpoint import endpoint
from faults.invariants import check_invariants, own_answers
from faults.lives import Place, nursery
from faults.power import (
    REQUESTS,
    SLOTS,
    SPEC,
    Losses,
    Recording,
    compiler,
    cut_power,
    lay_out,
    make_shim,
    record,
    tagged,
    watched,
)
from running import rows

STATES = 1500
STATES_ELSEWHERE = 150

pytestmark = pytest.mark.skipif(
    compiler() is None, reason="no C compiler (or no LD_PRELOAD) here: the write log of a run cannot be taken"
)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shim(tmp_path_factory.mktemp("shim"))


def losses(recording: Recording, states: int, folder: Path) -> Losses:
    return cut_power(recording, states, random.Random(11), folder)


def test_a_power_cut_loses_nothing_that_was_said_to_be_saved_and_resumes(shim: Path, tmp_path: Path) -> None:
    recording = record(tmp_path, shim, "FULL")
    found = losses(recording, STATES, tmp_path / "state")
    assert found.held, found
    assert found.states == STATES
    assert found.acknowledged > STATES * REQUESTS / 4, "the cuts came before anything was saved"

    instants = sorted(random.Random(12).sample(range(len(recording.log) // 2, len(recording.log)), 3))
    with nursery() as runs, endpoint(tmp_path / "again") as served:
        for number, (_, files) in enumerate(cuts(recording.log, instants, random.Random(13))):
            here = Place(tmp_path / f"left-{number}" / "jobs.jsonl", tmp_path / f"left-{number}-out")
            lay_out(recording.where.store.resolve(), files, here.job.parent)
            here.out.mkdir()
            here.job.write_bytes(recording.where.job.read_bytes())
            life = runs.run(here, served.url, max_tokens=4000, concurrency=SLOTS)
            assert life.finish() == 0, here.stderr.read_text(encoding="utf-8")
            assert rows(here.store, "SELECT succeeded FROM job") == [(REQUESTS,)]
            with contextlib.closing(open_reader(here.store)) as conn:
                own_answers(conn)


def test_with_normal_a_power_cut_costs_the_last_moments_and_nothing_else(shim: Path, tmp_path: Path) -> None:
    found = losses(record(tmp_path, shim, "NORMAL"), STATES_ELSEWHERE, tmp_path / "state")
    assert found.are_consistent, found
    assert found.lossy, "the disk of these tests forgets nothing"


def test_without_flushes_the_same_states_are_seen_to_lose_answers_and_to_be_damaged(shim: Path, tmp_path: Path) -> None:
    found = losses(record(tmp_path, shim, "OFF"), STATES_ELSEWHERE, tmp_path / "state")
    assert not found.held
    assert found.unusable
    assert found.lossy


def test_kills_in_the_middle_of_a_write_lose_nothing(shim: Path, tmp_path: Path) -> None:
    where = tagged(tmp_path)
    with endpoint(tmp_path / "endpoint", SPEC) as served:
        # The log, and the file itself: that is in the middle of a checkpoint.
        wishes = ("jobs.db-wal:700", "jobs.db:150", "jobs.db-wal:1200", "jobs.db:77", "")
        for wish in wishes:
            code = watched(where, shim, served.url, WRITELOG_DIE_AT=wish)
            assert code == (-9 if wish else 0), wish
        served.settle()
        kills = len(wishes) - 1
        check_invariants(
            where.job, ledger=served.ledger, saved=where.saved(), kills=kills, slots=SLOTS, outputs=where.outputs
        )
