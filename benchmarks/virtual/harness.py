"""One whole run in virtual time. Everything is real but the sockets, the threads and the clock.

The runner itself is started, so what it wires together runs here too, whatever that is: loading, queue, lanes, limiters,
judge, dispatcher, the live engine, writer and SQLite. Two of its doors lead elsewhere: the way to the API ends at the
simulator, and the store is not flushed to the disk.
"""

import contextlib
import json
import random
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio

from batchrunner import runner, shift
from batchrunner.api.routes import Routes
from batchrunner.api.sender import Senders
from batchrunner.endpoint import Endpoint, Reached, Way
from batchrunner.jobfile import Defaults
from batchrunner.loading import Source
from batchrunner.progress import Silent
from batchrunner.report import Job
from batchrunner.settings import RunSettings
from batchrunner.simulator import Simulator, parse_spec
from batchrunner.store import owner
from batchrunner.store.files import open_owner
from virtual.figures import Figures, SeeingLedger
from virtual.loop import START, VirtualClock, in_virtual_time
from virtual.network import VirtualSender, VirtualServer
from virtual.threads import inline_threads

MODEL = "claude-haiku-4-5"

#: A prompt, or a whole line of a job file.
Line = str | Mapping[str, Any]


def numbered(count: int, **fields: Any) -> Iterator[dict[str, Any]]:
    """Yield *count* lines `r0`, `r1`, ... with different prompts; *fields* (`model`, `max_tokens`, ...) stand in each."""
    return ({"id": f"r{i}", "prompt": f"Question {i}.", **fields} for i in range(count))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What surrounds a virtual run. All times are virtual seconds."""

    seed: int = 1  #: Of the network, the latencies and the run's own chance; equal seeds, equal runs.
    network_s: tuple[float, float] = (0.02, 0.06)  #: Shortest and longest way of a message, each way.
    store_s: float = 0.002  #: What a commit or a claim takes.
    fallbacks: tuple[str, ...] = ()  #: Specs of further endpoints, used where the first fails; then each has a name.
    at_most_s: float = 7200.0  #: A run that takes longer is stuck: `TimeoutError`.

    def server(self, spec: str, clock: VirtualClock) -> VirtualServer:
        """Return a server with the simulator that *spec* describes; to be called in virtual time, where instant 0 is now."""
        ledger = SeeingLedger()
        ledger.epoch = START
        simulator = Simulator(replace(parse_spec(spec), seed=self.seed), ledger)
        return VirtualServer(simulator, clock, random.Random(self.seed), self.network_s)


@dataclass(frozen=True, slots=True)
class Scene:
    """A run that is going on, for a task beside it."""

    store: Path  #: The job file's store.
    server: VirtualServer
    clock: VirtualClock  #: The run's own.


def virtual_run(
    lines: Iterable[Line],
    spec: str,
    settings: RunSettings | None = None,
    *,
    world: World | None = None,
    beside: Callable[[Scene], Coroutine[Any, Any, None]] | None = None,
) -> Figures:
    """Run *lines* as a job file against the simulator of *spec* and return what came of it.

    Lines that name no model or `max_tokens` get `MODEL` and 1,024. *beside* runs at the same time, on the same loop, and
    is cancelled when the run is over: it may put wishes beside the store or send the machine to sleep.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "jobs.jsonl")
        with path.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps({"prompt": line} if isinstance(line, str) else line) + "\n")
        return in_virtual_time(_run, path, spec, settings or RunSettings(), world or World(), beside)


async def _run(
    path: Path,
    spec: str,
    settings: RunSettings,
    world: World,
    beside: Callable[[Scene], Coroutine[Any, Any, None]] | None,
) -> Figures:
    clock, notes = VirtualClock(), StringIO()
    server = world.server(spec, clock)
    job = Job(path.with_suffix(".db"), Source(path, Defaults(model=MODEL, max_tokens=1024)))
    servers = [server, *(world.server(one, clock) for one in world.fallbacks)]
    with _doors(servers), inline_threads(world.store_s), anyio.fail_after(world.at_most_s):
        async with anyio.create_task_group() as group:
            if beside is not None:
                group.start_soon(beside, Scene(job.store, server, clock))
            report = await runner.run(
                job,
                settings,
                Endpoint(simulator=server.simulator.settings),
                reporter=Silent(notes),
                clock=clock,
                rng=random.Random(world.seed),
            )
            group.cancel_scope.cancel()
    ledger = server.simulator.ledger
    return Figures(
        simulator=server.simulator,
        seen=ledger.seen if isinstance(ledger, SeeingLedger) else [],
        seconds=server.now(),
        succeeded=report.totals.succeeded,
        failed=report.totals.failed,
        report=report,
        notes=notes.getvalue(),
    )


@contextlib.contextmanager
def _doors(servers: Sequence[VirtualServer]) -> Iterator[None]:
    """Lead the runner's way to the API to *servers*, in this order, and spare its store the disk."""

    @contextlib.asynccontextmanager
    async def opened(_: object, concurrency: int, **__: object) -> AsyncIterator[Way]:
        each = [Senders(None, sender, sender) for sender in map(VirtualSender, servers)]
        names = [Reached(f"endpoint{i}", True) for i in range(len(each))] if len(each) > 1 else []
        yield Way(Routes(each, each) if names else each[0], True, {"endpoint": "simulator"}, concurrency, names)

    def unflushed(store: Path, **given: Any) -> sqlite3.Connection:
        conn = open_owner(store, **given)
        conn.execute("PRAGMA synchronous = OFF")
        return conn

    with patch.object(shift, "opened", opened), patch.object(owner, "open_owner", unflushed):
        yield
