"""What is known of a plain key without the SDK, held against the SDK itself."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from api_helpers import KEY, attempt, reply, scripted
from batchrunner.api import plain
from batchrunner.api.endpoint import open_client
from batchrunner.api.plain import plain_client
from batchrunner.api.sender import open_senders
from batchrunner.errors import HaltError, UsageError
from batchrunner.model import Success

TOKEN = "token-of-somebody"


def nothing() -> None:
    """Be told."""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_KEY", "AUTH_TOKEN", "BASE_URL", "PROFILE", "CUSTOM_HEADERS", "CONFIG_DIR", "FEDERATION_RULE_ID"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def headers(client: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in client.default_headers.items()}


@pytest.mark.parametrize(
    "base_url",
    [None, "https://api.anthropic.com/", "http://127.0.0.1:9/relay/a%20b", "https://Relay.example:8443/x/", "https://relay.example:443"],
    ids=["default", "official", "local", "gateway", "port"],
)  # fmt: skip
@pytest.mark.parametrize("credential", [{"api_key": KEY}, {"auth_token": TOKEN}], ids=["key", "token"])
@pytest.mark.parametrize(
    "own",
    [None, {"X-Tenant": "a"}, {"x-api-key": "of-the-relay"}, {"anthropic-version": "2023-06-01", "user-agent": "me"}],
    ids=["none", "one", "key", "ours"],
)
async def test_it_sends_where_and_as_whom_the_sdk_would(
    base_url: str | None, credential: dict[str, Any], own: Mapping[str, str] | None
) -> None:
    known = plain_client(base_url, headers=own, **credential)
    assert known is not None, "does KNOWN_SDK name the SDK that is installed, and does it still send the same?"
    async with open_client(base_url, headers=own, **credential) as client:
        assert headers(known) == headers(client)
        assert str(known.base_url) == str(client.base_url)
        assert (known.api_key, known.auth_token) == (client.api_key, client.auth_token)
        assert client.custom_auth is None
        assert not client.default_query


@pytest.mark.parametrize("name", ["API_KEY", "AUTH_TOKEN"])
async def test_key_token_and_address_of_the_environment_are_found_alike(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"ANTHROPIC_{name}", "from-outside")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://relay.example/x")
    known = plain_client()
    async with open_client() as client:
        assert known is not None
        assert headers(known) == headers(client)
        assert str(known.base_url) == str(client.base_url)


@pytest.mark.parametrize("name", ["CUSTOM_HEADERS", "PROFILE", "CONFIG_DIR", "FEDERATION_RULE_ID", "AUTH_TOKEN"])
def test_where_more_than_a_key_counts_the_sdk_is_asked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert plain_client() is not None
    monkeypatch.setenv(f"ANTHROPIC_{name}", "x: y")
    assert plain_client() is None


def test_without_key_or_token_the_sdk_is_asked() -> None:
    assert plain_client("https://relay.example") is None


def test_a_version_of_the_sdk_that_is_not_known_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain_client(api_key=KEY) is not None
    monkeypatch.setattr(plain, "KNOWN_SDK", "2.11.")
    assert plain_client(api_key=KEY) is None


def test_addresses_and_keys_are_checked() -> None:
    with pytest.raises(UsageError, match="https"):
        plain_client("http://relay.example", api_key=KEY)
    with pytest.raises(HaltError) as caught:
        plain_client(api_key="with blank")
    assert "with blank" not in str(caught.value)


def test_the_credential_is_not_part_of_what_is_printed() -> None:
    assert KEY not in repr(plain_client(api_key=KEY))


async def test_what_needs_the_sdk_gets_it_in_the_middle_of_a_run() -> None:
    async with scripted([reply()], [reply()]) as server, open_senders(server.url, api_key=KEY) as senders:
        for is_stream in (False, True):
            assert isinstance(await senders.send(attempt(stream=is_stream), nothing), Success)
        assert await senders.sdk_client() is await senders.sdk_client()
    direct, through_sdk = ({**arrival.headers} for arrival in server.arrivals)
    same = ("authorization", "x-api-key", "anthropic-version", "user-agent", "x-stainless-async", "content-type")
    assert [direct[name] for name in same] == [through_sdk[name] for name in same]


def test_a_run_with_a_plain_key_loads_no_sdk(tmp_path: Path) -> None:
    job = tmp_path / "jobs.jsonl"
    job.write_text('{"prompt": "Hi"}\n')
    program = (
        "import sys\n"
        "from batchrunner.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n    print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program, "run", str(job), "--model", "claude-haiku-4-5", "--simulate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "anthropic" not in set(done.stderr.split("LOADED")[1].split())
