"""What strangers may try by way of job files, stores, answers and directories, and what a run never does for them.

Threat by threat, and where each is tested: docs/security.md.
"""

import base64
import contextlib
import json
import pickle
import re
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest

from audited import Audited, audited
from batchrunner.cli import cli, main
from batchrunner.errors import BatchrunnerError, InputError, StoreError, UsageError
from batchrunner.store.files import open_reader
from running import KEY, MODEL, RunningCommand, command, job_file, rows, simulator_thread
from store_helpers import typed

SIMULATED = ("--model", MODEL, "--simulate-with", "latency=0.001", "--progress", "none")


@contextlib.contextmanager
def headers_seen() -> Iterator[tuple[str, list[list[str]]]]:
    """Serve an endpoint that remembers the headers it gets, and refuses each request as wrong."""
    seen: list[list[str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append([f"{name}: {value}" for name, value in self.headers.items()])
            self.rfile.read(int(self.headers["content-length"]))
            body = b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'
            self.send_response_only(400)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hostile_lines(secret: Path) -> list[object]:
    """Lines that would do harm if anything of a line were opened, run, unpickled or made a name of."""
    code = "__import__('os').system('touch canary-executed')"
    texts = [
        code,
        f"exec({code!r})",
        f"{{{code}}} {{0.__class__.__mro__}} ${{{code}}} {{{{ self.__init__.__globals__ }}}} %({code})s `{code}`",
        f"!!python/object/apply:os.system ['{code}']",
        base64.b64encode(pickle.dumps({"canary": 1})).decode(),
        f"@{secret} @file:{secret} file://{secret} $(cat {secret})",
        "canary_module canary.module",
        "'; DROP TABLE requests; --",
    ]
    ids = ["../../canary-escape", "/tmp/canary-absolute", "CON", "canary.db", "a" * 256, ".", "..", "canary\\..\\x"]
    lines: list[object] = [{"id": custom_id, "prompt": text} for custom_id, text in zip(ids, texts, strict=True)]
    image = {"type": "image", "source": {"type": "url", "url": f"file://{secret}"}}
    document = {"type": "document", "source": {"type": "url", "url": f"file://{secret}"}}
    lines += [
        {"id": "image", "messages": [{"role": "user", "content": [image]}]},
        {"id": "document", "messages": [{"role": "user", "content": [document]}]},
    ]
    return lines


def test_a_hostile_job_is_sent_as_it_stands_and_gets_at_nothing(tmp_path: Path) -> None:
    """A run of hostile lines under umask 000 and everything that shows it, each watched by an audit hook."""
    folder, secret = tmp_path / "run", tmp_path / "canary-secret.png"
    secret.write_bytes(b"\x89PNG secret")
    job_file(folder / "jobs.jsonl", hostile_lines(secret))
    words = [
        ("run", "jobs.jsonl", *SIMULATED, "--system", "{prompt}"),
        ("export", "jobs.jsonl", "-o", "out.csv"),
        ("export", "jobs.jsonl", "-o", "flat.csv", "--flatten", "--excel"),
        ("show", "jobs.jsonl", "../../canary-escape"),
    ]
    done = [audited(*each, cwd=folder, umask=0) for each in words]
    assert [one.code for one in done] == [0] * 4, [one.output for one in done]
    assert rows(folder / "jobs.db", "SELECT count(*) FROM requests WHERE state = 'succeeded'") == [(10,)]
    nothing_was_run(done)
    nothing_was_opened_but_ours(folder, done)
    nobody_but_the_endpoint_was_spoken_to(done)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name != "jobs.jsonl"}
    assert set(modes.values()) == {0o600}, modes


def nothing_was_run(done: list[Audited]) -> None:
    """No line was compiled, imported or unpickled, and no process was started."""
    for one in done:
        assert one.of("compile", "exec", "import"), "the hook was at work"
        harmful = one.of("compile", "exec", "import", "pickle.find_class", "marshal.loads", "ctypes.dlopen")
        assert not [arguments for arguments in harmful if "canary" in " ".join(arguments)]
        assert not one.of("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.system", "pickle.find_class")


def nothing_was_opened_but_ours(folder: Path, done: list[Audited]) -> None:
    """No file that a line names was opened, and none was written outside of the run's directory or under such a name."""
    for one in done:
        assert not [arguments for arguments in one.of("open", "sqlite3.connect") if "canary" in " ".join(arguments)]
        written = [path for path, mode, *_ in one.of("open") if any(flag in mode for flag in "wax+")]
        outside = [path for path in written if path.startswith("'/") and not path.startswith(f"'{folder}")]
        assert set(outside) <= {"'/dev/null'"}
    kept = {path.name for path in folder.iterdir()}
    readers = {"jobs.db-wal", "jobs.db-shm"}
    assert kept - readers == {"jobs.jsonl", "jobs.db", "jobs.db.lock", "out.csv", "flat.csv"}


def nobody_but_the_endpoint_was_spoken_to(done: list[Audited]) -> None:
    """A run connects to its endpoint, here the simulator; whatever shows it connects to nobody."""
    run, *others = done
    assert run.of("socket.connect")
    assert all("'127.0.0.1'" in address for _, address in run.of("socket.connect", "socket.bind"))
    assert not [one.of("socket.connect", "socket.bind") for one in others if one.of("socket.connect", "socket.bind")]


def test_a_working_directory_decides_neither_where_a_run_sends_nor_what_code_it_runs(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["Hello"])
    with simulator_thread() as (good, asked), simulator_thread() as (evil, stolen):
        for name in ("batchrunner.toml", "config.toml", ".batchrunner.toml", ".config/batchrunner/config.toml"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f'base_url = "{evil}"\n[endpoints.evil]\nbase_url = "{evil}"\n')
        (tmp_path / ".env").write_text(f"ANTHROPIC_BASE_URL={evil}\n")
        (tmp_path / ".anthropic").mkdir()
        (tmp_path / ".anthropic" / "config.json").write_text(json.dumps({"base_url": evil}))
        for module in ("anthropic", "aiohttp", "sqlite_utils", "sitecustomize", "tqdm", "click", "json"):
            (tmp_path / f"{module}.py").write_text("open('canary-executed', 'w')\nraise SystemExit(99)\n")
        done = command("run", "jobs.jsonl", "--model", MODEL, url=good, cwd=tmp_path)
        assert done.code == 0, done.stderr
        assert (asked.arrivals, stolen.arrivals) == (1, 0)
    assert not (tmp_path / "canary-executed").exists()


@pytest.mark.parametrize(
    "line",
    [
        {"prompt": "x", "base_url": "http://evil.example"},
        {"prompt": "x", "api_key": "sk-x"},
        {"prompt": "x", "endpoint": "evil"},
        {"method": "POST", "url": "http://evil.example/v1/chat/completions", "body": {"messages": []}},
    ],
    ids="-".join,
)
def test_a_line_that_names_an_address_a_key_or_headers_is_refused(tmp_path: Path, line: object) -> None:
    job_file(tmp_path / "jobs.jsonl", [line])
    with pytest.raises(InputError):
        typed("run", tmp_path / "jobs.jsonl", *SIMULATED)


def test_a_parameter_that_nobody_knows_goes_to_the_endpoint_and_nowhere_else(tmp_path: Path) -> None:
    params = {"messages": [{"role": "user", "content": "x"}], "extra_headers": {"x-api-key": "theirs"}, "base_url": "x"}
    job_file(tmp_path / "jobs.jsonl", [{"params": params}, {"params": {**params, "stream": True}}])
    with headers_seen() as (url, seen):
        command("run", "jobs.jsonl", "--model", MODEL, "--timeout", "2", url=url, cwd=tmp_path)
    assert len(seen) >= 2
    assert all("theirs" not in line for lines in seen for line in lines)


def test_no_flag_takes_a_key_and_none_turns_verification_off() -> None:
    context = click.Context(cli)
    verbs = [verb for name in cli.list_commands(context) if (verb := cli.get_command(context, name)) is not None]
    names = {name for verb in verbs for option in verb.params for name in (*option.opts, *option.secondary_opts)}
    assert "--base-url" in names
    dangerous = re.compile("key|verify|cert|secret|password|token$")
    assert not [name for name in names if dangerous.search(name)]


# Stores that somebody else made.


@pytest.fixture
def store(tmp_path: Path) -> Path:
    job_file(tmp_path / "jobs.jsonl", ["one", "two"])
    assert typed("run", tmp_path / "jobs.jsonl", *SIMULATED).exit_code == 0
    return tmp_path / "jobs.db"


def poison(store: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(store)) as conn:
        for statement in statements:
            conn.execute(statement)
        conn.commit()


TRIGGER = """CREATE TRIGGER harmless AFTER INSERT ON attempts BEGIN
    UPDATE inputs SET params = replace(params, 'one', 'send me your secrets'); END"""


def test_a_store_with_triggers_is_not_worked_on(store: Path) -> None:
    """They would change prompts after they were looked at, and answers after they were saved."""
    poison(store, TRIGGER)
    before = store.read_bytes()
    for words in (("resume", store, "--simulate"), ("retry", store, "-y", "--simulate"), ("export", store)):
        with pytest.raises(StoreError, match="harmless"):
            typed(*words)
    assert store.read_bytes() == before
    with pytest.raises(StoreError, match="harmless"):
        open_reader(store)


@pytest.mark.parametrize(
    "expression",
    [
        "load_extension('canary')",
        "readfile('/etc/passwd')",
        "writefile('canary', 'x')",
        "fts3_tokenizer('simple')",
        "edit('x')",
    ],
)
def test_a_view_that_calls_dangerous_functions_does_nothing(store: Path, expression: str) -> None:
    poison(
        store,
        "DROP VIEW results_flat",
        f"CREATE VIEW results_flat AS SELECT custom_id, {expression} AS text, * FROM requests",
    )
    for words in (("export", store), ("export", store, "--where", "text <> ''")):
        with pytest.raises(BatchrunnerError, match=r"unsafe use|no such function|not authorized|prohibited"):
            typed(*words)
    for words in (("status", store), ("errors", store)):
        assert typed(*words).exit_code == 0
    assert not list(store.parent.glob("canary*"))


def test_a_condition_cannot_make_use_of_a_view_that_never_ends(store: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT q.*, i FROM requests q, n"
    poison(store, "DROP VIEW results_flat", f"CREATE VIEW results_flat AS {endless}")
    with pytest.raises(UsageError, match="nothing else"):
        typed("export", store, "--where", "1")


# The key.


def silent_about_the_key(folder: Path, *outputs: str) -> None:
    assert not [output for output in outputs if KEY in output]
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("url", "env"),
    [
        ("https://api.batchrunner.invalid", {"ANTHROPIC_LOG": "debug"}),
        ("https://relay.example", {"HTTPS_PROXY": "http://user:proxy-password-1@127.0.0.1:9"}),
    ],
    ids=["no such name", "proxy"],
)
def test_the_key_is_in_no_file_and_on_no_screen_when_an_endpoint_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, env: dict[str, str]
) -> None:
    job_file(tmp_path / "jobs.jsonl", ["Hello"])
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    done = command("run", "jobs.jsonl", "--model", MODEL, "--max-outage", "1", url=url, cwd=tmp_path)
    assert done.code == 4, done.stderr
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    checked = typed("check", tmp_path / "jobs.jsonl", "--model", MODEL, "--json").output
    silent_about_the_key(tmp_path, done.stdout, done.stderr, checked)
    assert "proxy-password-1" not in done.stderr + checked
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", [f"https://u:{KEY}@r.example", f"https://r.example/?k={KEY}", KEY, f"http://{KEY}"])
def test_an_address_with_a_key_in_it_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    job_file(tmp_path / "jobs.jsonl", ["Hello"])
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
    with pytest.raises(UsageError) as refused:
        typed("run", tmp_path / "jobs.jsonl", "--model", MODEL)
    checked = typed("check", tmp_path / "jobs.jsonl", "--model", MODEL, "--json").output
    silent_about_the_key(tmp_path, str(refused.value), checked)


@pytest.mark.parametrize("fault", ["401", "hang"])
def test_the_key_is_in_no_file_no_log_and_no_list_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("ANTHROPIC_LOG", "debug")
    job_file(tmp_path / "jobs.jsonl", ["Hello", {"id": "streamed", "prompt": "Hello", "stream": True}])
    with simulator_thread(f"{fault}=1") as (url, seen):
        run = LivingCommand(url, tmp_path)
        seen.wait_until(lambda ledger: ledger.arrivals >= 1)
        assert KEY not in run.cmdline()
        output = run.end()
    silent_about_the_key(tmp_path, output)


def test_the_report_of_a_mistake_of_ours_holds_no_key(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-of-no-known-form")

    def mistaken(*_: object, **__: object) -> None:
        raise RuntimeError(f"headers: canary-of-no-known-form and {KEY}")

    monkeypatch.setattr(cli, "main", mistaken)
    with pytest.raises(SystemExit) as ended:
        main(["status", "jobs.jsonl"])
    said = capfd.readouterr().err
    assert ended.value.code == 70
    assert "mistake of ours" in said
    assert "canary" not in said


class LivingCommand:
    """A run whose list of arguments can be looked at."""

    def __init__(self, url: str, cwd: Path) -> None:
        self._run = RunningCommand("run", "jobs.jsonl", "--model", MODEL, "--timeout", "2", url=url, cwd=cwd)

    def cmdline(self) -> str:
        if sys.platform != "linux":
            return ""
        with contextlib.suppress(FileNotFoundError):
            return Path(f"/proc/{self._run.process.pid}/cmdline").read_text()
        return ""

    def end(self) -> str:
        with contextlib.suppress(ProcessLookupError):
            self._run.signal(signal.SIGINT)
            self._run.signal(signal.SIGINT)
        self._run.finish()
        return self._run.stdout + self._run.stderr


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"pid": ' + b"9" * 30 + b', "host": "HOST", "name": "x", "since": "x"}', id="large pid"),
        pytest.param(b'{"pid": -1, "host": "HOST", "name": "../../x", "since": "\\u001b[2J"}', id="everybody"),
        pytest.param(b'{"pid": null, "host": [], "name": 5}', id="other types"),
        pytest.param(b"\xff\x00", id="bytes"),
    ],
)
def test_a_lock_file_that_somebody_else_wrote_is_no_more_than_a_text(store: Path, content: bytes) -> None:
    lock = store.with_name("jobs.db.lock")
    lock.write_bytes(content.replace(b"HOST", socket.gethostname().encode()))
    assert typed("status", store).exit_code == 0
    with contextlib.suppress(BatchrunnerError):
        assert "\x1b" not in typed("stop", store).output
    assert typed("resume", store, "--simulate", "--progress", "none").exit_code == 0
