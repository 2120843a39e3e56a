"""Hold what a store says its attempts have cost against what the simulator charged for them.

    python benchmarks/reckon.py            # 10,000 requests of three models, faults, caching, kills: some minutes
    python benchmarks/reckon.py 1000 3     # fewer requests, three kills

For every answer received both must agree to the picodollar. For the rest, what is known and what was possibly billed must
bracket what the simulator charged. Exits with 1 if they do not.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PUSD = 10**12
SPEC = (
    "latency=0.03..0.25,seed=7,500=0.01,529=0.003,429=0.005,reset=0.01,reset_body=0.01,200_html=0.005,200_truncated=0.01,"
    "sse_cut=0.05,sse_error=0.02,hang=0.0005,504=0.003,400=0.003,bad_gzip=0.003,close=0.005"
)
_ATTEMPTS = (
    "SELECT api_request_id, cost_usd, possible_usd, ended_at IS NULL OR possibly_paid, output_tokens FROM attempts"
)


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What came of the comparison. Sums in picodollars."""

    answers: int  #: Attempts that brought an answer.
    differing: tuple[str, ...]  #: Request ids whose cost is not what was charged.
    unknown: int  #: Answers without a cost.
    known: int
    possible: int  #: Beyond the known, at most.
    charged: int

    @property
    def is_right(self) -> bool:
        """Whether every answer agrees and the total lies where it may."""
        return not self.differing and not self.unknown and self.known <= self.charged <= self.known + self.possible


def reckon(store: Path, charges: Mapping[str, int | None]) -> Reckoning:
    """Compare *store* with *charges* by request id, in picodollars, of all that the simulator was paid for."""
    differing, answers, unknown, known, possible = [], 0, 0, 0, 0
    with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=ro", uri=True)) as conn:
        for request_id, cost_usd, possible_usd, is_doubtful, output_tokens in conn.execute(_ATTEMPTS):
            if is_doubtful:
                possible += round((possible_usd or 0.0) * PUSD)
                continue
            answers += output_tokens is not None
            unknown += cost_usd is None
            cost = round((cost_usd or 0.0) * PUSD)
            known += cost
            if charges.get(request_id, 0) != cost:
                differing.append(request_id)
    return Reckoning(answers, tuple(differing), unknown, known, possible, sum(one or 0 for one in charges.values()))


def charges_of(ledger: Path) -> dict[str, int | None]:
    """Return what a ledger's file says was charged, by request id."""
    found: dict[str, int | None] = {}
    with ledger.open(encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if line["event"] == "end" and line.get("paid"):
                found[f"req_sim{line['number']:012d}"] = line["charge_pusd"]
    return found


def lines(count: int) -> Iterator[dict[str, Any]]:
    """Yield *count* lines of three models: two with marked prefixes, of which eight requests share one, kept 5 min or 1 h."""
    for i in range(count):
        line: dict[str, Any] = {"id": f"r{i}", "max_tokens": 200 + i % 400}
        words = f"Question {i}. " + "Some more words. " * (i % 23)
        if i % 3 == 0:
            yield line | {"model": "claude-haiku-5-5", "prompt": words}
            continue
        model, ttl, size = ("claude-opus-5-5", "5m", 2_600) if i % 3 == 1 else ("claude-sonnet-5", "1h", 5_000)
        group = f"Rules of group {i // 24}. "
        text = group + "Answer with care. " * (size // 18)
        marked = {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}}
        special: dict[str, Any] = {"inference_geo": "us"} if i % 5 == 0 else {}
        if i % 7 == 0 and i % 3 == 1:
            special["speed"] = "fast"
        yield line | special | {"model": model, "system": [marked], "prompt": words, "stream": i % 11 == 0}


def write_job(path: Path, given: Iterable[Mapping[str, Any]]) -> None:
    """Write *given* lines as a job file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in given), encoding="utf-8")


def _run(folder: Path, count: int, kills: int) -> Reckoning:
    write_job(folder / "jobs.jsonl", lines(count))
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    python = [sys.executable, "-m", "batchrunner"]
    simulator = subprocess.Popen(
        [*python, "simulate", "--port", "0", "--with", SPEC, "--ledger", "ledger.jsonl"],
        cwd=folder, env=env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert simulator.stdout is not None
    env |= {"ANTHROPIC_BASE_URL": simulator.stdout.readline().strip(), "ANTHROPIC_API_KEY": "sk-ant-simulated"}
    chance = random.Random(11)
    try:
        for kill in range(kills + 1):
            run = subprocess.Popen(
                [*python, "run", "jobs.jsonl", "--timeout", "5", "-j", "100", "--rpm", "30000", "--progress", "none"],
                cwd=folder,
                env=env,
            )
            if kill < kills:
                time.sleep(3 + chance.random() * 6)
                run.kill()
            print("run", kill, "ended with", run.wait(timeout=900), flush=True)
    finally:
        simulator.send_signal(signal.SIGINT)
        simulator.wait(timeout=30)
    return reckon(folder / "jobs.db", charges_of(folder / "ledger.jsonl"))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory() as folder:
        found = _run(Path(folder), count, kills)
    print(
        f"{found.answers:,} answers, {len(found.differing)} differ, {found.unknown} unknown; known ${found.known / PUSD:.9f}, "
        f"charged ${found.charged / PUSD:.9f}, known and possibly billed ${(found.known + found.possible) / PUSD:.9f}"
    )
    sys.exit(0 if found.is_right else 1)


if __name__ == "__main__":
    main()
