"""Kills of runs that go by batches: at named instants around the submission, and at instants that nobody chose."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from batchrunner.failpoints import VARIABLE, Point
from batchrunner.simulator.ledger import BATCHES_PATH, read_lines
from faults.endpoint import Endpoint, endpoint
from faults.invariants import Verdict, check_invariants
from faults.lives import Life, Nursery, Place, place
from running import rows

#: Where a run by batches can be killed. `batch_sent` a little later than the last byte: the API has the batch by then.
WISHES = (
    f"{Point.BATCH_INTENDED}:1",
    f"{Point.BATCH_INTENDED}:3",
    f"{Point.BATCH_SENT}:1",
    f"{Point.BATCH_SENT}:2:0.05",
    f"{Point.BATCH_ANSWERED}:1",
    f"{Point.BATCH_ANSWERED}:2",
    f"{Point.BATCH_COLLECTING}:1",
    f"{Point.BATCH_COLLECTING}:3",
    f"{Point.IN_TRANSACTION}:4",
    f"{Point.COMMITTED}:6",
)
#: Answers take a while, so that a kill has a chance to come before them; some are lost, some downloads are cut.
SPEC = "latency=0.02..0.06,batch_s=0.2..0.5,batch_lost=0.1,batch_cut=0.1,batch_errored=0.01,batch_expired=0.01,seed=4"


def start(runs: Nursery, where: Place, served: Endpoint, size: int, wish: str | None = None) -> Life:
    """Start a run by batches of *size* rows, to be killed as *wish* says."""
    soon = {"first_s": 0.02, "cap_s": 0.05, "attempts": 9}
    rules = {"server": soon, "expired": soon}
    env = {VARIABLE: wish or ""}
    return runs.run(where, served.url, env=env, route="batches", batch_size=size, poll_s=0.1, rules=rules)


def killed_at(folder: Path, runs: Nursery, wishes: Iterable[str], *, requests: int, size: int) -> Verdict:
    """Kill runs of one job at each of *wishes* in turn, let the last one finish, and judge."""
    where, kills = place(folder, requests), 0
    with endpoint(folder / "endpoint", SPEC) as served:
        for wish in wishes:
            code = start(runs, where, served, size, wish).finish()
            assert code in {-9, 0}, where.stderr.read_text(encoding="utf-8")
            kills += code == -9
        return finish(runs, where, served, size, kills)


def random_kills(folder: Path, runs: Nursery, *, kills: int, requests: int, size: int, seed: int) -> Iterator[Verdict]:
    """Kill runs at random instants, on as many jobs as that takes; yields the figures of each job that held."""
    chance, number = random.Random(seed), 0
    while kills > 0:
        number += 1
        where, killed = place(folder / str(number), requests), 0
        with endpoint(folder / str(number) / "endpoint", SPEC) as served:
            while killed < min(kills, 10):
                life = start(runs, where, served, size)
                if life.ends_within(chance.uniform(0, 1.2)):
                    break
                killed += life.kill()
            kills -= max(1, killed)
            yield finish(runs, where, served, size, killed)


def finish(runs: Nursery, where: Place, served: Endpoint, size: int, kills: int) -> Verdict:
    """Let a run finish and judge: nothing lost, nothing paid in vain, no batch submitted twice."""
    assert start(runs, where, served, size).finish() == 0, where.stderr.read_text(encoding="utf-8")
    verdict = check_invariants(
        where.job, ledger=served.ledger, saved=where.saved(), kills=kills, slots=0, outputs=where.outputs
    )
    assert verdict.paid_twice == 0
    check_batches(where, served.ledger)
    return verdict


def check_batches(where: Place, ledger: Path) -> None:
    """Every batch that the API has is on record and collected, and no row was in two that were both worked on."""
    states = Counter(state for (state,) in rows(where.store, "SELECT state FROM batches"))
    assert states.keys() <= {"collected", "withdrawn"}, states
    lines = list(read_lines(ledger))
    made = sum(
        line["event"] == "arrival" and line["path"] == BATCHES_PATH and line["action"] == "created" for line in lines
    )
    assert made == states["collected"], f"the API has {made} batches, the store {states}"
    seen = Counter((line["custom_id"]) for line in lines if line["event"] == "batch_row")
    assert max(seen.values()) == 1, "a row was submitted twice"
    worked_on = Counter(
        line["body"] for line in lines if line["event"] == "batch_row" and line["action"] == "succeeded"
    )
    assert max(worked_on.values()) == 1
