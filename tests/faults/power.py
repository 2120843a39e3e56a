"""Power cuts: a real run's write log, cut and torn at random, and each state opened and compared with what was promised."""

import contextlib
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from faults.disk import Record, cuts, read_log
from faults.endpoint import endpoint
from faults.lives import PYTHONPATH, TESTS, Place, place
from running import KEY, MODEL

REQUESTS = 240
SLOTS = 20
SPEC = "latency=0.01..0.05,seed=4"
#: Long answers, so that the log is folded into the file several times in the middle of so short a run.
_PROMPT = "[[sim:long=2000]] Question {} of a power cut"
_SENT = re.compile(rb"Question (\d+) of a power cut")


def compiler() -> str | None:
    """Return the C compiler that the shim can be made with; None: there is none, or the system cannot preload."""
    return (shutil.which("cc") or shutil.which("gcc")) if sys.platform == "linux" else None


def make_shim(folder: Path) -> Path:
    """Compile `writelog.c` into *folder*."""
    shim = folder / "writelog.so"
    source = TESTS / "faults" / "writelog.c"
    command = [
        compiler() or "cc",
        "-shared",
        "-fPIC",
        "-O2",
        "-Wall",
        "-o",
        str(shim),
        str(source),
        "-ldl",
        "-lpthread",
    ]
    subprocess.run(command, check=True)
    return shim


@dataclass(frozen=True, slots=True)
class Recording:
    """A run from its first write to its last."""

    where: Place
    log: list[Record]
    order: dict[str, int]  #: custom_id -> its place among the answers, in the order of their commits.


@dataclass(slots=True)
class Losses:
    """What became of the states."""

    states: int = 0
    acknowledged: int = 0  #: Answers that had been acknowledged by then, in all states together.
    unusable: int = 0  #: Damaged, or no store at all although something had been promised.
    lossy: int = 0  #: States in which something acknowledged was missing.
    most_lost: int = 0  #: Acknowledged answers, in one state.
    unknown_sends: int = 0  #: States that do not know of a request that had gone out.
    torn: int = 0  #: States with part of a transaction, or with a later one and not an earlier one.
    examples: list[str] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether every promise was kept."""
        return not (self.unusable or self.lossy or self.unknown_sends or self.torn)

    @property
    def are_consistent(self) -> bool:
        """Whether each state is the store of some earlier instant."""
        return not (self.unusable or self.torn)


def tagged(folder: Path, requests: int = REQUESTS) -> Place:
    """Make a job with long answers."""
    return place(folder, [_PROMPT.format(i) for i in range(requests)])


def watched(where: Place, shim: Path, url: str, *, synchronous: str = "FULL", **env: str) -> int:
    """Run a job with the *shim* preloaded and *env* for it, and return its exit code; negative: the signal that it died of."""
    asked = {"requests": where.job.name, "model": MODEL, "max_tokens": 4000, "base_url": url}
    asked |= {"concurrency": SLOTS, "synchronous": synchronous}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    below = f"{where.out.parent.resolve()}/"
    ours = {"ANTHROPIC_API_KEY": KEY, "PYTHONPATH": PYTHONPATH, "LD_PRELOAD": str(shim), "WRITELOG_BELOW": below}
    with where.stdout.open("ab") as out, where.stderr.open("ab") as said:
        return subprocess.run(
            [sys.executable, "-m", "faults.saver", json.dumps(asked)],
            cwd=where.job.parent, env=inherited | ours | env, stdout=out, stderr=said, check=False, timeout=120,
        ).returncode  # fmt: skip


def record(folder: Path, shim: Path, synchronous: str, requests: int = REQUESTS) -> Recording:
    """Run a job to its end with *synchronous* FULL, NORMAL or OFF, and write down all that it does to its files."""
    where = tagged(folder, requests)
    log = folder / "writes.log"
    with endpoint(folder / "endpoint", SPEC) as served:
        code = watched(where, shim, served.url, synchronous=synchronous, WRITELOG=str(log))
    assert code == 0, where.stderr.read_text(encoding="utf-8")
    with contextlib.closing(sqlite3.connect(where.store)) as conn:
        answered = conn.execute(
            "SELECT custom_id FROM results r JOIN requests q USING (seq) ORDER BY r.rowid"
        ).fetchall()
    return Recording(where, read_log(log), {custom_id: place for place, (custom_id,) in enumerate(answered)})


def cut_power(recording: Recording, states: int, chance: random.Random, folder: Path) -> Losses:
    """Let the power fail at so many random instants of the recording; *folder* holds one state at a time."""
    losses = Losses()
    log = recording.log
    instants = sorted(chance.randint(0, len(log)) for _ in range(states))
    saved: set[str] = set()
    sent: set[str] = set()
    told = 0
    for instant, files in cuts(log, instants, chance):
        for record_ in log[told:instant]:
            if record_.op == "N":
                sent.update(f"r{number.decode()}" for number in _SENT.findall(record_.data))
            elif record_.path == str(recording.where.stdout.resolve()):
                saved.add(record_.data.decode().split(" ")[0])
        told = instant
        store = lay_out(recording.where.store.resolve(), files, folder)
        _judge(losses, recording, store, saved, sent)
    return losses


def lay_out(store: Path, files: dict[str, bytes], folder: Path) -> Path:
    """Write the store and what SQLite keeps beside it; its shared memory is gone with the power."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for suffix in ("", "-wal", "-journal"):
        content = files.get(f"{store}{suffix}")
        if content is not None:
            (folder / f"{store.name}{suffix}").write_bytes(content)
    return folder / store.name


def _judge(losses: Losses, recording: Recording, store: Path, saved: set[str], sent: set[str]) -> None:
    losses.states += 1
    losses.acknowledged += len(saved)
    try:
        answered, started, is_whole = _look(store)
    except sqlite3.DatabaseError as error:
        losses.unusable += 1
        losses.examples.append(f"{len(saved)} saved: {error}")
        return
    lost = saved - answered
    losses.lossy += bool(lost)
    losses.most_lost = max(losses.most_lost, len(lost))
    losses.unknown_sends += bool(sent - started)
    first_so_many = all(recording.order[custom_id] < len(answered) for custom_id in answered)
    losses.torn += not (is_whole and first_so_many)


def _look(store: Path) -> tuple[set[str], set[str], bool]:
    """Return what is answered, what was begun, and whether the totals fit. Raises `sqlite3.DatabaseError` for a damaged file."""
    if not store.exists():
        return set(), set(), True
    with contextlib.closing(sqlite3.connect(store)) as conn:
        if (verdict := conn.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(verdict)
        if not conn.execute("SELECT count(*) FROM sqlite_master WHERE name = 'results'").fetchone()[0]:
            return set(), set(), True
        answered = {row[0] for row in conn.execute("SELECT custom_id FROM requests WHERE state = 'succeeded'")}
        started = {row[0] for row in conn.execute("SELECT custom_id FROM attempts JOIN requests USING (seq)")}
        with_answer = conn.execute("SELECT count(*) FROM results").fetchone()[0]
        total = conn.execute("SELECT coalesce(max(succeeded), 0) FROM job").fetchone()[0]
    return answered, started, len(answered) == with_answer == total
