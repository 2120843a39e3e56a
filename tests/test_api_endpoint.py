"""Where requests go and as whom: refused addresses, credentials in the right headers, proxies, certificates."""

import json
import resource
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from anthropic import AccessToken, AsyncAnthropic

from api_helpers import HANG, KEY, attempt, reply, scripted
from batchrunner.api import wire as wire_module
from batchrunner.api.address import check_base_url
from batchrunner.api.direct import DirectSender
from batchrunner.api.endpoint import can_send_for, open_client
from batchrunner.api.identity import is_official
from batchrunner.api.sdk import SdkSender
from batchrunner.api.sender import open_senders
from batchrunner.api.wire import Wire, allow_connections, proxy_for
from batchrunner.errors import HaltError, UsageError
from batchrunner.model import ErrorClass, Failure, Success


def nothing() -> None:
    """Be told."""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("API_KEY", "AUTH_TOKEN", "BASE_URL", "PROFILE", "CUSTOM_HEADERS", "IDENTITY_TOKEN", "IDENTITY_TOKEN_FILE")
    for name in names:
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("ANTHROPIC_CONFIG_DIR", raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    proxy_for.cache_clear()


@pytest.mark.parametrize(
    "url",
    [
        "https://api.anthropic.com",
        "https://relay.example/anthropic/",
        "https://relay.example:8443/a/v1beta",
        "http://localhost:8080",
        "http://127.0.0.1:8080/x",
        "http://127.9.9.9",
        "http://[::1]:8080",
        "https://relay.example/v1/anthropic",
    ],
)
def test_a_usable_address_passes(url: str) -> None:
    check_base_url(url)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("http://relay.example", "https"),
        ("http://localhost.evil.example", "https"),
        ("http://10.0.0.1", "https"),
        ("https://user:secret@relay.example", "user name"),
        ("https://token@relay.example", "user name"),
        ("https://relay.example/v1", "use https://relay.example"),
        ("https://relay.example/v1/", "use https://relay.example"),
        ("https://relay.example/claude/v1/messages", "use https://relay.example/claude"),
        ("https://relay.example/?a=b", "'?'"),
        ("https://relay.example/#a", "'?'"),
        ("relay.example", "https://host"),
        ("ftp://relay.example", "https://host"),
        ("https://", "https://host"),
        ("https://[nonsense", "read"),
        ("https://relay.example:port", "read"),
        ("https://relay.example /", "https://host"),
        ("https://relay.example\n", "https://host"),
        ("https://relay.example\\@evil.example", "user name"),
    ],
)
def test_a_wrong_address_is_refused_with_a_remedy(url: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_base_url(url)
    assert hint in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unencrypted_address_can_be_insisted_on() -> None:
    check_base_url("http://relay.example", insecure=True)


async def test_the_address_of_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://relay.example")
    with pytest.raises(UsageError):
        open_client(api_key=KEY)


async def test_without_a_credential_nothing_opens() -> None:
    with pytest.raises(HaltError) as caught:
        async with open_senders("http://127.0.0.1:9"):
            pass
    assert "ANTHROPIC_API_KEY" in str(caught.value)


@pytest.mark.parametrize("key", ["with blank", "line\nbreak", "sk-ümlaut", "tab\t"])
async def test_a_mangled_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(HaltError) as caught:
        open_client("http://127.0.0.1:9", api_key=key)
    assert key not in str(caught.value)


async def test_a_profile_that_does_not_exist_is_a_halt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_PROFILE", "of-nobody")
    with pytest.raises(HaltError, match="of-nobody"):
        open_client("http://127.0.0.1:9")


async def test_only_the_official_host_is_official() -> None:
    async with open_client("https://api.anthropic.com", api_key=KEY) as client:
        assert is_official(client)
        assert "x-api-key" not in {name.lower() for name in client.default_headers}
    async with open_client("https://api.anthropic.com.evil.example", api_key=KEY) as client:
        assert not is_official(client)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_gateway_gets_a_key_in_both_headers(is_stream: bool) -> None:
    async with scripted([reply()]) as server, open_senders(server.url, api_key=KEY) as senders:
        assert isinstance(await senders.send(attempt(stream=is_stream), nothing), Success)
    headers = server.arrivals[0].headers
    assert (headers["authorization"], headers["x-api-key"]) == (f"Bearer {KEY}", KEY)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_token_is_never_sent_as_a_key(monkeypatch: pytest.MonkeyPatch, is_stream: bool) -> None:
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-somebody")
    async with scripted([reply()]) as server, open_senders(server.url) as senders:
        assert isinstance(await senders.send(attempt(stream=is_stream), nothing), Success)
    headers = server.arrivals[0].headers
    assert headers["authorization"] == "Bearer token-of-somebody"
    assert "x-api-key" not in headers


async def test_own_headers_of_the_environment_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-API-KEY: of-the-relay\nanthropic-version: 2023-06-01")
    async with scripted([reply()]) as server, open_senders(server.url, api_key=KEY) as senders:
        await senders.send(attempt(), nothing)
    headers = server.arrivals[0].headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("of-the-relay", "2023-06-01")


async def test_path_and_query_of_the_client_are_kept() -> None:
    async with (
        scripted([reply()]) as server,
        Wire() as wire,
        AsyncAnthropic(api_key=KEY, base_url=f"{server.url}/relay/a%20b", default_query={"tenant": "x y"}) as client,
    ):
        assert isinstance(await DirectSender(client, wire).send(attempt(), nothing), Success)
    assert server.arrivals[0].line == "POST /relay/a%20b/v1/messages?tenant=x%20y HTTP/1.1"


class Tokens:
    """Hands out numbered tokens."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *, force_refresh: bool = False) -> AccessToken:
        del force_refresh
        self.count += 1
        return AccessToken(token=f"token-{self.count}", expires_at=None)


@pytest.mark.parametrize("sender_of", [DirectSender, lambda client, wire: SdkSender(client)], ids=["direct", "sdk"])
async def test_a_revoked_token_is_renewed_once(
    sender_of: Callable[[AsyncAnthropic, Wire], DirectSender | SdkSender],
) -> None:
    refused = reply({"type": "error", "error": {"type": "authentication_error", "message": "revoked"}}, 401)
    told: list[int] = []
    tokens = Tokens()
    async with (
        scripted([refused], [reply()], [refused]) as server,
        Wire() as wire,
        AsyncAnthropic(credentials=tokens, base_url=server.url, max_retries=0) as client,
    ):
        assert can_send_for(client)
        sender = sender_of(client, wire)
        assert isinstance(await sender.send(attempt(), lambda: told.append(1)), Success)
        last = await sender.send(attempt(), nothing)
    assert isinstance(last, Failure)
    assert last.error_class is ErrorClass.AUTHENTICATION
    assert [arrival.headers["authorization"] for arrival in server.arrivals] == [
        "Bearer token-1",
        "Bearer token-2",
        "Bearer token-2",
        "Bearer token-3",
    ]
    assert all("oauth-2025-04-20" in arrival.headers["anthropic-beta"] for arrival in server.arrivals)
    assert all("x-api-key" not in arrival.headers for arrival in server.arrivals)
    assert told == [1]


async def test_a_token_that_cannot_be_had_is_a_failure() -> None:
    def broken(*, force_refresh: bool = False) -> AccessToken:
        del force_refresh
        raise OSError("the vault is closed")

    async with (
        scripted([reply()]) as server,
        Wire() as wire,
        AsyncAnthropic(credentials=broken, base_url=server.url) as client,
    ):
        outcome = await DirectSender(client, wire).send(attempt(), nothing)
    assert isinstance(outcome, Failure)
    assert (outcome.possibly_paid, server.arrivals) == (False, [])


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted([reply()]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with open_senders("http://relay.example/x", api_key=KEY, insecure=True) as senders:
            for is_stream in (False, True):
                assert isinstance(await senders.send(attempt(stream=is_stream), nothing), Success)
    assert {arrival.line for arrival in proxy.arrivals} == {"POST http://relay.example/x/v1/messages HTTP/1.1"}


def test_proxies_are_chosen_by_scheme_and_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert str(proxy_for("https", "relay.example")) == "http://proxy.example:3128"
    assert proxy_for("http", "relay.example") is None
    assert proxy_for("https", "inside.example") is None
    assert proxy_for("https", "127.0.0.1") is None
    assert proxy_for("https", "localhost") is None


def test_a_proxy_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://proxy.example")
    with pytest.raises(UsageError, match="NO_PROXY"):
        proxy_for("https", "relay.example")


async def test_a_proxy_that_refuses_the_tunnel_is_not_the_servers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    wanting = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
    gone = b"HTTP/1.1 503 Gone\r\ncontent-length: 0\r\n\r\n"
    async with scripted([wanting], [gone]) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with open_senders("https://relay.example", api_key=KEY) as senders:
            outcomes = [await senders.send(attempt(), nothing) for _ in range(2)]
    assert [o.error_class for o in outcomes if isinstance(o, Failure)] == [ErrorClass.ENDPOINT, ErrorClass.NETWORK]
    assert KEY not in repr(proxy.arrivals)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command")
    path = tmp_path / "server.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    made = subprocess.run([*command.split(), "-keyout", "-", "-out", "-"], check=True, capture_output=True)
    path.write_bytes(made.stdout)
    return path


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_certificate_that_nobody_vouches_for_is_refused(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with scripted([reply()], ssl=context) as server:
        async with open_senders(server.url, api_key=KEY) as senders:
            outcome = await senders.send(attempt(stream=is_stream), nothing)
        assert isinstance(outcome, Failure)
        assert (outcome.error_class, outcome.possibly_paid, server.arrivals) == (ErrorClass.ENDPOINT, False, [])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        wire_module.tls_context.cache_clear()
        try:
            async with open_senders(server.url, api_key=KEY) as senders:
                assert isinstance(await senders.send(attempt(stream=is_stream), nothing), Success)
        finally:
            wire_module.tls_context.cache_clear()


def test_more_connections_than_the_system_allows_are_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (256, 300)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, new: limits.update(now=new))
    allow_connections(100)
    assert limits["now"] == (256, 300)
    allow_connections(230)
    assert limits["now"] == (294, 300)
    with pytest.raises(UsageError, match="236"):
        allow_connections(1000)


async def test_leaving_in_mid_flight_leaves_nothing_open() -> None:
    async with (
        scripted([HANG]) as server,
        open_senders(server.url, api_key=KEY) as senders,
        anyio.create_task_group() as group,
    ):
        group.start_soon(senders.send, attempt(), nothing)
        group.start_soon(senders.send, attempt(stream=True), nothing)
        await server.hung.wait()
        group.cancel_scope.cancel()
    # What was left open would be a ResourceWarning, and warnings are errors here.
    assert group.cancel_scope.cancelled_caught, "a cancellation was swallowed"


async def test_requests_carry_no_more_than_the_sdk_would_send() -> None:
    async with scripted([reply()]) as server:
        async with open_senders(server.url, api_key=KEY) as senders:
            await senders.send(attempt(), nothing)
        async with AsyncAnthropic(api_key=KEY, base_url=server.url) as client:
            await client.messages.create(**json.loads(attempt().params))
    ours, sdks = (set(arrival.headers) for arrival in server.arrivals)
    assert ours - sdks == {"x-api-key"}
