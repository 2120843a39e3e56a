"""The commands in the documents that speak of a job of the reader's own: each runs, against the simulator."""

import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from running import MODEL, RunningCommand, command, simulator_thread
from test_documents import CONSOLE, DOCUMENTS, TESTED, commands

#: What stands in console blocks and is run neither here nor in test_documents.py, and why.
ELSEWHERE = {
    "pip": "a registry",
    "make": "this suite itself",
    "python": "a benchmark",
    ".": "the reader's shell",
    "export": "the reader's shell",
    "datasette": "a server, not installed here",
    "batchrunner simulate": "a server: test_simulator_server.py",
}
#: These speak to a run that works.
TO_A_RUN = ("tune", "pause", "unpause", "stop")
JOB = [
    {"id": "row-16", "prompt": "Answer at once."},
    {"id": "row-17", "prompt": "[[sim:400]] Never."},
    {"id": "row-18", "prompt": "[[sim:400]] Not this either."},
    {"id": "row-19", "prompt": "[[sim:truncate]] Say half of it."},
]


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    RunningCommand.end_all()


def shown_only(document: Path) -> list[str]:
    """Return the commands of *document* that test_documents.py does not run; the walk has a test of its own."""
    text = re.sub(r"<!-- (sample: .*?|typed )-->", "<!-- tested -->", document.read_text(encoding="utf-8"))
    tested = set(TESTED.findall(text))
    blocks = [block for block in CONSOLE.findall(text) if block not in tested and document.name != "walk.md"]
    return [line for block in blocks for line in commands(block)]


def job(folder: Path, lines: list[dict[str, str]]) -> Path:
    """Write jobs.jsonl into *folder*."""
    folder.mkdir()
    (folder / "jobs.jsonl").write_text(
        "".join(json.dumps(line | {"model": MODEL}) + "\n" for line in lines), encoding="utf-8"
    )
    return folder


def configuration(path: Path, url: str) -> Path:
    """Write the user's configuration to *path*: the endpoints that the documents name, both the simulator."""
    lines = [f'[endpoints.{name}]\nbase_url = "{url}"\nkey_env = "ANTHROPIC_API_KEY"\n' for name in ("main", "relay")]
    path.write_text("".join(lines), encoding="utf-8")
    path.chmod(0o600)
    return path


def signature(own: Path) -> str:
    """Return what `errors` calls the first group of failures."""
    groups = json.loads(command("errors", "jobs.jsonl", "--json", cwd=own).stdout)["groups"]
    return str(groups[0]["key"])


@contextlib.contextmanager
def working(folder: Path) -> Iterator[RunningCommand]:
    """Let a run work in *folder* meanwhile, on answers that do not come."""
    with simulator_thread() as (slow, ledger):
        run = RunningCommand("run", "jobs.jsonl", "-j", "2", "--drain", "0", url=slow, cwd=folder)
        ledger.wait_until(lambda ledger: ledger.arrivals == 2)
        yield run
        if run.process.poll() is None:
            run.signal(signal.SIGINT)
        run.finish()


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if shown_only(d)], ids=lambda path: path.name)
def test_what_is_shown_for_a_job_of_ones_own_runs(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with simulator_thread() as (url, _), contextlib.ExitStack() as stack:
        monkeypatch.setenv("BATCHRUNNER_CONFIG", str(configuration(tmp_path / "config.toml", url)))
        own = job(tmp_path / "own", JOB)
        (own / "answer.schema.json").write_text('{"type": "object"}', encoding="utf-8")
        assert command("run", "jobs.jsonl", url=url, cwd=own).code == 1
        busy = job(tmp_path / "busy", [{"id": f"q{n}", "prompt": f"[[sim:delay=300]] {n}"} for n in range(9)])
        lines = shown_only(document)
        if any(line.split()[1] in TO_A_RUN for line in lines):
            stack.enter_context(working(busy))
        for line in lines:
            run_one(line, own, busy, url)


def run_one(line: str, own: Path, busy: Path, url: str) -> None:
    """Run *line* where it belongs; it must do what it is shown for."""
    program, *words = [word for word in shlex.split(line) if not re.match(r"ANTHROPIC_\w+=", word)]
    if program in ELSEWHERE or f"{program} {words[0]}" in ELSEWHERE:
        return
    if program == "sqlite-utils":
        module = [sys.executable, "-m", "sqlite_utils", *words]
        assert subprocess.run(module, cwd=own, capture_output=True, check=False).returncode == 0, line
        return
    assert program == "batchrunner", line
    if words[0] == "recover" and len(words) > 2:  # the reader's own file: tests/test_rescue.py has one
        return
    to_a_run = words[0] in TO_A_RUN
    if "--signature" in words:  # a document cannot know it
        words[words.index("--signature") + 1] = signature(own)
    done = command(*words, url=url, cwd=busy if to_a_run else own)
    # A run, by whatever verb, and a retry of rows that nothing helps, ends with 1: some failed.
    is_run = words[0] in {"run", "resume", "retry", "move"} and not to_a_run
    assert done.code in ({0, 1} if is_run else {0}), f"{line}\n{done.stderr}"
