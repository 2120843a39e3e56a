"""Requests that came from Python, and a kill while their file lies beside the store."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrunner.failpoints import VARIABLE, Point
from batchrunner.spool import spooled
from faults.endpoint import endpoint
from faults.lives import Nursery, Place, nursery

LINES = [{"id": f"r{i}", "prompt": f"Question {i}"} for i in range(30)]


@pytest.fixture(scope="module")
def runs() -> Iterator[Nursery]:
    with nursery() as opened:
        yield opened


def litter(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_run_left_beside_the_store_goes_with_the_next_run(tmp_path: Path, runs: Nursery) -> None:
    where = Place(tmp_path / "run" / "jobs.jsonl", tmp_path / "out")
    where.job.parent.mkdir()
    where.out.mkdir()
    asked: dict[str, Any] = {"requests": LINES, "store": where.store.name}
    with endpoint(tmp_path / "endpoint") as served:
        for _ in range(2):
            assert runs.run(where, served.url, env={VARIABLE: f"{Point.COMPLETING}:1"}, **asked).finish() == -9
            assert len(litter(where.job.parent)) == 1
        assert runs.run(where, served.url, **asked).finish() == 0
    assert litter(where.job.parent) == []
    assert len(where.saved()) == 30


@pytest.fixture
def other(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process whose requests lie beside the same store."""
    program = (
        "import asyncio, pathlib, signal, sys\n"
        "from batchrunner.spool import spooled\n"
        "async def main():\n"
        "    async with spooled(['One'], pathlib.Path(sys.argv[1])):\n"
        "        print('ready', flush=True)\n"
        "        signal.pause()\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "jobs.db")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.communicate()


async def test_the_file_of_one_who_lives_stays(tmp_path: Path, other: "subprocess.Popen[bytes]") -> None:
    (theirs,) = litter(tmp_path)
    async with spooled(["Two"], tmp_path / "jobs.db") as ours:
        assert litter(tmp_path) == sorted([theirs, ours])
        assert ours.read_text(encoding="utf-8") == '"Two"\n'
    assert litter(tmp_path) == [theirs]
    other.kill()
    other.wait(20)
    async with spooled(["Three"], tmp_path / "jobs.db") as ours:
        assert litter(tmp_path) == [ours]
    assert litter(tmp_path) == []
