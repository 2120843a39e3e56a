"""The recorded walk: what it shows is what the program says today, but for times, counts and widths."""

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from batchrunner.errors import BatchrunnerError
from running import rows
from test_documents import CONSOLE, ROOT

PAGE = ROOT / "docs" / "walk.md"
#: What depends on the terminal and on how fast the machine is.
PASSING = re.compile(r"^(requests: .*|event=.*|waited .*|held back .*)\n", re.MULTILINE)


def recorded() -> list[tuple[str, str]]:
    """Return the commands of the walk, each with what stood below it."""
    block = CONSOLE.findall(PAGE.read_text(encoding="utf-8"))[0]
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def bare(text: str) -> str:
    """Return *text* without what differs from run to run: times, counts, places, where lines are broken."""
    text = re.sub(r"/\S*/", "/", PASSING.sub("", text))
    return "".join(re.sub(r"\d[\d.,:]*", "N", text).split())


def answered(store: Path) -> int:
    """Return how many answers are in *store*, which may just be coming into being."""
    with contextlib.suppress(BatchrunnerError, sqlite3.Error):
        return sum(succeeded for (succeeded,) in rows(store, "SELECT succeeded FROM job"))
    return 0


def typed(line: str, folder: Path, *, interrupt: bool = False) -> tuple[str, int]:
    """Return what *line* says in *folder*, and its exit code; *interrupt* it once some answers are there."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(["bash", "-c", f"exec {line}" if interrupt else line], cwd=folder, env=env, **streams) as run:  # type: ignore[call-overload]
        store = folder / "squares.db"
        while interrupt and answered(store) < 8:
            assert run.poll() is None, "it ended before it could be interrupted"
            time.sleep(0.05)
        if interrupt:
            run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=120)
        return said.decode(), run.returncode


def test_the_walk_shows_what_the_program_says_today(tmp_path: Path) -> None:
    code = 0
    walk = recorded()
    assert len(walk) == 11
    for line, shown in walk:
        if line == "echo $?":
            assert int(shown) == code == 130
            continue
        said, code = typed(line, tmp_path, interrupt="latency=1..2" in line)
        whole = re.escape(bare(shown)).replace(
            "…", ".*"
        )  # a terminal cuts long messages in the middle, a pipe does not
        assert re.fullmatch(whole, bare(said)), f"{line}: record it anew (bash docs/record-walk.sh)\n{said}"
