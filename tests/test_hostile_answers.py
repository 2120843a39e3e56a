"""Answers that a model was talked into, or a broken endpoint makes up: whatever they hold, a run, a screen and an export go on."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api_helpers import MESSAGE
from batchrunner import Store
from batchrunner.errors import BatchrunnerError
from running import KEY, MODEL, job_file, rows
from store_helpers import typed

DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "9" * 5000
ESCAPES = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\u202eevil\u2066\u200b\r\x00\x7f"


def message(text: str, extra: str = "") -> bytes:
    """Return a message with *text*; *extra* is put into its JSON as it stands."""
    body = json.dumps({**MESSAGE, "content": [{"type": "text", "text": text}]})
    return (body[:-1] + extra + "}").encode()


ANSWERS: dict[str, bytes] = {
    "deep text": message(DEEP),
    "deep object": message('{"a":' * 100_000 + "1" + "}" * 100_000),
    "digits": message(f'{{"a": {DIGITS}}}'),
    "digits alone": message(DIGITS),
    "nan": message('{"a": NaN, "b": Infinity, "c": 1e999}'),
    "keys": message('{"": 1, "a\\u0000b": 2, "=cmd": "=1+1", "a": 1, "a": 2}'),
    "surrogate": message('{"a": "\\\\ud800"} \ud800'),
    "escapes": message(ESCAPES),
    "formula": message("=cmd|' /C calc'!A0"),
    "deep extra": message("x", f', "extra": {DEEP}'),
    "digits extra": message("x", f', "extra": {DIGITS}'),
    "nan extra": message("x", ', "extra": NaN'),
    "twice": message("x", ', "type": "message"'),
    "many blocks": json.dumps({**MESSAGE, "content": [{"type": "text", "text": "y"}] * 5000}).encode(),
    "odd blocks": json.dumps({**MESSAGE, "content": [{"type": "text"}, 5, None, [], {"type": 7}]}).encode(),
    "odd usage": json.dumps({**MESSAGE, "usage": {"input_tokens": -5, "output_tokens": 10**30}}).encode(),
    "odd model": json.dumps({**MESSAGE, "model": ESCAPES, "stop_reason": ESCAPES}).encode(),
    "error": json.dumps({"type": "error", "error": {"type": ESCAPES, "message": ESCAPES + DIGITS}}).encode(),
}


@contextlib.contextmanager
def endpoint() -> Iterator[str]:
    """Answer each prompt with what `ANSWERS` has under it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = ANSWERS[asked["messages"][0]["content"]]
            self.send_response_only(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.send_header("request-id", "req_\x85=x")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def shown(*words: object) -> str:
    """Return what a command says; a refusal in words is an answer too, anything else a mistake and raised."""
    try:
        return typed(*words).output
    except BatchrunnerError as refused:
        return str(refused)


@pytest.mark.parametrize("schema", [False, True], ids=["", "with a schema"])
def test_no_answer_breaks_a_run_a_screen_or_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: bool
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    job = job_file(tmp_path / "jobs.jsonl", [{"id": name, "prompt": name} for name in ANSWERS])
    words: list[object] = ["run", job, "--model", MODEL, "--progress", "none", "--retries", "bad_response=1"]
    if schema:
        (tmp_path / "schema.json").write_text('{"type": "object", "properties": {"a": {"type": "integer"}}}')
        words += ["--schema", tmp_path / "schema.json"]
    with endpoint() as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url)
        done = typed(*words)
    assert " 0 pending, of 18" in done.output
    store = tmp_path / "jobs.db"
    assert rows(store, "SELECT count(*) FROM requests WHERE state = 'pending'") == [(0,)]
    outputs = [done.output, shown("status", store), shown("errors", store), shown("runs", store)]
    outputs += [shown("show", store, name) for name in ANSWERS]
    outputs += [shown("show", store, name, "--json") for name in ANSWERS]
    for number, options in enumerate(((), ("--flatten",), ("--format", "batch-results"), ("--excel",), ("--pending",))):
        outputs.append(shown("export", store, "-o", tmp_path / f"out{number}.csv", *options))
    outputs.append(shown("export", store, "-o", tmp_path / "out.jsonl"))
    exported = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["custom_id"] for row in exported] == list(ANSWERS)
    for output in outputs:
        assert "\x1b" not in output
        assert "\x9b" not in output
        assert "\u202e" not in output
    with Store(store) as answers:
        assert [result.custom_id for result in answers.results()] == list(ANSWERS)
