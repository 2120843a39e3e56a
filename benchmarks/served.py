"""The simulator as a process of its own, so that it is as prompt as a real server while the client is busy."""

import contextlib
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import anyio
from anyio import to_thread

from batchrunner.simulator import Simulator, parse_spec
from batchrunner.simulator.server import serve
from virtual import Figures, SeeingLedger

_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Served:
    """A simulator that is being served."""

    url: str
    _pipe: Connection

    def figures(self, period_s: float) -> dict[str, Any]:
        """Return what it has seen so far: `statuses`, `refused_share`, `goodput`, `output_used`, `most` in a period."""
        self._pipe.send(period_s)
        found: dict[str, Any] = self._pipe.recv()
        return found


@contextlib.contextmanager
def served(spec: str) -> Iterator[Served]:
    """Serve the simulator of *spec* from another process while the block lasts."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(spec, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Served(ours.recv(), ours)
    finally:
        ours.close()
        process.join(_PATIENCE_S)
        process.kill()


def _serve(spec: str, pipe: Connection) -> None:
    anyio.run(_answering, spec, pipe)


async def _answering(spec: str, pipe: Connection) -> None:
    ledger = SeeingLedger()
    simulator = Simulator(parse_spec(spec), ledger)
    async with serve(simulator) as url:
        pipe.send(url)
        with contextlib.suppress(EOFError):  # the other end has gone
            while True:
                period_s = await to_thread.run_sync(pipe.recv)
                pipe.send(_figures(Figures(simulator, ledger.seen, 0.0, 0, 0), period_s))


def _figures(seen: Figures, period_s: float) -> dict[str, Any]:
    settings = seen.simulator.settings
    return {
        "statuses": seen.statuses,
        "refused_share": seen.refused_share,
        "goodput": seen.goodput if settings.requests else None,
        "output_used": seen.output_used if settings.output_tokens_limit else None,
        "most": seen.max_in_window(period_s),
    }
