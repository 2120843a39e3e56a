"""`kill -9`, again and again, at instants that nobody chose."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.endpoint import Endpoint, endpoint
from faults.invariants import Verdict, check_invariants
from faults.lives import Nursery, Place, nursery, place

REQUESTS = 2000
SLOTS = 50
#: With a rate that is known all slots are in use at once; without one a run feels its way up.
AT_ONCE: dict[str, Any] = {"concurrency": SLOTS, "rpm": 60_000}
#: So often one job is killed before it may finish.
KILLS_A_JOB = 25
#: The simulator: enough latency that 50 are in flight, and faults that belong to a bad day.
SPEC = "latency=0.05..0.3,500=0.01,reset=0.01,seed=5"
#: A run is killed at a uniformly random instant within so many seconds: after its start, or (the larger share) after
#: its first request, so that kills hit the work also where starting takes long.
WITHIN_S = 0.6
WHILE_STARTING = 0.3

CHAIN_REQUESTS = 800
#: So often what resumes is killed in turn, within so many seconds: in the middle of opening, recovering, sending.
LEVELS = 5
RESUMED_S = 0.4


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


def chains(folder: Path, *, count: int, seed: int) -> Iterator[Verdict]:
    """Kill a run, and then what resumes it, `LEVELS` deep; *count* times. Yields the figures of each chain that held."""
    chance = random.Random(seed)
    with nursery() as runs:
        for number in range(count):
            where = place(folder / str(number), CHAIN_REQUESTS)
            with endpoint(folder / str(number) / "endpoint", SPEC) as served:
                yield _chain(runs, where, served, chance)


def _chain(runs: Nursery, where: Place, served: Endpoint, chance: random.Random) -> Verdict:
    first = runs.run(where, served.url, **AT_ONCE)
    served.wait_until(lambda seen: seen.ends > SLOTS)
    assert first.kill()
    resuming: dict[str, Any] = {"requests": None, "store": where.store.name, **AT_ONCE}
    for _ in range(LEVELS):
        life = runs.run(where, served.url, **resuming)
        assert not life.ends_within(chance.uniform(0, RESUMED_S)), "nothing was left to resume"
        assert life.kill()
    assert runs.run(where, served.url, **resuming).finish() == 0, where.stderr.read_text(encoding="utf-8")
    return judged(where, served, 1 + LEVELS)


def judged(where: Place, served: Endpoint, kills: int) -> Verdict:
    """Judge a job that has come to its end after so many *kills*."""
    served.settle()
    return check_invariants(
        where.job, ledger=served.ledger, saved=where.saved(), kills=kills, slots=SLOTS, outputs=where.outputs
    )


def kill_and_finish(runs: Nursery, where: Place, served: Endpoint, chance: random.Random, most: int) -> Verdict:
    """Kill runs of one job up to *most* times, let the last one finish, and judge."""
    killed = 0
    while killed < most:
        life = runs.run(where, served.url, **AT_ONCE)
        if chance.random() >= WHILE_STARTING:
            before = served.arrivals
            served.wait_until(lambda seen, run=life, upto=before: seen.arrivals > upto or run.ends_within(0))  # type: ignore[misc]
        if life.ends_within(chance.uniform(0, WITHIN_S)):
            assert life.code == 0, where.stderr.read_text(encoding="utf-8")
            break
        killed += life.kill()
    else:
        assert runs.run(where, served.url, **AT_ONCE).finish() == 0, where.stderr.read_text(encoding="utf-8")
    return judged(where, served, killed)
