"""The official SDK takes the simulator for the API."""

from collections.abc import AsyncIterator

import anthropic
import pytest

from batchrunner.simulator import Simulator, parse_spec
from batchrunner.simulator.answers import answer_text
from batchrunner.simulator.server import serve

MODEL = "claude-haiku-4-5"


@pytest.fixture
async def client() -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with (
        serve(Simulator(parse_spec("latency=0,key=sk-right,rpm=1000"))) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="sk-right", max_retries=0) as sdk,
    ):
        yield sdk


def asked(content: str) -> list[anthropic.types.MessageParam]:
    return [{"role": "user", "content": content}]


async def test_a_message_is_created(client: anthropic.AsyncAnthropic) -> None:
    raw = await client.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=asked("hello"))
    message = await raw.parse()
    assert message.stop_reason == "end_turn"
    assert message.usage.service_tier == "standard"
    (block,) = message.content
    assert block.type == "text"
    assert block.text == answer_text({"model": MODEL, "messages": asked("hello")})
    assert raw.headers["anthropic-ratelimit-requests-limit"] == "1000"
    assert message._request_id == raw.headers["request-id"]


async def test_a_message_is_streamed(client: anthropic.AsyncAnthropic) -> None:
    async with client.messages.stream(model=MODEL, max_tokens=1000, messages=asked("[[sim:long=300]] hello")) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        message = await stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 300
    assert len(text) == 1200
    assert message.content[0].type == "text"
    assert message.content[0].text == text


async def test_a_refusal_says_so(client: anthropic.AsyncAnthropic) -> None:
    message = await client.messages.create(model=MODEL, max_tokens=100, messages=asked("[[sim:refusal]]"))
    assert (message.stop_reason, message.content) == ("refusal", [])
    assert message.stop_details is not None


async def test_models_are_listed_and_tokens_counted(client: anthropic.AsyncAnthropic) -> None:
    models = [model async for model in client.models.list(limit=2)]
    assert MODEL in {model.id for model in models}
    assert len(models) == 5
    assert (await client.models.retrieve(MODEL)).max_tokens == 64_000
    assert (await client.messages.count_tokens(model=MODEL, messages=asked("hello"))).input_tokens > 0


@pytest.mark.parametrize(
    ("marker", "error", "kind"),
    [
        ("400", anthropic.BadRequestError, "invalid_request_error"),
        ("402", anthropic.PaymentRequiredError, "billing_error"),
        ("404_model", anthropic.NotFoundError, "not_found_error"),
        ("429", anthropic.RateLimitError, "rate_limit_error"),
        ("429_spend", anthropic.EnforcedSpendLimitReachedError, "rate_limit_error"),
        ("429_ramp", anthropic.RampLimitExceededError, "rate_limit_error"),
        ("500", anthropic.InternalServerError, "api_error"),
        ("504", anthropic.GatewayTimeoutError, "timeout_error"),
        ("529", anthropic.OverloadedError, "overloaded_error"),
    ],
)
async def test_errors_are_those_of_the_api(
    client: anthropic.AsyncAnthropic, marker: str, error: type[anthropic.APIStatusError], kind: str
) -> None:
    with pytest.raises(error) as caught:
        await client.messages.create(model=MODEL, max_tokens=100, messages=asked(f"[[sim:{marker}]]"))
    assert caught.value.type == kind
    assert caught.value.request_id is not None


async def test_an_error_in_mid_stream_is_raised_with_its_type(client: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        async with client.messages.stream(model=MODEL, max_tokens=9, messages=asked("[[sim:sse_error]]")) as stream:
            await stream.get_final_message()
    assert caught.value.type == "overloaded_error"


async def test_a_stream_that_is_cut_has_no_stop_reason(client: anthropic.AsyncAnthropic) -> None:
    async with client.messages.stream(model=MODEL, max_tokens=9, messages=asked("[[sim:sse_cut]]")) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason is None


async def test_a_wrong_key_is_refused(client: anthropic.AsyncAnthropic) -> None:
    stranger = client.with_options(api_key="sk-wrong")
    with pytest.raises(anthropic.AuthenticationError):
        await stranger.messages.create(model=MODEL, max_tokens=9, messages=asked("hello"))
