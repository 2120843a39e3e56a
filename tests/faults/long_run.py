"""One long run at full speed, with faults, killed every few minutes: what it does to memory, log and descriptors."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from faults.endpoint import endpoint
from faults.invariants import Verdict, check_invariants
from faults.lives import Life, Place, nursery, place

SLOTS = 200
SPEC = "latency=0.02..0.15,500=0.002,529=0.001,reset=0.001,reset_body=0.001,200_truncated=0.001,seed=9"
_EVERY_S = 2.0
#: Memory grows at first, whatever is done: buffers, connections, and the window of sixty seconds that the limits look back on.
WARM_UP_S = 80.0


class Sample(NamedTuple):
    """A run at one instant."""

    at_s: float  #: Since the start of its process.
    memory_mb: float
    descriptors: int
    log_mb: float


@dataclass(slots=True)
class LongRun:
    """What a long run came to."""

    seconds: float = 0.0
    lives: list[list[Sample]] = field(default_factory=list)  #: The samples of each process.
    verdict: Verdict | None = None

    @property
    def warm(self) -> list[list[Sample]]:
        """The samples of each process once it was warm."""
        lives = ([sample for sample in life if sample.at_s >= WARM_UP_S] for life in self.lives)
        return [life for life in lives if len(life) > 2]

    @property
    def samples(self) -> list[Sample]:
        """Every sample."""
        return [sample for life in self.lives for sample in life]

    @property
    def slope_mb_per_h(self) -> float:
        """How the memory of a warm process grows: least squares over all of them, each with a level of its own."""
        above = below = 0.0
        for life in self.warm:
            at = sum(sample.at_s for sample in life) / len(life)
            level = sum(sample.memory_mb for sample in life) / len(life)
            above += sum((sample.at_s - at) * (sample.memory_mb - level) for sample in life)
            below += sum((sample.at_s - at) ** 2 for sample in life)
        return above / below * 3600 if below else 0.0


def run_long(folder: Path, *, requests: int, kill_every_s: float) -> LongRun:
    """Run so many requests to their end, killing the process every so often, and judge."""
    found, kills = LongRun(), 0
    where = place(folder, requests)
    with nursery() as runs, endpoint(folder / "endpoint", SPEC) as served:
        began = time.monotonic()
        while True:
            life = runs.run(where, served.url, concurrency=SLOTS)
            samples: list[Sample] = []
            found.lives.append(samples)
            if _watch(life, where, samples, kill_every_s):
                break
            kills += life.kill()
        found.seconds = time.monotonic() - began
        assert life.code in {0, 1}, where.stderr.read_text(encoding="utf-8")
        served.settle()
    found.verdict = check_invariants(
        where.job, ledger=served.ledger, saved=where.saved(), kills=kills, slots=SLOTS, outputs=where.outputs
    )
    return found


def _watch(life: Life, where: Place, samples: list[Sample], upto_s: float) -> bool:
    """Take samples of *life* until it ends (True), or for so many seconds."""
    began = time.monotonic()
    while (at_s := time.monotonic() - began) < upto_s:
        if life.ends_within(_EVERY_S):
            return True
        try:
            samples.append(_sample(life.pid, where.store, at_s))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ends just now, or has no log yet
    return False


def _sample(pid: int, store: Path, at_s: float) -> Sample:
    process = Path(f"/proc/{pid}")
    (memory,) = (line.split()[1] for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    log = store.with_name(store.name + "-wal")
    return Sample(at_s, int(memory) / 1024, sum(1 for _ in (process / "fd").iterdir()), log.stat().st_size / 1e6)
