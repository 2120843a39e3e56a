"""What every sender does alike: the direct one, the SDK's over our connections, and the SDK's over its own."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from anthropic import AsyncAnthropic

from api_helpers import HANG, KEY, MESSAGE, RESET, Step, attempt, events, reply, scripted, settle, sse, zipped
from batchrunner.api.direct import DirectSender
from batchrunner.api.endpoint import open_client
from batchrunner.api.sdk import SdkSender
from batchrunner.api.sender import Sender
from batchrunner.api.wire import Wire
from batchrunner.model import ErrorClass, Failure, Outcome, Success

E = ErrorClass


@pytest.fixture(params=["direct", "sdk", "injected"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def sender_to(kind: str, url: str, **options: Any) -> AsyncIterator[Sender]:
    if kind == "injected":
        transport = httpx2.MockTransport(lambda request: httpx2.Response(500))
        transport = httpx2.AsyncHTTPTransport(verify=False) if url.startswith("http:") else transport  # type: ignore[assignment]
        http_client = httpx2.AsyncClient(transport=transport, follow_redirects=False)
        async with AsyncAnthropic(api_key=KEY, base_url=url, http_client=http_client) as client:
            yield SdkSender(client, **options)
        return
    async with Wire() as wire, open_client(url, api_key=KEY, wire=wire) as client:
        yield (
            DirectSender(client, wire, **options) if kind == "direct" else SdkSender(client, tells_sent=True, **options)
        )


class Counter:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.count = 0
        self.told = anyio.Event()

    def __call__(self) -> None:
        self.count += 1
        self.told.set()


async def outcome_of(
    kind: str, script: Sequence[Step], *, timeout_s: float = 5.0, **options: Any
) -> tuple[Outcome, int]:
    """Return what comes of one request to a server that plays *script*, and how often it was noted as sent."""
    sent = Counter()
    with anyio.fail_after(10):
        async with scripted(script) as server, sender_to(kind, server.url, **options) as sender:
            outcome = await sender.send(attempt(timeout_s=timeout_s), sent)
            assert len(server.arrivals) == 1, "never sent again by the sender itself"
    return outcome, sent.count


GOOD = reply()
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in json.dumps(MESSAGE).encode())
    + b"0\r\n\r\n"
)


@pytest.mark.parametrize(
    "script",
    [
        [GOOD],
        [GOOD[:20], GOOD[20:-5], GOOD[-5:]],
        [CHUNKED],
        [zipped(MESSAGE)],
        [b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD],
        [b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(MESSAGE).encode(), "close"],
        [reply(MESSAGE, 201)],
    ],
    ids=["whole", "pieces", "chunked", "gzip", "continue", "until close", "201"],
)
async def test_a_message_arrives_as_it_was_sent(kind: str, script: list[Step]) -> None:
    outcome, sent = await outcome_of(kind, script)
    assert isinstance(outcome, Success)
    assert json.loads(outcome.message) == MESSAGE
    assert (outcome.text, outcome.usage.output_tokens, outcome.blocks) == ("Hello", 2, 1)
    assert sent == 1


async def test_what_is_sent_is_the_request_as_it_stands(kind: str) -> None:
    request = attempt("Grüße 🎈", temperature=0.5, field_of_tomorrow={"a": [1]})
    async with scripted([GOOD]) as server, sender_to(kind, server.url) as sender:
        await sender.send(request, Counter())
    (arrival,) = server.arrivals
    assert json.loads(arrival.body) == json.loads(request.params)
    assert arrival.line == "POST /v1/messages HTTP/1.1"
    assert arrival.headers["anthropic-version"] == "2026-10-21"
    assert arrival.headers["content-type"] == "application/json"
    assert arrival.headers["authorization"] == f"Bearer {KEY}"


async def test_connections_are_used_again(kind: str) -> None:
    async with scripted([GOOD]) as server, sender_to(kind, server.url) as sender:
        for _ in range(3):
            assert isinstance(await sender.send(attempt(), Counter()), Success)
    assert (len(server.arrivals), server.connections) == (3, 1)


def error(status: int, kind: str = "api_error", *headers: str) -> bytes:
    body = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_body"}
    return reply(body, status, *headers)


STATUSES = [
    (400, "invalid_request_error", E.INVALID, False),
    (401, "authentication_error", E.AUTHENTICATION, False),
    (402, "billing_error", E.BILLING, False),
    (403, "permission_error", E.PERMISSION, False),
    (404, "not_found_error", E.ENDPOINT, False),
    (408, "timeout_error", E.TIMEOUT, True),
    (409, "conflict_error", E.SERVER, False),
    (413, "request_too_large", E.TOO_LARGE, False),
    (422, "invalid_request_error", E.INVALID, False),
    (429, "rate_limit_error", E.RATE_LIMITED, False),
    (500, "api_error", E.SERVER, False),
    (503, "api_error", E.SERVER, False),
    (504, "timeout_error", E.TIMEOUT, True),
    (529, "overloaded_error", E.OVERLOADED, False),
]


@pytest.mark.parametrize(("status", "type_", "expected", "is_paid"), STATUSES)
async def test_an_error_status_becomes_a_failure(
    kind: str, status: int, type_: str, expected: ErrorClass, is_paid: bool
) -> None:
    headers = ("retry-after: 9", "x-should-retry: true")
    outcome, sent = await outcome_of(kind, [error(status, type_, *headers)])
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.http_status, outcome.possibly_paid) == (
        E.RATE_LIMITED if status == 402 else expected,
        status,
        is_paid,
    )
    assert (outcome.retry_after_s, outcome.api_request_id, sent) == (9.0, "req_scripted", 1)
    assert "no" in outcome.message


HTML = "<!doctype html><html><head><title>Login</title></head><body>Hello</body></html>"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([reply(HTML)], E.BAD_RESPONSE),
        ([reply("null")], E.BAD_RESPONSE),
        ([reply([])], E.BAD_RESPONSE),
        ([reply("")], E.BAD_RESPONSE),
        ([reply(b'{"type": "message", "content": [{"te')], E.BAD_RESPONSE),
        ([reply(b'{"type": "message\xff"}')], E.BAD_RESPONSE),
        ([reply("hello", kind="text/plain")], E.BAD_RESPONSE),
        ([reply({**MESSAGE, "stop_reason": None})], E.BAD_RESPONSE),
        ([error(200, "overloaded_error")], E.OVERLOADED),
        ([error(200)], E.SERVER),
        ([reply(HTML, 502)], E.SERVER),
        ([reply(HTML, 404)], E.ENDPOINT),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], E.BAD_RESPONSE),
    ],
)
async def test_what_is_no_message_becomes_a_failure(kind: str, script: list[Step], expected: ErrorClass) -> None:
    outcome, sent = await outcome_of(kind, script)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, sent) == (expected, 1)
    assert outcome.possibly_paid == (expected is E.BAD_RESPONSE or outcome.message.startswith("api_error"))


@pytest.mark.parametrize(
    "script",
    [
        [RESET],
        ["close"],
        [reply(length=5000), RESET],
        [reply(length=5000), "close"],
        [CHUNKED[:-9], "close"],
        [b"HTTP/1.1 200 OK\r\ncontent-le", "close"],
        [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "close"],
        [b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n", "close"],
        [reply(b"this is not gzip", 200, "content-encoding: gzip")],
        [reply(zipped(MESSAGE).split(b"\r\n\r\n", 1)[1][:-12], 200, "content-encoding: gzip"), "close"],
    ],
    ids=[
        "reset",
        "close",
        "reset in body",
        "short body",
        "short chunks",
        "cut head",
        "not HTTP",
        "huge header",
        "not gzip",
        "cut gzip",
    ],
)
async def test_a_broken_exchange_is_the_networks_fault_and_possibly_paid(kind: str, script: list[Step]) -> None:
    outcome, sent = await outcome_of(kind, script)
    assert isinstance(outcome, Failure)
    # A gzip body that ends too early is taken by one library as cut, by another as an answer that is no JSON.
    assert outcome.error_class in {E.NETWORK, E.BAD_RESPONSE}
    assert outcome.possibly_paid
    assert (outcome.message.isprintable(), sent) == (True, 1)


async def test_a_broken_error_keeps_its_status(kind: str) -> None:
    script: list[Step] = [reply({"error": "overloaded"}, 503, length=5000), "close"]
    outcome, _ = await outcome_of(kind, script)
    assert isinstance(outcome, Failure)
    assert outcome.error_class in ({E.OVERLOADED} if kind == "direct" else {E.NETWORK})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(kind: str, status: int) -> None:
    outcome, _ = await outcome_of(kind, [reply("", status, "location: /v1/elsewhere"), GOOD])
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.http_status) == (E.ENDPOINT, status)
    assert "/v1/elsewhere" in outcome.message


@pytest.mark.parametrize("script", [[HANG], [GOOD[:-7], HANG]], ids=["no byte", "stalled body"])
async def test_the_total_deadline_ends_an_attempt(kind: str, script: list[Step]) -> None:
    outcome, sent = await outcome_of(kind, script, timeout_s=0.15)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid, sent) == (E.TIMEOUT, True, 1)
    assert "0.15 s" in outcome.message


async def test_silence_in_the_middle_ends_an_attempt(kind: str) -> None:
    outcome, _ = await outcome_of(kind, [GOOD[:-7], HANG], idle_s=0.1)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid) == (E.TIMEOUT, True)


async def test_silence_before_the_first_byte_does_not(kind: str) -> None:
    go_on, idle_s = anyio.Event(), 0.05
    outcomes: list[Outcome] = []
    async with scripted([go_on, GOOD]) as server, sender_to(kind, server.url, idle_s=idle_s) as sender:

        async def send() -> None:
            outcomes.append(await sender.send(attempt(), Counter()))

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await server.arrived.wait()
            await anyio.sleep(3 * idle_s)  # the passing of time is what must not matter
            assert outcomes == []
            go_on.set()
    assert [type(outcome) for outcome in outcomes] == [Success]


@pytest.mark.parametrize("body", [reply({**MESSAGE, "pad": "x" * 9000}), zipped({**MESSAGE, "pad": "x" * 900_000})])
async def test_an_answer_above_the_cap_is_given_up(kind: str, body: bytes) -> None:
    outcome, _ = await outcome_of(kind, [body], body_cap_bytes=5000)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid) == (E.TOO_LARGE, True)


async def test_a_large_request_and_a_large_answer_pass(kind: str) -> None:
    text = "é" * 2_000_000
    answer = {**MESSAGE, "content": [{"type": "text", "text": text}]}
    async with scripted([reply(answer)]) as server, sender_to(kind, server.url) as sender:
        outcome = await sender.send(attempt(text), Counter())
    assert isinstance(outcome, Success)
    assert outcome.text == text
    assert json.loads(server.arrivals[0].body)["messages"][0]["content"] == text


async def test_a_refused_connection_was_never_sent(kind: str) -> None:
    async with scripted([GOOD]) as server:
        url = server.url
    sent = Counter()
    async with sender_to(kind, url) as sender:
        outcome = await sender.send(attempt(), sent)
    assert isinstance(outcome, Failure)
    assert outcome.error_class is E.NETWORK
    if kind != "injected":  # a client of the caller's own tells only just before it connects
        assert (outcome.possibly_paid, sent.count) == (False, 0)


async def test_sending_is_told_while_the_answer_is_outstanding(kind: str) -> None:
    sent = Counter()
    async with scripted([HANG]) as server, sender_to(kind, server.url) as sender, anyio.create_task_group() as group:
        group.start_soon(sender.send, attempt(), sent)
        with anyio.fail_after(5):
            await sent.told.wait()
            await server.arrived.wait()
        group.cancel_scope.cancel()
    assert sent.count == 1


async def test_an_outage_in_the_middle_leaves_the_next_attempt_unharmed(kind: str) -> None:
    async with scripted([RESET], [GOOD[:-7], "close"], [GOOD]) as server, sender_to(kind, server.url) as sender:
        outcomes = [await sender.send(attempt(), Counter()) for _ in range(3)]
    assert [type(outcome) for outcome in outcomes] == [Failure, Failure, Success]


async def test_many_at_once_get_each_their_own(kind: str) -> None:
    async def one(number: int) -> None:
        outcome = await sender.send(attempt(str(number)), Counter())
        assert isinstance(outcome, Success)
        texts[number] = outcome.text

    texts: dict[int, str] = {}
    scripts = [[reply({**MESSAGE, "content": [{"type": "text", "text": str(n)}]})] for n in range(40)]
    async with scripted(*scripts) as server, sender_to(kind, server.url) as sender, anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(one, number)
    asked = [json.loads(arrival.body)["messages"][0]["content"] for arrival in server.arrivals]
    assert [texts[int(number)] for number in asked] == [str(n) for n in range(40)]


class Cancelled:
    """Sends in a scope of its own that a test can cancel."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.scope = anyio.CancelScope()
        self.outcome: Outcome | None = None
        self.ended = anyio.Event()

    async def run(self) -> None:
        try:
            with self.scope:
                self.outcome = await self.sender.send(attempt(), Counter())
        finally:
            self.ended.set()


async def test_a_cancellation_waits_for_an_answer_that_has_begun(kind: str) -> None:
    go_on = anyio.Event()
    script: list[Step] = [GOOD[:-7], go_on, GOOD[-7:]]
    async with scripted(script) as server, sender_to(kind, server.url) as sender, anyio.create_task_group() as group:
        run = Cancelled(sender)
        group.start_soon(run.run)
        await server.arrived.wait()
        await settle()
        run.scope.cancel()
        await settle()
        assert not run.ended.is_set()
        go_on.set()
        with anyio.fail_after(5):
            await run.ended.wait()
    assert isinstance(run.outcome, Success)


async def test_a_cancellation_does_not_wait_longer_than_the_grace(kind: str) -> None:
    script: list[Step] = [GOOD[:-7], HANG]
    async with (
        scripted(script) as server,
        sender_to(kind, server.url, grace_s=0.05) as sender,
        anyio.create_task_group() as group,
    ):
        run = Cancelled(sender)
        group.start_soon(run.run)
        await server.hung.wait()
        await settle()
        run.scope.cancel()
        with anyio.fail_after(5):
            await run.ended.wait()
    assert run.outcome is None
    assert run.scope.cancelled_caught


async def test_a_cancellation_before_the_first_byte_acts_at_once(kind: str) -> None:
    async with (
        scripted([HANG]) as server,
        sender_to(kind, server.url, grace_s=60.0) as sender,
        anyio.create_task_group() as group,
    ):
        run = Cancelled(sender)
        group.start_soon(run.run)
        await server.hung.wait()
        await settle()
        run.scope.cancel()
        with anyio.fail_after(5):
            await run.ended.wait()
    assert run.scope.cancelled_caught


@pytest.mark.parametrize("status", [200, 401, 404, 500])
async def test_the_key_is_in_no_failure(kind: str, status: int) -> None:
    body = {"type": "error", "error": {"type": "api_error", "message": f"you sent Bearer {KEY} and {KEY}"}}
    headers = (f"location: /?key={KEY}", f"request-id: {KEY}")
    for payload in (body, f"<html>{KEY}</html>", KEY):
        outcome, _ = await outcome_of(kind, [reply(payload, status, *headers)])
        assert isinstance(outcome, Failure)
        assert KEY not in repr(outcome)


async def test_half_a_surrogate_pair_is_the_inputs_fault(kind: str) -> None:
    request = attempt()
    object.__setattr__(request, "params", request.params.replace("Hi", "\ud800"))
    sent = Counter()
    async with scripted([GOOD]) as server, sender_to(kind, server.url) as sender:
        outcome = await sender.send(request, sent)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, sent.count, len(server.arrivals)) == (E.INPUT, 0, 0)


def garbled(raw: bytes, chance: random.Random) -> bytes:
    """Return *raw* with a few bytes changed, lost or added, or cut off."""
    data = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(data) or 1)
        kind = chance.randrange(4)
        if kind == 0:
            data[place : place + 1] = chance.randbytes(1)
        elif kind == 1:
            del data[place : place + chance.randrange(1, 20)]
        elif kind == 2:
            data[place:place] = chance.randbytes(3)
        else:
            del data[chance.randrange(place, len(data) + 1) :]
    return bytes(data)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_garbled_answers_never_raise(kind: str, is_stream: bool) -> None:
    chance = random.Random(f"{kind} {is_stream}")
    wholes = (GOOD, CHUNKED, zipped(MESSAGE), sse(*events()), error(500))
    scripts: list[list[Step]] = [[garbled(chance.choice(wholes), chance), "close"] for _ in range(80)]
    async with scripted(*scripts) as server, sender_to(kind, server.url) as sender:
        for _ in scripts:
            outcome = await sender.send(attempt(stream=is_stream, timeout_s=0.5), Counter())
            assert isinstance(outcome, Success | Failure)
            assert KEY not in repr(outcome)
            (outcome.message + (outcome.text if isinstance(outcome, Success) else outcome.body or "")).encode()
