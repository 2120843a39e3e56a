"""`make soak`: the fault tests in large numbers, and the table of what really ran in docs/reliability.md.

`python -m faults.soak` runs every part; names of parts run only those, and `--share 0.1` a tenth of each. A part that
ran replaces its own line of the table, with the date and the machine it ran on; a part that fails leaves it alone and ends in an error.
"""

import argparse
import contextlib
import platform
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path

from faults import copies, crowds, flips, interruptions, kills, long_run, memory, points, power
from faults.commands import yard
from faults.endpoint import endpoint
from faults.invariants import Verdict
from faults.lives import TESTS, nursery
from running import job_file, simulator_thread

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
_BEGIN, _END = "<!-- measured -->\n", "<!-- end -->\n"
_HEAD = "| what | what ran | what came of it | when, where |\n| --- | --- | --- | --- |\n"


@dataclass(frozen=True, slots=True)
class Part:
    """A kind of fault, and how often it is tried in a whole soak."""

    what: str
    count: int
    run: Callable[[Path, int], tuple[str, str]]  #: Returns what ran and what came of it.


def _sum(verdicts: Iterable[Verdict]) -> tuple[int, int, int]:
    """Return kills, acknowledged and paid in vain of all *verdicts* together."""
    killed = acknowledged = in_vain = 0
    for verdict in verdicts:
        killed += verdict.kills
        acknowledged += verdict.acknowledged
        in_vain += verdict.in_vain
        print(f"  {verdict}", flush=True)  # noqa: T201
    return killed, acknowledged, in_vain


def _held(acknowledged: int, in_vain: int, most: int) -> str:
    return (
        f"0 of {acknowledged:,} acknowledged answers lost, none mixed up; {in_vain:,} calls paid for whose answer died with "
        f"its run (at most {most:,} could be in flight), every one of them listed by `status --possible-duplicates`"
    )


def _kills(folder: Path, count: int) -> tuple[str, str]:
    killed, acknowledged, in_vain = _sum(_clearing(folder, kills.random_kills(folder, kills=count, seed=101)))
    bound = f"; so a kill loses an acknowledged answer in less than {300 / killed:.2g} % of cases (95 % confidence)"
    ran = f"{killed:,} kills, jobs of {kills.REQUESTS:,} requests, {kills.SLOTS} in flight, up to 25 kills a job"
    return ran, _held(acknowledged, in_vain, killed * kills.SLOTS) + bound


def _clearing(folder: Path, verdicts: Iterable[Verdict]) -> Iterable[Verdict]:
    """Remove what is done with: a thousand kills would fill the disk."""
    for verdict in verdicts:
        yield verdict
        for done in folder.iterdir():
            shutil.rmtree(done)


def _points(folder: Path, count: int) -> tuple[str, str]:
    chance = random.Random(102)
    found = []
    with nursery() as runs, endpoint(folder / "endpoint", "latency=0.005..0.03,seed=3") as served:
        for point in points.SENDING:
            for part in range(0, count, 5):
                wishes = [f"{point}:{chance.randint(1, 15)}" for _ in range(min(5, count - part))]
                found.append(points.killed_at(folder / f"{point}-{part}", runs, served, wishes))
        for point in points.STARTING:
            wishes = [f"{point}:1"]
            found += [points.killed_at(folder / f"{point}-{n}", runs, served, wishes) for n in range(count)]
    killed, acknowledged, in_vain = _sum(found)
    names = ", ".join((*points.STARTING, *points.SENDING)).replace("_", " ")
    return f"{killed:,} kills, {count} at each of: {names}", _held(acknowledged, in_vain, killed * points.SLOTS)


def _files(folder: Path, count: int) -> tuple[str, str]:
    """Run the tests of what is killed while it writes files: they go through every instant there is."""
    tests = [str(TESTS / "faults" / name) for name in ("test_migration.py", "test_points.py")]
    for number in range(count):
        words = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder / str(number)}", "-k", _FILES, *tests]
        subprocess.run([sys.executable, "-m", "pytest", *words], check=True, cwd=TESTS.parent)
    ran = f"{count} × each: before every statement of every migration, before and after an export's rename, in a checkpoint"
    return ran, "the store was the old one or the new one, the export there as a whole or not at all; nothing lost"


_FILES = "migration or export or log"


def _chains(folder: Path, count: int) -> tuple[str, str]:
    killed, acknowledged, in_vain = _sum(_clearing(folder, kills.chains(folder, count=count, seed=103)))
    ran = f"{count} times: a kill, then {kills.LEVELS} kills of what resumes, within {kills.RESUMED_S} s of its start"
    return ran, _held(acknowledged, in_vain, killed * kills.SLOTS)


def _power(synchronous: str) -> Callable[[Path, int], tuple[str, str]]:
    def run(folder: Path, count: int) -> tuple[str, str]:
        if power.compiler() is None:
            raise SystemExit("power: a C compiler and LD_PRELOAD are needed to take the write log of a run")
        recording = power.record(folder, power.make_shim(folder), synchronous)
        found = power.cut_power(recording, count, random.Random(104), folder / "state")
        if synchronous == "FULL":
            assert found.held, found
        elif synchronous == "NORMAL":
            assert found.are_consistent, found
        else:
            assert found.unusable, "these states would pass without a single flush: the harness is broken"
        ran = (
            f"{found.states:,} states of the disk, {len(recording.log):,} calls of a run with {power.REQUESTS} requests"
        )
        lost = f" (up to {found.most_lost} of them)" if found.lossy else ""
        came = (
            f"{found.unusable:,} damaged; {found.lossy:,} lacked acknowledged answers{lost}; "
            f"{found.unknown_sends:,} did not know of a call that had gone out; {found.torn:,} held part of a transaction"
        )
        return ran, came

    return run


def _copies(folder: Path, count: int) -> tuple[str, str]:
    found = copies.take_copies(folder, count=count, seed=105)
    ran = f"{found.vacuumed:,} copies by `VACUUM INTO`, {found.plain:,} of the files, during runs; one of them resumed"
    return (
        ran,
        f"all sound, all with every answer acknowledged before; {found.spoiled} copies of the files were spoiled",
    )


def _memory(folder: Path, count: int) -> tuple[str, str]:
    verdicts = []
    for number in range(count):
        code, said, verdict = memory.starve(folder / str(number), requests=40)
        assert (code, "Traceback" in said) == (4, False), said
        verdicts.append(verdict)
        shutil.rmtree(folder / str(number))
    _, acknowledged, in_vain = _sum(verdicts)
    size = f"{memory.ANSWER_BYTES / 1e6:g} MB"
    ran = f"{count} runs with {memory.SLOTS} answers of {size} in flight and {memory.MEMORY >> 20} MB for them"
    return ran, f"each ended with a sentence and exit code 4; {_held(acknowledged, in_vain, count * memory.SLOTS)}"


#: A run of so many requests is killed about ten times.
_KILLED = 10


def _long(folder: Path, count: int) -> tuple[str, str]:
    found = long_run.run_long(folder, requests=count, kill_every_s=max(180.0, count / 600 / _KILLED))
    verdict, samples = found.verdict, found.samples
    assert verdict is not None
    ran = (
        f"{verdict.requests:,} requests in {found.seconds / 60:.0f} min ({verdict.requests / found.seconds:,.0f}/s), "
        f"{verdict.kills} kills, {long_run.SLOTS} in flight, some 0.7 % of faults"
    )
    growth = f"grew by {found.slope_mb_per_h:.1f} MB an hour" if found.warm else "was not watched for long enough"
    came = (
        f"memory at most {max(s.memory_mb for s in samples):.0f} MB and {growth} once warm; log at most "
        f"{max(s.log_mb for s in samples):.0f} MB; at most {max(s.descriptors for s in samples)} descriptors; "
    )
    return ran, came + _held(verdict.acknowledged, verdict.in_vain, verdict.kills * long_run.SLOTS)


def _signals(folder: Path, count: int) -> tuple[str, str]:
    came = interruptions.interrupted(folder, runs=count, seed=106)
    in_mid_run = came["130"] + came["143"]
    ran = (
        f"{came['stopped']:,} runs, each stopped by one SIGINT, SIGTERM or SIGHUP, {in_mid_run:,} of them while it sent"
    )
    return ran, "each ended by itself; 0 answers lost, 0 paid for twice, nothing to be listed"


def _owners(folder: Path, count: int) -> tuple[str, str]:
    with simulator_thread("latency=0.5") as (url, _):
        for number in range(count):
            with yard(folder / str(number) / "run") as place:
                job_file(place.folder / "jobs.jsonl", [f"Question {i}" for i in range(100)])
                crowds.one_of_twenty(place, url).kill()
            shutil.rmtree(folder / str(number))
    return (
        f"{count:,} times 20 runs started at once on one store",
        "each time one went on and 19 named it (exit code 5)",
    )


def _flips(folder: Path, count: int) -> tuple[str, str]:
    with contextlib.chdir(folder):
        came = flips.flips(folder, count=count, seed=107)
    ran = f"{count:,} stores with one flipped bit, {len(flips.VERBS)} commands on each"
    words = f"{came['worked']:,} worked, {came['named'] + came['refused']:,} named what is wrong"
    return ran, f"{words}; none ended in a traceback, and none that reads has written"


PARTS = {
    "kills": Part("Kills (SIGKILL to the process group) at random instants", 1000, _kills),
    "points": Part("Kills at named instants", 20, _points),
    "files": Part("Kills of migrations, exports and checkpoints", 20, _files),
    "chains": Part("Kills of what resumes", 20, _chains),
    "power": Part("Power cuts, `synchronous=FULL` (the default)", 20_000, _power("FULL")),
    "power-fast": Part("Power cuts, `synchronous=NORMAL` (`--durability fast`)", 2000, _power("NORMAL")),
    "power-off": Part("Power cuts without any flush: the control, which must fail", 2000, _power("OFF")),
    "copies": Part("Copies of a live store", 200, _copies),
    "memory": Part("Too little memory", 20, _memory),
    "signals": Part("One signal at random instants", 50, _signals),
    "owners": Part("Many runs on one store", 200, _owners),
    "flips": Part("Flipped bits", 10_000, _flips),
    "long": Part("A long run", 1_000_000, _long),
}


def _where() -> str:
    system = (
        f"{platform.system()}, {cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )
    return f"{datetime.now(UTC):%Y-%m-%d}, {system}"


def write_line(page: Path, what: str, line: str) -> None:
    """Put *line* into the table of *page*, in place of the one that begins with *what*; lines stand in the order of the parts."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(_BEGIN)
    table, after = rest.split(_END)
    lines = {row.split(" | ")[0].removeprefix("| "): row for row in table.splitlines()[2:]} | {what: line}
    order = [part.what for part in PARTS.values()]
    rows = sorted(lines.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))
    page.write_text(
        f"{before}{_BEGIN}{_HEAD}{''.join(row + chr(10) for _, row in rows)}{_END}{after}", encoding="utf-8"
    )


def main() -> None:
    """Run the parts that are named, or all."""
    words = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").split("\n")[0])
    words.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    words.add_argument("--share", type=float, default=1.0, help="of the usual number of tries, such as 0.1")
    given = words.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        words.error(f"no such part: {', '.join(sorted(unknown))}")
    for name in given.parts or PARTS:
        part = PARTS[name]
        began = time.monotonic()
        print(f"{part.what} ...", flush=True)  # noqa: T201
        with tempfile.TemporaryDirectory(prefix="batchrunner-soak-") as folder:
            ran, came = part.run(Path(folder), max(1, round(part.count * given.share)))
        line = f"| {part.what} | {ran} | {came} | {_where()} |"
        write_line(PAGE, part.what, line)
        print(f"{line}\n  in {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
