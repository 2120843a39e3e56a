"""`kill -9`, again and again, at instants that nobody chose."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from faults.endpoint import Endpoint, endpoint
from faults.invariants import Verdict, check_invariants
from faults.lives import Nursery, Place, nursery, place

REQUESTS = 2000
SLOTS = 50
#: So often one job is killed before it may finish.
KILLS_A_JOB = 25
#: The simulator: enough latency that 50 are in flight, and faults that belong to a bad day.
SPEC = "latency=0.05..0.3,500=0.01,reset=0.01,seed=5"
#: A run is killed at a uniformly random instant within so many seconds of its start.
WITHIN_S = 0.9


def random_kills(folder: Path, *, kills: int, seed: int) -> Iterator[Verdict]:
    """Kill runs *kills* times in all, on as many jobs as that takes; yields the figures of each job that held."""
    chance = random.Random(seed)
    left = kills
    with nursery() as runs:
        for number in itertools.count():
            if left <= 0:
                return
            here = folder / str(number)
            where = place(here, REQUESTS)
            with endpoint(here / "endpoint", SPEC) as served:
                verdict = kill_and_finish(runs, where, served, chance, min(left, KILLS_A_JOB))
            left -= verdict.kills
            yield verdict


def kill_and_finish(runs: Nursery, where: Place, served: Endpoint, chance: random.Random, most: int) -> Verdict:
    """Kill runs of one job up to *most* times, let the last one finish, and judge."""
    killed = 0
    while killed < most:
        life = runs.run(where, served.url, concurrency=SLOTS)
        if life.ends_within(chance.uniform(0, WITHIN_S)):
            assert life.code == 0, where.stderr.read_text(encoding="utf-8")
            break
        killed += life.kill()
    else:
        assert runs.run(where, served.url, concurrency=SLOTS).finish() == 0, where.stderr.read_text(encoding="utf-8")
    served.settle()
    return check_invariants(
        where.job,
        ledger=served.ledger,
        saved=where.saved(),
        kills=killed,
        slots=SLOTS,
        outputs=where.outputs,
    )
