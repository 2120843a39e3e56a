"""What a broken or hostile server, proxy or name service does to a call, through every sender."""

import json
import socket
import zlib
from pathlib import Path

import anyio
import pytest
from anthropic import AsyncAnthropic

from api_helpers import HANG, KEY, MESSAGE, Step, attempt, reply, scripted, settle
from batchrunner.api.sdk import SdkSender
from batchrunner.api.sender import open_senders
from batchrunner.api.wire import proxy_for
from batchrunner.model import ErrorClass, Failure, Success
from test_api_contract import Counter, outcome_of, sender_to

E = ErrorClass
KINDS = ["direct", "sdk", "injected"]
#: A client of the caller's own has connections of its own.
OURS = KINDS[:2]
GOOD = reply()
CAP = 1 << 20


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    proxy_for.cache_clear()


def packed(wbits: int, megabytes: int = 8) -> bytes:
    packer = zlib.compressobj(9, wbits=wbits)
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(megabytes)]) + packer.flush()


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)], ids=str)
async def test_a_bomb_is_counted_as_it_unpacks(kind: str, encoding: str, wbits: int) -> None:
    bomb = packed(wbits)
    assert len(bomb) < CAP / 50
    outcome, _ = await outcome_of(kind, [reply(bomb, 200, f"content-encoding: {encoding}")], body_cap_bytes=CAP)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid) == (E.TOO_LARGE, True)


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "nonsense", "gzip, gzip", "gzip, br"])
async def test_an_encoding_that_was_not_asked_for_is_a_failure_and_never_an_answer_in_pieces(
    kind: str, encoding: str
) -> None:
    body = b"\x8b\x03\x80\x00\x01\x02" + json.dumps(MESSAGE).encode()
    outcome, _ = await outcome_of(kind, [reply(body, 200, f"content-encoding: {encoding}"), "close"])
    assert isinstance(outcome, Failure)
    assert outcome.error_class in {E.NETWORK, E.BAD_RESPONSE}
    assert outcome.possibly_paid


async def test_two_thousand_headers_harm_nobody(kind: str) -> None:
    many = [f"x-{number}: {'v' * 20}" for number in range(2000)]
    outcome, _ = await outcome_of(kind, [reply(MESSAGE, 200, *many)])
    # One of the libraries gives up at some number of them; then the call is the network's failure.
    if isinstance(outcome, Failure):
        assert (outcome.error_class, outcome.possibly_paid) == (E.NETWORK, True)
    else:
        assert outcome.text == "Hello"


def answer(text: str) -> bytes:
    return reply({**MESSAGE, "content": [{"type": "text", "text": text}]})


@pytest.mark.parametrize("kind", OURS)
async def test_an_answer_that_comes_twice_is_never_the_answer_to_the_next_call(kind: str) -> None:
    """Whoever reads on after the first one would have every later request answered with the one before it."""
    scripts: list[list[Step]] = [[answer("first") + answer("first again")], [answer("second")], [answer("third")]]
    async with scripted(*scripts) as server, sender_to(kind, server.url) as sender:
        texts = []
        for _ in range(3):
            outcome = await sender.send(attempt(), Counter())
            await settle()
            texts.append(outcome.text if isinstance(outcome, Success) else outcome.error_class)
    assert "first again" not in texts
    assert texts[0] in ("first", E.NETWORK)
    assert texts[-1] == "third"


@pytest.mark.parametrize("kind", OURS)
async def test_a_spare_answer_that_comes_later_is_never_the_answer_to_the_next_call(kind: str) -> None:
    late, sent = anyio.Event(), Counter()
    scripts: list[list[Step]] = [[answer("first"), late, answer("first again")], [answer("second")]]
    async with scripted(*scripts) as server, sender_to(kind, server.url) as sender:
        first = await sender.send(attempt(), Counter())
        late.set()
        await settle()
        second = await sender.send(attempt(), sent)
    assert isinstance(first, Success)
    assert isinstance(second, Success)
    assert (second.text, sent.count, server.connections) == ("second", 1, 2)


async def test_an_answer_after_our_deadline_reaches_nobody(kind: str) -> None:
    late = anyio.Event()
    async with (
        scripted([late, answer("too late")], [answer("in time")]) as server,
        sender_to(kind, server.url) as sender,
    ):
        first = await sender.send(attempt(timeout_s=0.5), Counter())
        late.set()
        await settle()
        second = await sender.send(attempt(), Counter())
        assert server.connections == 2, "the connection is not used again"
    assert isinstance(first, Failure)
    assert (first.error_class, first.possibly_paid) == (E.TIMEOUT, True)
    assert isinstance(second, Success)
    assert second.text == "in time"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_redirect_to_another_place_gives_it_nothing(kind: str, status: int, is_stream: bool) -> None:
    async with scripted([GOOD]) as elsewhere:
        to = reply("", status, f"location: {elsewhere.url}/v1/messages")
        async with scripted([to]) as server, sender_to(kind, server.url) as sender:
            outcome = await sender.send(attempt(stream=is_stream), Counter())
        assert (elsewhere.arrivals, elsewhere.connections) == ([], 0)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.http_status) == (E.ENDPOINT, status)


@pytest.mark.parametrize("status", [301, 307])
async def test_a_client_of_the_callers_own_that_follows_redirects_is_kept_from_it(status: int) -> None:
    """The SDK's own client follows them, and sends the prompts along."""
    async with scripted([GOOD]) as elsewhere:
        to = reply("", status, f"location: {elsewhere.url}/v1/messages")
        async with scripted([to]) as server, AsyncAnthropic(api_key=KEY, base_url=server.url) as client:
            for is_stream in (False, True):
                outcome = await SdkSender(client).send(attempt(stream=is_stream), Counter())
                assert isinstance(outcome, Failure)
                assert outcome.error_class is E.ENDPOINT
        assert elsewhere.arrivals == []


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_name_that_nobody_knows_was_never_sent_to(is_stream: bool) -> None:
    sent = Counter()
    with anyio.fail_after(30):
        async with open_senders("https://api.batchrunner.invalid", api_key=KEY) as senders:
            outcome = await senders.send(attempt(stream=is_stream), sent)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid, sent.count) == (E.NETWORK, False, 0)
    assert "api.batchrunner.invalid" in outcome.message


PORTAL = "<!doctype html><html><head><title>Sign in to the hotel's network</title></head></html>"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([reply("", 407, "proxy-authenticate: Basic")], E.ENDPOINT),
        ([reply("", 403)], E.NETWORK),
        ([reply(PORTAL, 502)], E.NETWORK),
        ([reply(PORTAL, 503, "retry-after: 5")], E.NETWORK),
        ([reply("", 302, "location: http://portal.example/")], E.NETWORK),
        (["close"], E.NETWORK),
        ([b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "close"], E.NETWORK),
        ([reply(PORTAL), "close"], E.NETWORK),
    ],
    ids=["407", "403", "502", "503", "302", "close", "not HTTP", "portal"],
)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_proxy_that_makes_no_tunnel_is_told_and_never_sees_the_key(
    monkeypatch: pytest.MonkeyPatch, script: list[Step], expected: ErrorClass, is_stream: bool
) -> None:
    sent = Counter()
    async with scripted(script) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        async with open_senders("https://relay.example", api_key=KEY) as senders:
            outcome = await senders.send(attempt("the prompt", stream=is_stream, timeout_s=3.0), sent)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid, sent.count) == (expected, False, 0)
    assert KEY not in repr(proxy.arrivals)
    assert "the prompt" not in repr(proxy.arrivals)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_portal_in_place_of_the_api_is_a_bad_response(monkeypatch: pytest.MonkeyPatch, is_stream: bool) -> None:
    async with scripted([reply(PORTAL)]) as portal:
        monkeypatch.setenv("http_proxy", portal.url)
        async with open_senders("http://relay.example", api_key=KEY, insecure=True) as senders:
            outcome = await senders.send(attempt(stream=is_stream), Counter())
    assert isinstance(outcome, Failure)
    assert outcome.error_class is E.BAD_RESPONSE
    assert "a proxy wants a login" in outcome.message


async def test_a_connection_that_is_never_made_ends_after_its_time(kind: str) -> None:
    """A full backlog: the system takes no further connection and refuses none either."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        crowd = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(full.getsockname())
            crowd.append(one)
        sent = Counter()
        async with sender_to(kind, url) as sender:
            outcome = await sender.send(attempt(timeout_s=0.3), sent)
        for one in crowd:
            one.close()
    assert isinstance(outcome, Failure)
    assert outcome.error_class in {E.NETWORK, E.TIMEOUT}
    if kind != "injected":
        assert (outcome.possibly_paid, sent.count) == (False, 0)


@pytest.mark.parametrize(
    "script",
    [
        [b"HTTP/1.1 200 OK\r\nx-never: ends", HANG],
        [b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, HANG],
        [b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 2000, HANG],
        [b"\r\n" * 5000, HANG],
    ],
    ids=["half a head", "continue for ever", "hints for ever", "empty lines"],
)
async def test_a_head_that_never_ends_is_given_up_in_time(kind: str, script: list[Step]) -> None:
    outcome, sent = await outcome_of(kind, script, timeout_s=0.6)
    assert isinstance(outcome, Failure)
    assert outcome.error_class in {E.TIMEOUT, E.NETWORK}
    assert (outcome.possibly_paid, sent) == (True, 1)


async def test_headers_without_end_are_given_up_before_they_fill_the_memory(kind: str) -> None:
    many = b"".join(b"x-%d: %s\r\n" % (number, b"v" * 90) for number in range(50_000))
    outcome, _ = await outcome_of(kind, [b"HTTP/1.1 200 OK\r\n" + many, *[many] * 20, HANG], timeout_s=3.0)
    assert isinstance(outcome, Failure)
    assert outcome.error_class is E.NETWORK, "long before the deadline"
