"""Endpoints in the user's configuration: where it stands, what it takes, who may write it, what never stands in it."""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api_helpers import reply, scripted
from batchrunner import run
from batchrunner.api.routes import renamed
from batchrunner.endpoint import Endpoint, check_unchanged, headers_of, opened
from batchrunner.endpoints import named_endpoints, parse_headers, with_headers
from batchrunner.endpoints.places import config_path
from batchrunner.errors import HaltError, UsageError
from batchrunner.policy.window import Rate
from batchrunner.prices import OwnPrices
from batchrunner.settings import Limits
from running import KEY, MODEL, command, job_file, rows, simulator, simulator_thread

CANARY = "sk-ant-api03-canary-endpoint-4711"
OPAQUE = "a1B2c3D4e5F6a7B8c9D0e1F2a3B4c5D6"


def config(folder: Path, text: str) -> dict[str, str]:
    """Write the configuration below *folder*; returns the environment in which it is found."""
    path = folder / "batchrunner" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return {"XDG_CONFIG_HOME": str(folder)}


RELAY = """
[endpoints.main]
key_env = "ANTHROPIC_API_KEY"

[endpoints.relay]
base_url = "https://relay.example.com/anthropic"
key_env = "RELAY_KEY"
api_version = "2023-06-01"
headers = { X-Team = "research", X-Pass = "env:RELAY_PASS" }
limits = { rpm = 600, itpm = 100000, concurrency = 20 }
models = { "claude-haiku-4-5" = "anthropic/claude-haiku-4.5" }
[endpoints.relay.prices]
multiplier = 1.2
models = { "qwen" = { input = 1, output = 2.5 } }
"""


def test_endpoints_are_read_from_the_users_configuration(tmp_path: Path) -> None:
    main, relay = named_endpoints(["main", "relay"], config(tmp_path, RELAY), tmp_path)
    assert main == Endpoint(
        "https://api.anthropic.com", name="main", key_env="ANTHROPIC_API_KEY", prices=OwnPrices(name="main")
    )
    assert relay == Endpoint(
        "https://relay.example.com/anthropic",
        name="relay",
        key_env="RELAY_KEY",
        headers={"X-Team": "research", "X-Pass": "env:RELAY_PASS"},
        api_version="2023-06-01",
        limits=Limits(Rate.parse("600/min"), 20, 100_000),
        models={"claude-haiku-4-5": "anthropic/claude-haiku-4.5"},
        prices=OwnPrices(1.2, {"qwen": {"input": 1.0, "output": 2.5}}, "relay"),
    )


def test_the_place_follows_the_conventions_and_never_the_working_directory(tmp_path: Path) -> None:
    name = Path("batchrunner", "config.toml")
    assert config_path({}, tmp_path, "linux") == tmp_path / ".config" / name
    assert config_path({"XDG_CONFIG_HOME": "/etc/me"}, tmp_path, "linux") == Path("/etc/me", name)
    assert config_path({"XDG_CONFIG_HOME": "relative"}, tmp_path, "linux") == tmp_path / ".config" / name
    assert config_path({"BATCHRUNNER_CONFIG": "/x/y.toml"}, tmp_path, "linux") == Path("/x/y.toml")
    with pytest.raises(UsageError, match="whole path"):
        config_path({"BATCHRUNNER_CONFIG": "config.toml"}, tmp_path, "linux")
    of_mac = tmp_path / "Library" / "Application Support" / name
    assert config_path({}, tmp_path, "darwin") == tmp_path / ".config" / name
    of_mac.parent.mkdir(parents=True)
    of_mac.touch()
    assert config_path({}, tmp_path, "darwin") == of_mac
    assert config_path({}, tmp_path, "linux") == tmp_path / ".config" / name


@pytest.mark.parametrize(("what", "mode"), [("config.toml", 0o620), ("config.toml", 0o602), ("", 0o770)])
def test_a_configuration_that_others_can_write_is_not_read(tmp_path: Path, what: str, mode: int) -> None:
    environment = config(tmp_path, RELAY)
    (tmp_path / "batchrunner" / what).chmod(mode)
    with pytest.raises(UsageError, match=r"can be written by others.*chmod go-w"):
        named_endpoints(["main"], environment, tmp_path)


def test_a_link_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    environment = config(tmp_path / "here", RELAY)
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(0o777)
    path = tmp_path / "here" / "batchrunner" / "config.toml"
    path.rename(there / "config.toml")
    path.symlink_to(there / "config.toml")
    with pytest.raises(UsageError, match="can be written by others"):
        named_endpoints(["main"], environment, tmp_path)


WRONG = {
    'endpoint = "x"': r"config.toml, line 1: unknown key 'endpoint' in the configuration .did you mean .endpoints....*Allowed: endpoints",
    '[endpoints.a]\nkeyenv = "X"': r"line 2: unknown key 'keyenv' in \[endpoints.a\].*Allowed: api_version, base_url, headers",
    '[endpoints.a]\nlimits = { rpm = "many" }': r"line 2: endpoints.a.limits.rpm must be a whole number from 1",
    "[endpoints.a.prices]\nmultiplier = -1": r"line 2: endpoints.a.prices.multiplier must be a number from 0 to 1,000,000, not -1",
    "[endpoints.a.prices]\nmultiplier = 1e308": r"line 2: endpoints.a.prices.multiplier must be a number from 0 to 1,000,000",
    "[endpoints.a.prices]\nfactor = 2": r"line 2: unknown key 'factor' in \[endpoints.a.prices\]",
    "[endpoints.a.prices.models.m]\ninput = 1": r"line 1: endpoints.a.prices.models.m needs output, in USD per million",
    "[endpoints.a.prices.models.m]\ninput = 1\noutput = nan": r"line 3: endpoints.a.prices.models.m.output must be a number",
    '[endpoints.a.limits]\nrpm = 1\nrate = "5/1s"': r"line 3: rpm and rate set the same limit",
    '[endpoints.a]\nbase_url = "https://relay.example/v1"\nkey_env = "K"': r"line 2: endpoints.a: The base URL must not contain /v1",
    '[endpoints.a]\nbase_url = "http://relay.example"\nkey_env = "K"': r"line 2: .*use https, or insecure = true",
    '[endpoints.a]\nbase_url = "https://relay.example"': r"line 1: endpoints.a needs key_env",
    '[endpoints.a]\napi_version = "2023"': r'line 2: endpoints.a.api_version must be a date such as "2023-06-01"',
    '[endpoints.a]\nheaders = { Host = "x" }': r"line 2: endpoints.a.headers: 'Host' is no header that can be set",
    '[endpoints.a]\nheaders = { anthropic-version = "x" }': r"api_version sets it",
    '[endpoints.a]\nheaders = { X = "a\\nb" }': r"must be one line",
    '[endpoints.a]\nheaders = { X = "env:nope" }': r"must name a variable after env:",
    '[endpoints.a]\nmodels = { "x" = 1 }': r"endpoints.a.models.x must be a text",
    '[endpoints."a b"]\nkey_env = "K"': r"the name of an endpoint has letters",
    '[endpoints.a]\nkey_env = "lower"': r"must be the NAME of an environment variable",
}


@pytest.mark.parametrize("text", WRONG)
def test_every_key_is_checked_and_errors_name_file_line_key_and_what_is_allowed(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=WRONG[text]):
        named_endpoints(["a"], config(tmp_path, text), tmp_path)


@pytest.mark.parametrize("key", [CANARY, OPAQUE, f"Bearer {CANARY}"])
@pytest.mark.parametrize(
    "text",
    [
        '[endpoints.a]\nkey_env = "KEY"',
        '[endpoints.a]\napi_key = "KEY"',
        '[endpoints.a]\nheaders = { X-Team = "KEY" }',
        '[endpoints.a]\nheaders = { Authorization = "KEY" }',
        '[endpoints.a]\nbase_url = "https://relay.example/sk-KEY"\nkey_env = "K"',
        '[endpoints.a]\nmodels = { m = "KEY" }',
        '[endpoints.a]\napi_version = "KEY"',
        '[endpoints.a]\nlimits = { rpm = "KEY" }',
        '[endpoints.a]\ninsecure = "KEY"',
        '[endpoints."KEY"]\nkey_env = "K"',
        'KEY = "KEY"',
    ],
)
def test_a_key_in_the_configuration_is_refused_and_never_shown(tmp_path: Path, text: str, key: str) -> None:
    if text.startswith("KEY"):
        text = text.replace("KEY", f'"{key}"', 1)
    environment = config(tmp_path, text.replace("KEY", key))
    with pytest.raises(UsageError) as caught:
        named_endpoints(["a"], environment, tmp_path)
    assert key.removeprefix("Bearer ")[:20] not in str(caught.value)


def test_unknown_names_are_told_what_there_is(tmp_path: Path) -> None:
    environment = config(tmp_path, RELAY)
    with pytest.raises(UsageError, match=r"no endpoint 'mian' .did you mean .main.*It has: main, relay\."):
        named_endpoints(["mian"], environment, tmp_path)
    with pytest.raises(UsageError, match="named twice"):
        named_endpoints(["main", "main"], environment, tmp_path)
    with pytest.raises(UsageError, match=r"config.toml: there is no such file; docs/endpoints.md"):
        named_endpoints(["main"], {}, tmp_path)


def test_headers_and_version_of_the_command_win_and_credentials_are_refused_there() -> None:
    endpoint = Endpoint("https://r.example", name="r", key_env="K", headers={"x-team": "a"}, api_version="2023-06-01")
    changed = with_headers(endpoint, parse_headers(["X-Team: b", "X-Other: c"]), "2026-10-21")
    assert headers_of(changed) == {"anthropic-version": "2026-10-21", "X-Team": "b", "X-Other": "c"}
    for text in (f"Authorization: Bearer {CANARY}", f"X-Api-Key: {CANARY}", f"X-Team: {CANARY}", f"X-Auth: {OPAQUE}"):
        with pytest.raises(UsageError, match="carries a credential") as caught:
            with_headers(endpoint, parse_headers([text]), None)
        assert "canary" not in str(caught.value)
    for text in ("nothing", "X-Team:", ": x"):
        with pytest.raises(UsageError, match="is not 'Name: value'"):
            parse_headers([text])
    with pytest.raises(UsageError, match="API version must be a date"):
        with_headers(endpoint, {}, "today")


@pytest.mark.anyio
async def test_a_gateway_gets_the_key_both_ways_the_headers_and_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_KEY", CANARY)
    monkeypatch.setenv("RELAY_PASS", "pass-4711-xyz")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "another-account's-token")
    headers = {"X-Team": "research", "X-Pass": "env:RELAY_PASS"}
    from api_helpers import attempt

    async with scripted([reply()]) as server:
        relay = Endpoint(server.url, name="r", key_env="RELAY_KEY", headers=headers, api_version="2023-06-01")
        async with opened(relay, 2) as way:
            await way.sender.send(attempt(), lambda: None)
            await way.sender.send(attempt(betas=["x-1"]), lambda: None)  # through the SDK
    assert len(server.arrivals) == 2
    for arrival in server.arrivals:
        sent = arrival.headers
        assert sent["authorization"] == f"Bearer {CANARY}"
        assert sent["x-api-key"] == CANARY
        assert (sent["x-team"], sent["x-pass"], sent["anthropic-version"]) == (
            "research",
            "pass-4711-xyz",
            "2023-06-01",
        )


@pytest.mark.anyio
async def test_a_token_goes_out_as_one_and_keys_that_are_missing_or_astray_stop_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from api_helpers import attempt

    monkeypatch.setenv("TEAM_AUTH_TOKEN", CANARY)
    async with scripted([reply()]) as server:
        relay = Endpoint(server.url, name="r", key_env="TEAM_AUTH_TOKEN")
        async with opened(relay, 2) as way:
            await way.sender.send(attempt(), lambda: None)
        assert server.arrivals[0].headers["authorization"] == f"Bearer {CANARY}"
        assert "x-api-key" not in server.arrivals[0].headers
        with pytest.raises(HaltError, match="endpoint r takes its key from NO_KEY, which is not set"):
            async with opened(Endpoint(server.url, name="r", key_env="NO_KEY"), 2):
                pass
        with pytest.raises(HaltError, match="takes its header X-A from NO_PASS"):
            async with opened(
                Endpoint(server.url, name="r", key_env="TEAM_AUTH_TOKEN", headers={"X-A": "env:NO_PASS"}), 2
            ):
                pass
        monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"X-Api-Key: {CANARY}")
        with pytest.raises(HaltError, match="ANTHROPIC_CUSTOM_HEADERS holds a credential"):
            async with opened(relay, 2):
                pass


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        ('{"model":"a","x":1.50,"s":"\\ud800"}', '{"model":"b","x":1.50,"s":"\\ud800"}'),
        ('{"m": {"model": "a"} , "model" : "a" }', '{"m": {"model": "a"} , "model" : "b" }'),
        ('{"model":"c"}', '{"model":"c"}'),
        ('{"x":1e999,"model":7}', '{"x":1e999,"model":7}'),
        ("[1]", "[1]"),
        ("{}", "{}"),
        ("{", "{"),
    ],
)
def test_only_the_model_of_a_body_is_renamed_and_every_other_byte_stays(params: str, wanted: str) -> None:
    assert renamed(params, {"a": "b"}) == wanted


@contextlib.contextmanager
def echoing(status: int) -> Iterator[str]:
    """Serve a relay that says back, in its error, every header that it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            said = "; ".join(f"{name}: {value}" for name, value in self.headers.items())
            body = json.dumps({"error": {"type": "relay_error", "message": f"no: {said}", "seen": dict(self.headers)}})
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.send_header("request-id", f"req-{self.headers['authorization'].split()[-1]}")
            self.end_headers()
            self.wfile.write(body.encode())

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


class _Way:
    def __init__(self, address: str) -> None:
        self.record: Mapping[str, object] = {"endpoint": address}


def test_another_host_must_be_named_and_the_named_set_counts() -> None:
    plain, named = [Endpoint()], [Endpoint("https://r.example", name="r", key_env="K")]
    last = ["main https://api.anthropic.com", "relay https://relay.example/x"]

    def check(last: list[str], now: str, endpoints: list[Endpoint]) -> None:
        check_unchanged(last, _Way(now), endpoints, Path("jobs.db"))  # type: ignore[arg-type]

    check(last, "https://relay.example/x/", plain)
    check(last, "https://elsewhere.example", named)
    with pytest.raises(UsageError, match="or --endpoint main --endpoint relay to go on as it was"):
        check(last, "https://elsewhere.example", plain)
    with pytest.raises(UsageError, match="or set ANTHROPIC_BASE_URL as it was"):
        check(["https://relay.example"], "https://elsewhere.example", plain)


def test_the_command_fails_over_and_every_screen_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one", "two", "three"])
    monkeypatch.setenv("RELAY_KEY", CANARY)
    with simulator_thread("key=another") as (dead, _), simulator_thread() as (good, ledger):
        text = "".join(
            f'[endpoints.{name}]\nbase_url = "{url}"\nkey_env = "RELAY_KEY"\n'
            for name, url in (("dead", dead), ("good", good))
        )
        monkeypatch.setenv("XDG_CONFIG_HOME", config(tmp_path / "home", text)["XDG_CONFIG_HOME"])
        names = ("--endpoint", "dead", "--endpoint", "good")
        done = command("run", "jobs.jsonl", "--model", MODEL, "-n", "2", *names, cwd=tmp_path, key=None)
        assert done.code == 0, done.stderr
        assert ledger.paid.total() == 2
    # Without the names the same store would send to another host.
    other = command("resume", "jobs.jsonl", url="https://relay.invalid", cwd=tmp_path)
    assert other.code == 2, other.stderr
    assert "or --endpoint dead --endpoint good to go on as it was" in other.stderr
    said = "given up: authentication_error: invalid x-api-key (authentication)"
    assert f"dead {dead}, then good {good}" in done.stderr
    assert said in done.stderr
    for verb in ("status", "runs"):
        shown = command(verb, "jobs.jsonl", cwd=tmp_path)
        assert said in " ".join(shown.stdout.split()), verb
        found = json.loads(command(verb, "jobs.jsonl", "--json", cwd=tmp_path).stdout)
        run = found["run"] if verb == "status" else found["runs"][0]
        assert [one["name"] for one in run["endpoints"]] == ["dead", "good"]
        assert run["endpoints"][1]["answered"] == 2
    assert " at good, run 1" in command("show", "jobs.jsonl", "r0", cwd=tmp_path).stdout


def test_the_command_refuses_what_makes_no_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_file(tmp_path / "jobs.jsonl", ["one"])
    monkeypatch.setenv("XDG_CONFIG_HOME", config(tmp_path / "home", RELAY)["XDG_CONFIG_HOME"])
    for args, said in (
        (("--endpoint", "main", "--base-url", "http://127.0.0.1:9"), "give one of them"),
        (("--endpoint", "main", "--simulate"), "brings its own endpoint"),
        (("--endpoint", "nobody"), "has no endpoint"),
        (("--header", f"X-Api-Key: {CANARY}"), "carries a credential"),
        (("--endpoint", "relay"), "RELAY_KEY, which is not set"),
    ):
        done = command("run", "jobs.jsonl", "--model", MODEL, *args, cwd=tmp_path)
        assert done.code in {2, 3}, done.stderr
        assert said in done.stderr
        assert "canary" not in done.stderr + done.stdout


@pytest.mark.anyio
async def test_python_names_endpoints_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAY_KEY", KEY)
    async with simulator("402=1") as (empty, _), simulator() as (good, _):
        text = "".join(
            f'[endpoints.{name}]\nbase_url = "{url}"\nkey_env = "RELAY_KEY"\n'
            for name, url in (("empty", empty), ("good", good))
        )
        monkeypatch.setenv("XDG_CONFIG_HOME", config(tmp_path / "home", text)["XDG_CONFIG_HOME"])
        store = tmp_path / "answers.db"
        report = await run(
            ["one", "two"],
            store=store,
            model=MODEL,
            endpoints=["empty", "good"],
            headers={"X-Team": "a"},
            progress="none",
        )
        assert report.totals.succeeded == 2
        assert [one["state"] for one in report.endpoints] == ["given up", "in use"]
        for options, said in (
            ({"endpoints": ["good"], "base_url": good}, "give one of them"),
            ({"client": object(), "headers": {"X-A": "b"}}, "sends its own headers"),
            ({"base_url": good, "headers": {"X-Api-Key": CANARY}}, "carries a credential"),
        ):
            with pytest.raises(UsageError, match=said):
                await run(["one"], store=store, model=MODEL, progress="none", **options)


def test_a_key_that_a_relay_echoes_is_nowhere_to_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, and headers with a value of their own, in no form that a message, a body or a request id can take."""
    job_file(tmp_path / "jobs.jsonl", ["one", "two", "three"])
    key, password, relay_key = "k" * 4 + "-canary-4711-abcdef", "pass-canary-0815-ghi", "canary/0816+jkl=="
    secrets = (key, password, relay_key)
    monkeypatch.setenv("DEAD_KEY", key)
    monkeypatch.setenv("RELAY_PASS", password)
    monkeypatch.setenv("RELAY_KEY", relay_key)
    with echoing(401) as dead, echoing(402) as poor, simulator_thread() as (good, _):
        text = f"""
[endpoints.dead]
base_url = "{dead}"
key_env = "DEAD_KEY"
headers = {{ X-Pass = "env:RELAY_PASS" }}
[endpoints.poor]
base_url = "{poor}"
key_env = "RELAY_KEY"
[endpoints.good]
base_url = "{good}"
key_env = "RELAY_KEY"
"""
        monkeypatch.setenv("XDG_CONFIG_HOME", config(tmp_path / "home", text)["XDG_CONFIG_HOME"])
        names = ("--endpoint", "dead", "--endpoint", "poor", "--endpoint", "good")
        halted = command("run", "jobs.jsonl", "--model", MODEL, *names[:4], "--progress", "json", cwd=tmp_path)
        assert halted.code == 3, halted.stderr
        done = command("run", "jobs.jsonl", "--model", MODEL, *names, cwd=tmp_path)
        assert done.code == 0, done.stderr
    shown = [halted, done]
    screens = (
        "status jobs.jsonl", "status jobs.jsonl --json", "runs jobs.jsonl", "runs jobs.jsonl --json", "errors jobs.jsonl",
        "show jobs.jsonl r0", "show jobs.jsonl r0 --json", "export jobs.jsonl -o out.csv",
    )  # fmt: skip
    shown += [command(*line.split(), cwd=tmp_path) for line in screens]
    texts = [one.stdout + one.stderr for one in shown]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert any("[removed]" in text for text in texts)  # it was echoed, and seen
    for secret in secrets:
        assert not [text[max(0, text.index(secret) - 99) :][:200] for text in texts if secret in text]
    messages = rows(
        tmp_path / "jobs.db", "SELECT message, api_request_id FROM attempts WHERE endpoint IN ('dead', 'poor')"
    )
    assert len(messages) >= 2
