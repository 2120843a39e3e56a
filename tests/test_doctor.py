"""`check --ping`: five things one checks by hand, each with its remedy, in a handful of calls, without a key shown."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from api_helpers import MESSAGE
from batchrunner.api.asking import Answer
from batchrunner.api.network import walk
from batchrunner.doctor.lines import Health
from batchrunner.doctor.verdicts import Wanted, of_clock, of_frequency
from batchrunner.model import LimitKind, Quota
from batchrunner.policy.window import Rate
from batchrunner.settings import Limits
from running import MODEL, RunningCommand, command, job_file

KEY = "canary-4711-abcdefghijkl"
Said = tuple[int, Any]
MODELS = {"data": [{"type": "model", "id": MODEL}], "has_more": False}
NOT_FOUND: Said = (404, {"detail": "Not Found"})


def said(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


@contextlib.contextmanager
def gateway(
    models: Said = (200, MODELS),
    count: Said = (200, {"input_tokens": 12}),
    message: Said = (200, MESSAGE),
    *,
    headers: Mapping[str, str] | None = None,
    ahead_s: float = 0,
    context: ssl.SSLContext | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Serve these answers, a text as HTML; yields the address and what was asked. The server's clock is *ahead_s* ahead."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(*models)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(*(count if self.path.endswith("count_tokens") else message))

        def answer(self, status: int, body: Any) -> None:
            asked.append(f"{self.command} {self.path}")
            text = body if isinstance(body, str) else json.dumps(body)
            text = text.replace("ECHO", str(self.headers["authorization"]))
            self.send_response_only(status)
            self.send_header("date", format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_s), usegmt=True))
            self.send_header("content-type", "text/html" if isinstance(body, str) else "application/json")
            self.send_header("content-length", str(len(text.encode())))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pinged(folder: Path, url: str, *options: str) -> tuple[RunningCommand, dict[str, dict[str, str]]]:
    """Run `check --ping --json`; returns the command, and the lines by their codes."""
    job_file(folder / "jobs.jsonl", ["Hello there", "And again"])
    done = command("check", "jobs.jsonl", "--model", MODEL, "--ping", "--json", *options, url=url, cwd=folder, key=KEY)
    assert KEY not in done.stdout + done.stderr
    (ping,) = json.loads(done.stdout)["ping"]
    return done, {line["code"]: line for line in ping["lines"]}


def test_a_good_endpoint_is_found_well_in_three_calls(tmp_path: Path) -> None:
    limits = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-output-tokens-limit": "8000",
    }
    with gateway(headers=limits) as (url, asked):
        done, lines = pinged(tmp_path, url)
    assert done.code == 0, done.stdout
    assert asked == ["GET /v1/models?limit=1000", "POST /v1/messages/count_tokens", "POST /v1/messages"]
    assert {line["state"] for line in lines.values()} == {"ok"}
    assert {line["area"] for line in lines.values()} == {"key", "parameters", "network", "account", "frequency"}
    assert "12 input tokens" in lines["first-request"]["text"]
    assert lines["limits"]["text"] == "permits per minute: 50 requests, 8k output tokens"
    assert "agrees" in lines["clock"]["text"]
    (ping,) = json.loads(done.stdout)["ping"]
    assert ping["sent"] == [
        "GET /v1/models",
        "POST /v1/messages/count_tokens (the first request of the job)",
        f"POST /v1/messages ({MODEL}, max_tokens 1, the prompt Hi)",
    ]


def test_nothing_is_sent_without_ping(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["Hello"])
    with gateway() as (url, asked):
        done = command("check", "jobs.jsonl", "--model", MODEL, url=url, cwd=tmp_path)
    assert (done.code, asked) == (0, [])
    assert "nothing was sent" in done.stdout


UI = "<!doctype html><html><head><title>Console</title></head><body></body></html>"
SICK: dict[str, tuple[dict[str, Said], str, str, str]] = {
    "key": (
        {"models": (401, said("authentication_error", "bad key ECHO")), "message": (401, said("authentication_error", "bad key ECHO"))},
        "key-refused", "ANTHROPIC_API_KEY is refused", "make a new key",
    ),
    "balance": ({"message": (402, said("billing_error", "No balance."))}, "no-credit", "No balance.", "add credit"),
    "relay's balance": (
        {"message": (403, {"error": {"type": "new_api_error", "code": "insufficient_user_quota", "message": "user quota is not enough"}})},
        "no-credit", "user quota is not enough", "a relay has a balance of its own",
    ),
    "permission": ({"message": (403, said("permission_error", "Not for you."))}, "no-permission", "Not for you.", "workspace"),
    "model": ({"message": (404, said("not_found_error", f"model: {MODEL}"))}, "model-refused", MODEL, "look at --model"),
    "web page": ({"models": (200, UI), "count": (200, UI), "message": (200, UI)}, "no-api", MODEL, "look at the base URL"),
    "parameters": (
        {"count": (400, said("invalid_request_error", "thinking: not here"))},
        "first-request-refused", "thinking: not here", "correct the parameter",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SICK)
def test_each_ailment_is_a_problem_with_a_remedy(tmp_path: Path, what: str) -> None:
    answers, code, text, remedy = SICK[what]
    with gateway(**answers) as (url, _):  # type: ignore[arg-type]
        done, lines = pinged(tmp_path, url)
    assert done.code == 3, done.stdout
    assert lines[code]["state"] == "problem"
    assert text in lines[code]["text"]
    assert remedy in lines[code]["remedy"]
    problems = [name for name, line in lines.items() if line["state"] == "problem"]
    assert problems == ([code, "models-refused"] if what == "key" else [code])
    assert all(line["state"] != "ok" for line in lines.values() if "HTTP 401" in line["text"])


@pytest.mark.parametrize("missing", [NOT_FOUND, (501, said("not_implemented", "no")), (405, "")])
def test_a_gateway_that_lacks_all_but_messages_is_well(tmp_path: Path, missing: Said) -> None:
    with gateway(models=missing, count=missing) as (url, asked):
        done, lines = pinged(tmp_path, url)
    assert (done.code, len(asked)) == (0, 3)
    assert {line["state"] for line in lines.values()} == {"ok"}
    assert lines.keys() >= {"models-missing", "count-missing", "no-limits", "message"}


def test_a_list_that_is_not_for_everyone_is_no_problem_where_messages_are_taken(tmp_path: Path) -> None:
    with gateway(models=(403, said("permission_error", "Not for you."))) as (url, _):
        done, lines = pinged(tmp_path, url)
    assert done.code == 0
    assert lines["models-missing"]["state"] == "ok"


def test_an_outage_is_a_warning_that_says_nothing_of_the_key(tmp_path: Path) -> None:
    down = (529, said("overloaded_error", "Overloaded"))
    with gateway(models=down, count=down, message=down) as (url, _):
        done, lines = pinged(tmp_path, url)
    assert done.code == 0
    assert (lines["key-unknown"]["state"], lines["no-answer"]["state"]) == ("warning", "warning")


def test_a_clock_that_is_wrong_is_told(tmp_path: Path) -> None:
    with gateway(ahead_s=90) as (url, _):
        done, lines = pinged(tmp_path, url)
    assert done.code == 0
    assert lines["clock-skew"]["state"] == "warning"
    assert "behind the endpoint's" in lines["clock-skew"]["text"]
    assert [line.health for line in of_clock(400.0)] == [Health.PROBLEM]
    assert [line.code for line in of_clock(Answer(headers={"date": "nonsense"}).skew_s(0.0))] == ["clock"]


def test_nobody_at_the_address(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        done, lines = pinged(tmp_path, f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert done.code == 3
    assert lines["tcp-failed"]["state"] == "problem"
    assert "firewall" in lines["tcp-failed"]["remedy"]


@pytest.mark.anyio
async def test_a_name_that_is_none_and_a_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    (step,) = [step async for step in walk("https://relay..example")]
    assert (step.name, step.ok) == ("dns", False)
    assert "name server" in step.remedy
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:9")
    (step,) = [step async for step in walk("https://other.example")]
    assert (step.name, step.ok) == ("proxy", False)


@pytest.mark.anyio
async def test_through_a_proxy_only_the_way_to_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway() as (url, _):
        monkeypatch.setenv("HTTPS_PROXY", url.replace("://", "://user:password@"))
        steps = [step async for step in walk("https://behind.example")]
    assert [(step.name, step.ok) for step in steps] == [("proxy", True), ("dns", True), ("tcp", True)]
    assert "password" not in str(steps)


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    made = subprocess.run([*line.split(), "-keyout", "-", "-out", "-"], check=True, capture_output=True)
    (tmp_path / "server.pem").write_bytes(made.stdout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with gateway(context=context) as (url, asked):
        done, lines = pinged(tmp_path, url)
    assert (done.code, asked) == (3, [])
    assert "is not trusted" in lines["tls-failed"]["text"]
    assert "SSL_CERT_FILE" in lines["tls-failed"]["remedy"]


def test_what_is_asked_for_is_held_against_what_is_permitted() -> None:
    quotas = {LimitKind.REQUESTS: Quota(60, 60), LimitKind.INPUT_TOKENS: Quota(1000, None)}
    limits = Limits(Rate.parse("100/30s"), itpm=500, otpm=7)
    lines = list(of_frequency(quotas, Wanted({MODEL: 600}, 600, 50_000, limits)))
    assert [(line.code, line.health) for line in lines] == [
        ("limits", Health.OK),
        ("above-limit", Health.WARNING),
        ("least-time", Health.OK),
    ]
    assert lines[1].text == "you ask for 200 requests a minute, the endpoint permits 60"
    assert "50:00" in lines[2].text or "50 min" in lines[2].text
    assert "input tokens" in lines[2].text
    (silent,) = of_frequency(None, Wanted({}, 0, 0, Limits()))
    assert silent.text.endswith("--rpm sets what you know")


def test_each_named_endpoint_is_asked_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_file(tmp_path / "jobs.jsonl", ["Hello"])
    monkeypatch.setenv("RELAY_KEY", KEY)
    denied = (401, said("authentication_error", "no such key: ECHO"))
    with gateway() as (good, _), gateway(models=denied, message=denied) as (bad, asked):
        path = tmp_path / "config" / "batchrunner" / "config.toml"
        path.parent.mkdir(parents=True, mode=0o700)
        path.write_text(
            f'[endpoints.good]\nbase_url = "{good}"\nkey_env = "RELAY_KEY"\nmodels = {{ "{MODEL}" = "haiku" }}\n'
            f'[endpoints.bad]\nbase_url = "{bad}"\nkey_env = "RELAY_KEY"\n[endpoints.unset]\nkey_env = "NO_SUCH_KEY"\n'
        )
        path.chmod(0o600)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        both = ("--endpoint", "good", "--endpoint", "bad")
        done = command("check", "jobs.jsonl", "--model", MODEL, "--ping", *both, cwd=tmp_path, key=None)
        assert done.code == 3, done.stdout
        unset = command(
            "check", "jobs.jsonl", "--model", MODEL, "--ping", "--endpoint", "unset", cwd=tmp_path, key=None
        )
    assert len(asked) <= 3
    assert f"{good} (endpoint good)" in done.stdout
    assert f"asked bad, {bad}:" in done.stdout
    assert "problem  key        the credential from RELAY_KEY is refused" in done.stdout
    assert "warning  account    not in its list: haiku" in done.stdout
    assert "POST /v1/messages (haiku, max_tokens 1" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert unset.code == 2
    assert "NO_SUCH_KEY is not set" in unset.stdout


def test_the_simulator_is_asked_like_an_endpoint(tmp_path: Path) -> None:
    job_file(tmp_path / "jobs.jsonl", ["Hello"])
    done = command(
        "check", "jobs.jsonl", "--model", MODEL, "--ping", "--simulate-with", "rpm=50", "--rpm", "90", cwd=tmp_path
    )
    assert done.code == 0, done.stderr
    assert "you ask for 90 requests a minute, the endpoint permits 50" in done.stdout
    assert "0 problems, 1 warning; a run would work here" in done.stdout
