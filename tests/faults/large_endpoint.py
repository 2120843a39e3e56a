"""The simulator with answers of a size that the real API never sends: `python -m faults.large_endpoint SPEC LEDGER BYTES`."""

import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import anyio

from batchrunner.simulator import Ledger, Simulator, parse_spec
from batchrunner.simulator.replies import Reply
from batchrunner.simulator.server import serve_until


class LargeSimulator(Simulator):
    """Puts a field of so many bytes at the end of every plain answer; its text stays what it is."""

    padding = b""

    def respond(self, method: str, target: str, headers: Mapping[str, str], body: bytes, now: float) -> Reply:
        """Answer as the simulator does, at length."""
        reply = super().respond(method, target, headers, body, now)
        if reply.arrival is None or not reply.arrival.paid or len(reply.chunks) != 1:
            return reply
        return replace(reply, chunks=(reply.chunks[0][:-1], self.padding))


async def main(spec: str, ledger: Path, size: int) -> None:
    """Serve until SIGTERM."""
    LargeSimulator.padding = b',"padding":"' + b"x" * size + b'"}'
    stop = anyio.Event()
    with Ledger(ledger) as book:
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                    async for _ in signals:
                        stop.set()

            group.start_soon(listen)
            await serve_until(LargeSimulator(parse_spec(spec), book), 0, stop, lambda url: print(url, flush=True))  # noqa: T201
            group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
