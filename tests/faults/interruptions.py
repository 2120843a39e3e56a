"""Runs that are stopped by one signal at instants that nobody chose: none may cost anything twice."""

import itertools
import random
import signal
from collections import Counter
from pathlib import Path

from faults.commands import until, yard
from running import job_file, simulator_thread

SLOTS = 20
REQUESTS = 300
#: At this pace a run takes some three seconds, all of which are good for a signal.
SPEC = "latency=0.05..0.3,500=0.02,seed=3"


def interrupted(folder: Path, *, runs: int, seed: int) -> Counter[str]:
    """Stop runs by one signal at uniformly random instants, again and again until the job is done; count what came of it.

    Every run that was stopped must end by itself; none may cost anything twice.
    """
    chance, came = random.Random(seed), Counter[str]()
    for number in itertools.count():
        here = folder / str(number)
        with yard(here / "run") as place, simulator_thread(SPEC, here / "ledger.jsonl") as (url, _):
            job_file(place.folder / "jobs.jsonl", [f"Question {i}" for i in range(REQUESTS)])
            while came["stopped"] < runs:
                run = place.run(url, slots=SLOTS)
                until(run.stderr.exists, "it begins")
                run.process.join(chance.uniform(0.01, 1.2))
                if not run.lives:
                    break
                number_ = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
                run.signal(number_)
                code = run.finish(30)
                came["stopped"] += 1
                came[str(code)] += 1
                assert code in {0, 130, 143, -number_}, run.said()
                assert "Traceback" not in run.said()
            assert place.run(url, slots=SLOTS).finish() == 0
            verdict = place.judged(here / "ledger.jsonl", kills=0, slots=SLOTS)
            assert (verdict.paid_twice, verdict.listed) == (0, 0), "one signal costs nothing"
        if came["stopped"] >= runs:
            return came
    raise AssertionError("unreachable")
