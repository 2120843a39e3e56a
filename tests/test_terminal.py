"""What stands on a real (pseudo-)terminal: nothing wider than it is, nothing that steers it but what we mean."""

import os
import re
import struct
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import MappingProxyType

import pytest

from batchrunner.clock import stamp
from batchrunner.model import ErrorClass
from batchrunner.progress import Bar, JsonLines, PlainLines, Silent, Snapshot
from batchrunner.screen import cells
from batchrunner.store.changes import Heartbeat
from store_helpers import StoreMaker, answer, building, failure, request

pty = pytest.importorskip("pty")

HOSTILE = "\x1b]52;c;aGk=\x07\u202eevil\nsecond\x9b2J\u200b"
LONG = "long-" * 60
WIDTH = 50


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db", input_path=Path("/data") / LONG / "jobs.jsonl") as maker:
        maker.take_in([request(LONG + "1", 1), request(LONG + "2", 2), request("ok", 3)])
        maker.begin()
        maker.settle(LONG + "1", failure(ErrorClass.INVALID, f"messages.0: {LONG}" * 3))
        maker.settle(LONG + "2", failure(ErrorClass.TIMEOUT, LONG, possibly_paid=True))
        maker.settle("ok", answer("all is well"))
        yield maker


def on_terminal(*words: str, height: int = 24, env: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return what `batchrunner ...` writes to a terminal of that size."""
    import fcntl
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", height, WIDTH, 0, 0))
    given = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-m", "batchrunner", *words]
    shown = b""
    # shutil.get_terminal_size asks the original stdout, which the terminal is here.
    with subprocess.Popen(command, stdout=follower, stderr=follower, env=given | {"TERM": "xterm", **env}) as process:
        os.close(follower)
        while chunk := _read(leader):
            shown += chunk
        assert process.wait(60) == 0
    os.close(leader)
    return shown.decode().replace("\r\n", "\n")


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


@pytest.mark.parametrize(
    "words",
    [["errors"], ["errors", "--rows"], ["status", "--possible-duplicates"], ["runs"], ["status"]],
    ids=" ".join,
)
def test_lines_fit_the_terminal(store: StoreMaker, words: list[str]) -> None:
    store.end(reason=f"The endpoint said: {LONG}, and that is that.")
    for line in on_terminal(*words, str(store.path)).splitlines():
        a_command = "batchrunner " in line  # to be copied, so it stays whole
        assert a_command or cells(line) <= WIDTH, line


def test_long_ids_and_messages_are_cut_in_the_middle(store: StoreMaker) -> None:
    store.end()
    rows = on_terminal("errors", "--rows", str(store.path)).splitlines()
    assert len(rows) == 2
    assert all(row.startswith("long-long-") and "…" in row and row.endswith("long-") for row in rows)
    whole = subprocess.run(
        [sys.executable, "-m", "batchrunner", "errors", "--rows", str(store.path)], capture_output=True, check=True
    )
    assert whole.stdout.count(LONG.encode()) == 2 + 3 + 1, "in a pipe nothing is cut"


def test_a_long_reason_keeps_its_end(store: StoreMaker) -> None:
    store.end(ending="halted", reason="The key is not accepted. " * 4 + "Set ANTHROPIC_API_KEY to a valid one.")
    assert "Set ANTHROPIC_API_KEY" in " ".join(on_terminal("status", str(store.path)).split())


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}, {"FORCE_COLOR": "1"}], ids=str)
@pytest.mark.parametrize("verb", ["status", "errors", "runs", "show", "export"])
def test_no_colour_is_used(store: StoreMaker, verb: str, env: dict[str, str]) -> None:
    more = ["ok"] if verb == "show" else []
    assert "\x1b" not in on_terminal(verb, str(store.path), *more, env=env)


def test_watching_redraws_in_place_and_never_scrolls(store: StoreMaker) -> None:
    store.end()
    shown = on_terminal("status", str(store.path), "--watch", height=8)
    assert shown.startswith("\x1b[2J\x1b[H")
    assert shown.endswith("\x1b[J")
    assert shown.count("\n") <= 7
    assert all(cells(re.sub(r"\x1b\[\w+", "", line)) <= WIDTH for line in shown.splitlines())
    assert "\x1b" not in on_terminal("status", str(store.path), "--watch", env={"TERM": "dumb"})


def test_watching_a_living_run_draws_more_than_once(store: StoreMaker) -> None:
    """Ends by the heartbeat growing old: the run died."""
    store.conn.execute("UPDATE runs SET started_at = '2026-01-01T00:00:00.000Z'")
    almost_dead = datetime.fromtimestamp(datetime.now(UTC).timestamp() - 18, UTC)
    store.write(Heartbeat(store.run_id, stamp(almost_dead)))
    assert on_terminal("status", str(store.path), "--watch", "0.2").count("\x1b[H") >= 2


SNAPSHOT = Snapshot(10, 1, 0, 2, 0, 3, 0, 0, 0)


@pytest.mark.parametrize("kind", [Silent, PlainLines, Bar])
def test_notes_of_a_run_are_shown_without_tricks(kind: type[Silent]) -> None:
    stream = StringIO()
    shown = kind(stream)
    shown.note(HOSTILE)
    shown.start(SNAPSHOT)
    shown.note(f"two\nlines {HOSTILE}")
    shown.stop()
    text = re.sub(r"\r|\x1b\[A", "", stream.getvalue())  # the bar's own
    assert {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs"}} <= {"\n"}
    assert "two\nlines" in text


def test_notes_for_machines_are_exact() -> None:
    import json

    stream = StringIO()
    JsonLines(stream).note(HOSTILE)
    assert json.loads(stream.getvalue())["text"] == HOSTILE
    assert stream.getvalue().isascii()
