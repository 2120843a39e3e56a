"""Answers that are too large, all at once, for the memory that a run may use."""

from pathlib import Path

from faults.endpoint import endpoint
from faults.invariants import Verdict, check_invariants
from faults.lives import nursery, place
from running import rows

ANSWER_BYTES = 5_000_000
SLOTS = 20
#: What a run may use beyond its code: enough for it to work, too little for so many such answers at once.
MEMORY = 64 << 20


def starve(folder: Path, *, requests: int) -> tuple[int, str, Verdict]:
    """Run with too little memory, then with enough; returns the first exit code, what it said, and the figures."""
    where = place(folder, requests)
    # One heap: else each thread reserves addresses for its own, and the limit is one of addresses.
    with (
        nursery(MALLOC_ARENA_MAX="1") as runs,
        endpoint(folder / "endpoint", "latency=0.05", padding=ANSWER_BYTES) as served,
    ):
        starved = runs.run(where, served.url, concurrency=SLOTS, memory=MEMORY, silent=True).finish()
        said = where.stderr.read_text(encoding="utf-8")
        saved = dict(rows(where.store, "SELECT custom_id, state FROM requests WHERE state <> 'pending'"))
        assert runs.run(where, served.url, concurrency=SLOTS).finish() == 0
        served.settle()
    verdict = check_invariants(
        where.job, ledger=served.ledger, saved=saved | where.saved(), kills=1, slots=SLOTS, outputs=where.outputs
    )
    return starved, said, verdict
