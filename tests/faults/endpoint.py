"""The simulator as a process of its own: nothing that happens to a run touches its ledger."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from batchrunner.simulator.ledger import MESSAGES_PATH
from faults.lives import PYTHONPATH

_LOOK_AGAIN_S = 0.005
_BLOCK = 1 << 20


class Endpoint:
    """A simulator at `url` that writes `ledger`, and what of the ledger was read so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str, ledger: Path) -> None:
        self.process = process
        self.url = url
        self.ledger = ledger
        self.arrivals = 0  #: Of `POST /v1/messages`.
        self.ends = 0
        self._file = ledger.open("rb")
        self._rest = b""

    def look(self) -> list[dict[str, Any]]:
        """Read what the ledger got since the last look, and return it."""
        return list(self._news())

    def _news(self) -> Iterator[dict[str, Any]]:
        while block := self._file.read(_BLOCK):
            *lines, self._rest = (self._rest + block).split(b"\n")
            for line in map(json.loads, lines):
                if line.get("path") == MESSAGES_PATH:
                    self.arrivals += line["event"] == "arrival"
                    self.ends += line["event"] == "end"
                    yield line

    def wait_until(self, condition: Callable[["Endpoint"], bool], timeout_s: float = 60) -> None:
        """Return when *condition* holds for what has arrived and ended. Another process's file can only be polled."""
        deadline = time.monotonic() + timeout_s
        while not condition(self):
            assert time.monotonic() < deadline, f"the simulator never got there: {self.arrivals=} {self.ends=}"
            time.sleep(_LOOK_AGAIN_S)
            self._catch_up()

    def settle(self) -> None:
        """Wait until nothing is being answered any more: the ledger is complete."""
        self._catch_up()
        self.wait_until(lambda endpoint: endpoint.arrivals == endpoint.ends)

    def _catch_up(self) -> None:
        for _ in self._news():  # one by one: there may be millions
            pass

    def close(self) -> None:
        """End the simulator."""
        self._file.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def endpoint(folder: Path, spec: str = "latency=0.01", *, padding: int = 0) -> Iterator[Endpoint]:
    """Serve the simulator from a process of its own; *folder* gets its ledger (`ledger.jsonl`).

    *spec* as `batchrunner simulate --with` takes it. Keep *folder* apart from the run's directory. *padding*: bytes
    by which every answer is longer.
    """
    folder.mkdir(exist_ok=True, parents=True)
    ledger = folder / "ledger.jsonl"
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    plain = ["batchrunner", "simulate", "--port", "0", "--with", spec, "--ledger", str(ledger)]
    large = ["faults.large_endpoint", spec, str(ledger), str(padding)]
    process = subprocess.Popen(
        [sys.executable, "-m", *(large if padding else plain)],
        env=env | {"PYTHONPATH": PYTHONPATH}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http://127.0.0.1:"), "the simulator did not start"
        served = Endpoint(process, url, ledger)
    except BaseException:
        process.kill()
        process.wait()
        raise
    try:
        yield served
    finally:
        served.close()
