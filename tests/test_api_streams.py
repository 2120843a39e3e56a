"""Streams and what else only the SDK does: every odd end of a stream is a failure, never half an answer."""

import json
import time
import warnings
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import httpx2
import pytest
from anthropic import AsyncAnthropic

from api_helpers import HANG, KEY, MESSAGE, RESET, Step, attempt, events, reply, scripted, settle, sse
from batchrunner.api.bounded import bound
from batchrunner.api.sdk import SdkSender
from batchrunner.api.sender import open_senders
from batchrunner.model import Attempt, ErrorClass, Failure, Outcome, Success

E = ErrorClass
WHOLE = events()
ERROR = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def nothing() -> None:
    """Be told."""


async def streamed(*script: Step, request: Attempt | None = None) -> Outcome:
    with anyio.fail_after(10):
        async with scripted(script) as server, open_senders(server.url, api_key=KEY) as senders:
            outcome = await senders.send(request or attempt(stream=True), nothing)
            assert len(server.arrivals) == 1
    return outcome


async def test_a_stream_comes_out_as_the_message_it_tells() -> None:
    outcome = await streamed(sse(*WHOLE), "close")
    assert isinstance(outcome, Success)
    data = json.loads(outcome.message)
    assert (data["type"], data["content"], data["stop_reason"]) == (
        "message",
        [{"type": "text", "text": "Hello"}],
        "end_turn",
    )
    assert (outcome.text, outcome.usage.input_tokens, outcome.usage.output_tokens) == ("Hello", 3, 2)
    assert (outcome.api_request_id, outcome.blocks) == ("req_scripted", 1)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([sse(*WHOLE[:3]), "close"], E.NETWORK),
        ([sse(*WHOLE[:5]), "close"], E.NETWORK),
        ([sse(*events(stop_reason=None)), "close"], E.NETWORK),
        ([sse(*WHOLE[:4]), RESET], E.NETWORK),
        ([sse(*WHOLE[:4], length=90_000), "close"], E.NETWORK),
        ([sse(*WHOLE[:4], ERROR), "close"], E.OVERLOADED),
        ([sse(*WHOLE[:4], b"event: error\ndata: upstream is gone\n\n"), "close"], E.BAD_RESPONSE),
        ([sse(*WHOLE[:4], b"event: content_block_delta\ndata: {not json\n\n"), "close"], E.BAD_RESPONSE),
        ([sse(WHOLE[0], WHOLE[3]), "close"], E.BAD_RESPONSE),
        ([sse(WHOLE[0], {"type": "content_block_delta", "index": 0}), "close"], E.BAD_RESPONSE),
        ([sse(*WHOLE[1:]), "close"], E.BAD_RESPONSE),
        ([sse(b"event: message_start\ndata: []\n\n"), "close"], E.BAD_RESPONSE),
        ([sse(b"event: ping\ndata: \xff\xfe\n\n"), "close"], E.BAD_RESPONSE),
        ([sse(), "close"], E.BAD_RESPONSE),
        ([reply("<html><title>Login</title></html>")], E.BAD_RESPONSE),
        ([reply("null")], E.BAD_RESPONSE),
        ([reply(ERROR)], E.OVERLOADED),
        ([reply(b"cut", length=500), "close"], E.NETWORK),
    ],
)
async def test_a_stream_that_does_not_end_well_is_a_failure(script: list[Step], expected: ErrorClass) -> None:
    outcome = await streamed(*script)
    assert isinstance(outcome, Failure)
    assert outcome.error_class is expected
    assert outcome.possibly_paid or script[0] == reply(ERROR)


async def test_the_error_status_of_a_stream_counts() -> None:
    outcome = await streamed(reply(ERROR, 529, "retry-after: 3"))
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.retry_after_s, outcome.possibly_paid) == (E.OVERLOADED, 3.0, False)


async def test_an_answer_in_one_piece_is_taken_from_a_server_that_does_not_stream() -> None:
    outcome = await streamed(reply())
    assert isinstance(outcome, Success)
    assert json.loads(outcome.message) == MESSAGE


async def test_unknown_events_and_blocks_are_passed_over() -> None:
    block = {"type": "content_block_start", "index": 1, "content_block": {"type": "block_of_tomorrow", "x": 1}}
    more = [{"type": "event_of_tomorrow", "x": 1}, block, {"type": "content_block_stop", "index": 1}]
    outcome = await streamed(sse(*WHOLE[:5], *more, *WHOLE[5:]), "close")
    assert isinstance(outcome, Success)
    assert (outcome.text, outcome.blocks) == ("Hello", 2)


async def test_lone_surrogates_in_a_stream_stay_storable() -> None:
    outcome = await streamed(sse(*events("a\ud800b")), "close")
    assert isinstance(outcome, Success)
    assert outcome.text == "a\ufffdb"
    assert "\\ud800" in outcome.message
    outcome.message.encode()


async def test_the_total_deadline_ends_a_stream() -> None:
    outcome = await streamed(sse(*WHOLE[:4]), HANG, request=attempt(stream=True, timeout_s=0.15))
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid) == (E.TIMEOUT, True)


async def test_a_cancellation_lets_a_stream_end_that_has_begun() -> None:
    go_on, ended = anyio.Event(), anyio.Event()
    outcomes: list[Outcome] = []
    whole = sse(*WHOLE)
    script: list[Step] = [whole[:-9], go_on, whole[-9:], "close"]
    async with (
        scripted(script) as server,
        open_senders(server.url, api_key=KEY) as senders,
        anyio.create_task_group() as group,
    ):
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                outcomes.append(await senders.send(attempt(stream=True), nothing))
            ended.set()

        group.start_soon(run)
        await server.arrived.wait()
        await settle()
        scope.cancel()
        await settle()
        go_on.set()
        with anyio.fail_after(5):
            await ended.wait()
    assert [type(outcome) for outcome in outcomes] == [Success]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_parameters_that_the_sdk_does_not_know_are_sent_as_they_are(is_stream: bool) -> None:
    extra: dict[str, Any] = {
        "temperature": 0.2,
        "timeout": 3,
        "extra_body": 4,
        "output_format": {"a": 1},
        "thinking": 5,
    }
    async with scripted([sse(*WHOLE), "close"]) as server, AsyncAnthropic(api_key=KEY, base_url=server.url) as client:
        await SdkSender(client).send(attempt(stream=is_stream, **extra), nothing)
    sent = json.loads(server.arrivals[0].body)
    assert {key: sent[key] for key in extra} == extra
    assert sent.get("stream", False) is is_stream


@pytest.mark.parametrize("is_stream", [False, True])
async def test_beta_features_become_headers(is_stream: bool) -> None:
    request = attempt(stream=is_stream, betas=["beta-of-tomorrow-2026-12-01"], mcp_servers=[])
    script: list[Step] = [sse(*WHOLE), "close"] if is_stream else [reply()]
    async with scripted(script) as server, open_senders(server.url, api_key=KEY) as senders:
        assert isinstance(await senders.send(request, nothing), Success)
    (arrival,) = server.arrivals
    assert "beta-of-tomorrow-2026-12-01" in arrival.headers["anthropic-beta"]
    body = json.loads(arrival.body)
    assert "betas" not in body
    assert body["mcp_servers"] == []


@pytest.mark.parametrize("is_stream", [False, True])
async def test_advice_on_models_is_no_error(is_stream: bool) -> None:
    request = attempt(stream=is_stream, model="claude-opus-4-0")
    script: list[Step] = [sse(*WHOLE), "close"] if is_stream else [reply()]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        async with scripted(script) as server, AsyncAnthropic(api_key=KEY, base_url=server.url) as client:
            outcome = await SdkSender(client).send(request, nothing)
        assert list(warnings.filters) == before
    assert isinstance(outcome, Success)


async def test_long_answers_are_streamed_and_short_ones_are_not() -> None:
    scripts: list[list[Step]] = [[reply()], [sse(*WHOLE), "close"], [reply()]]
    async with scripted(*scripts) as server, open_senders(server.url, api_key=KEY) as senders:
        for request in (attempt(max_tokens=21_333), attempt(max_tokens=21_334), attempt('say "betas"')):
            assert isinstance(await senders.send(request, nothing), Success)
    assert [json.loads(arrival.body).get("stream") for arrival in server.arrivals] == [None, True, None]


class Refusing:
    """Stands for a client whose call fails before anything is sent."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def messages(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError("no"), E.INPUT), (TypeError("Could not resolve authentication method"), E.AUTHENTICATION)],
)
async def test_a_call_that_the_client_refuses_is_a_failure(error: Exception, expected: ErrorClass) -> None:
    async with open_senders(client=Refusing(error)) as senders:
        outcome = await senders.send(attempt(), nothing)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid) == (expected, False)


async def test_a_client_without_credential_is_a_failure_of_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    async with AsyncAnthropic(base_url="http://127.0.0.1:9") as client, open_senders(client=client) as senders:
        outcome = await senders.send(attempt(), nothing)
    assert isinstance(outcome, Failure)
    assert outcome.error_class is E.AUTHENTICATION


async def test_a_request_that_is_no_json_is_the_inputs_fault() -> None:
    request = attempt(stream=True)
    object.__setattr__(request, "params", "{nonsense")
    async with open_senders("http://127.0.0.1:9", api_key=KEY) as senders:
        outcome = await senders.send(request, nothing)
    assert isinstance(outcome, Failure)
    assert outcome.error_class is E.INPUT


@pytest.fixture(params=["ours", "injected"])
def whose(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def bounded(whose: str, *script: Step, **options: Any) -> Outcome:
    """Return what a stream comes to, over our own connections or those of a caller's client."""
    with anyio.fail_after(20):
        async with scripted(script) as server:
            if whose == "ours":
                async with open_senders(server.url, api_key=KEY) as senders:
                    return await senders.send(attempt(stream=True), nothing)
            async with AsyncAnthropic(api_key=KEY, base_url=server.url) as client:
                return await SdkSender(client, **options).send(attempt(stream=True), nothing)


async def test_a_stream_without_an_end_is_given_up(whose: str) -> None:
    ping = b'event: ping\ndata: "' + b"x" * 1_000_000 + b'"\n\n'
    outcome = await bounded(whose, sse(WHOLE[0]), *[ping] * 70, "close", body_cap_bytes=64 << 20)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid) == (E.TOO_LARGE, True)


async def test_an_event_without_an_end_is_given_up_long_before_it_fills_the_memory(whose: str) -> None:
    begun = time.process_time()
    outcome = await bounded(whose, sse(WHOLE[0]), b"data: ", *[b"x" * (1 << 20)] * 40, "close")
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.possibly_paid) == (E.TOO_LARGE, True)
    assert "event" in outcome.message
    assert time.process_time() - begun < 1.0, "the SDK would have copied it over and over"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
def test_events_end_where_the_standard_says_so_wherever_the_pieces_end(end: bytes, size: int) -> None:
    raw = b"event: ping\ndata: {}" + end
    many = raw * (3 if size < 10 else 400_000)
    response = httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=iter_pieces(many, size))
    bound(response, 1 << 30)

    async def read() -> bytes:
        return b"".join([chunk async for chunk in response.aiter_bytes()])

    assert anyio.run(read) == many


async def iter_pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize(
    ("script", "begun"),
    [
        ([sse(*WHOLE), "close"], 1),
        ([sse(*WHOLE[:3]), "close"], 1),
        ([reply(MESSAGE)], 0),  # one that does not stream
        ([reply({"type": "error", "error": {"type": "overloaded_error", "message": "Later"}}, 529)], 0),
    ],
    ids=["whole", "broken off", "in one piece", "refused"],
)
async def test_the_first_of_a_streamed_answer_is_told(script: list[Step], begun: int) -> None:
    told = []
    with anyio.fail_after(10):
        async with scripted(script) as server, open_senders(server.url, api_key=KEY) as senders:
            await senders.send(attempt(stream=True), nothing, lambda: told.append(1))
    assert len(told) == begun


async def test_a_client_that_cannot_stream_is_not_made_to_by_us() -> None:
    """Of a client of the caller's own only `create` may be there; the user's own wish for a stream is another matter."""
    with anyio.fail_after(10):
        async with scripted([reply(MESSAGE)]) as server, AsyncAnthropic(base_url=server.url, api_key=KEY) as client:

            class Plain:
                class messages:  # noqa: N801 - the SDK's name
                    with_streaming_response = client.messages.with_streaming_response

            leading = replace(attempt(stream=True), leads=True)
            assert isinstance(await SdkSender(Plain()).send(leading, nothing), Success)
            assert json.loads(server.arrivals[0].body).get("stream") is not True
