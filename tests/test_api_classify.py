"""Every kind of body that has been seen in the wild gets the class that its rule needs."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.api.classify import classify_error, classify_message
from batchrunner.model import ErrorClass, Failure, Success, Usage

E = ErrorClass
HTML = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


def api(kind: str, message: str, code: str | None = None) -> dict[str, Any]:
    """Return an error body of the Anthropic API."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if code is not None:
        error["details"] = {"error_code": code}
    return {"type": "error", "error": error, "request_id": "req_body"}


def foreign(message: str, **fields: Any) -> dict[str, Any]:
    """Return an error body as gateways write it."""
    return {"error": {"message": message, **fields}}


# fmt: off
BODIES: list[tuple[str, int | None, Any, ErrorClass]] = [
    # Anthropic's own, by status
    ("invalid", 400, api("invalid_request_error", "max_tokens: Field required"), E.INVALID),
    ("too long", 400, api("invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum"), E.INVALID),
    ("over context", 400, api("invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 3"), E.INVALID),
    ("sampling", 400, api("invalid_request_error", "temperature: this parameter is no longer supported"), E.INVALID),
    ("beta field", 400, api("invalid_request_error", "context_management: Extra inputs are not permitted"), E.INVALID),
    ("image size", 400, api("invalid_request_error", "image too big", "image_dimensions_too_large"), E.INVALID),
    ("parameter and model", 400, api("invalid_request_error", "effort is not supported for this model"), E.INVALID),
    ("echo of a limit", 400, api("invalid_request_error", "messages.0: 'too many requests, rate limit, throttled'"), E.INVALID),
    ("echo of a key text", 400, api("invalid_request_error", "messages.0: 'invalid api key'"), E.INVALID),
    ("echo of billing", 400, api("invalid_request_error", "tools.0.name: billing, insufficient quota"), E.INVALID),
    ("echo of a model", 400, api("invalid_request_error", "system: model x does not exist"), E.INVALID),
    ("a model: in a 400", 400, api("invalid_request_error", "model: String should have at least 1 character"), E.INVALID),
    ("credit", 400, api("invalid_request_error", "Your credit balance is too low to access the Anthropic API."), E.BILLING),
    ("own limit", 400, api("invalid_request_error", "You have reached your specified API usage limits."), E.BILLING),
    ("workspace limit", 400, api("invalid_request_error", "You have reached your specified workspace API usage limits."), E.BILLING),
    ("on hold", 400, api("invalid_request_error", "on hold", "organization_on_hold"), E.PERMISSION),
    ("disabled", 400, api("invalid_request_error", "This organization has been disabled."), E.PERMISSION),
    ("permission, talking of limits", 403, api("permission_error", "you may not change the rate limit"), E.PERMISSION),
    ("key disabled", 400, api("invalid_request_error", "key", "cmek_key_disabled"), E.PERMISSION),
    ("key", 401, api("authentication_error", "invalid x-api-key"), E.AUTHENTICATION),
    ("payment", 402, api("billing_error", "There is an issue with your payment method"), E.BILLING),
    ("permission", 403, api("permission_error", "Your API key does not have permission"), E.PERMISSION),
    ("region", 403, {"error": {"type": "forbidden", "message": "Request not allowed"}}, E.PERMISSION),
    ("model", 404, api("not_found_error", "model: claude-unknown-1"), E.NOT_FOUND),
    ("path", 404, api("not_found_error", "Not Found"), E.ENDPOINT),
    ("file", 404, api("not_found_error", "File not found: file_011CNha8iCJcU1wXNR6q4V8w"), E.INVALID),
    ("timeout 408", 408, "", E.TIMEOUT),
    ("conflict", 409, api("conflict_error", "conflict"), E.SERVER),
    ("precondition", 412, "", E.INVALID),
    ("too large", 413, api("request_too_large", "Request exceeds the maximum size"), E.TOO_LARGE),
    ("too large, Cloudflare", 413, HTML.format("413 Payload Too Large"), E.TOO_LARGE),
    ("too large, unpacked", 413, api("invalid_request_error", "x", "request_body_too_large_after_decoding"), E.TOO_LARGE),
    ("unprocessable", 422, api("invalid_request_error", "messages: wrong"), E.INVALID),
    ("rate", 429, api("rate_limit_error", "This request would exceed your organization's rate limit"), E.RATE_LIMITED),
    ("rate, empty", 429, "", E.RATE_LIMITED),
    ("spend", 429, api("rate_limit_error", "spend limit", "enforced_spend_limit_reached"), E.BILLING),
    ("contract", 429, api("rate_limit_error", "spend limit", "contract_spend_limit_reached"), E.BILLING),
    ("ramp", 429, api("rate_limit_error", "too fast", "ramp_limit_exceeded"), E.RAMP),
    ("acceleration", 429, api("rate_limit_error", "would exceed your organization's maximum usage increase rate"), E.RAMP),
    ("concurrency", 429, api("rate_limit_error", "Number of concurrent connections has exceeded your rate limit"), E.CONCURRENCY),
    ("long context", 429, api("rate_limit_error", "Extra usage is required for long context requests."), E.BILLING),
    ("header too large", 431, "", E.INVALID),
    ("client closed", 499, "", E.SERVER),
    ("teapot", 418, "", E.INVALID),
    ("method", 405, "", E.ENDPOINT),
    ("gone", 410, "", E.ENDPOINT),
    ("proxy login", 407, HTML.format("Proxy Authentication Required"), E.ENDPOINT),
    ("legal", 451, "", E.PERMISSION),
    ("internal", 500, api("api_error", "Internal server error"), E.SERVER),
    ("internal, talking of limits", 500, api("api_error", "rate limit service: invalid api key, too many requests"), E.SERVER),
    ("not implemented", 501, foreign("not implemented", type="not_implemented"), E.ENDPOINT),
    ("unavailable", 503, api("api_error", "key unreachable", "cmek_key_unreachable"), E.SERVER),
    ("timeout 504", 504, api("timeout_error", "Request timed out"), E.TIMEOUT),
    ("timeout type", 500, api("timeout_error", "Request timed out"), E.TIMEOUT),
    ("overloaded", 529, api("overloaded_error", "Overloaded"), E.OVERLOADED),
    ("overloaded type", 500, api("overloaded_error", "Overloaded"), E.OVERLOADED),
    ("overloaded, html", 529, HTML.format("Site is overloaded"), E.OVERLOADED),
    # Proxies and web servers
    ("bad gateway", 502, HTML.format("502 Bad Gateway"), E.SERVER),
    ("html with words", 503, HTML.format("too many requests, insufficient quota, model not found"), E.SERVER),
    ("520", 520, "error code: 520", E.SERVER),
    ("524", 524, HTML.format("524: A timeout occurred"), E.TIMEOUT),
    ("599", 599, "", E.SERVER),
    ("challenge", 403, HTML.format("Just a moment..."), E.PERMISSION),
    ("web 404", 404, HTML.format("404 Not Found"), E.ENDPOINT),
    ("plain 404", 404, "404 page not found", E.ENDPOINT),
    ("web 400", 400, HTML.format("400 Bad Request"), E.INVALID),
    ("moved", 301, "", E.ENDPOINT),
    ("redirect", 307, HTML.format("Temporary Redirect"), E.ENDPOINT),
    ("not modified", 304, "", E.ENDPOINT),
    # Relays
    ("new-api quota", 403, foreign("user quota is not enough", type="new_api_error", code="insufficient_user_quota"), E.BILLING),
    ("new-api quota, envelope", 403, {"type": "error", **foreign("x", type="new_api_error", code="insufficient_user_quota")}, E.BILLING),
    ("one-api quota, Chinese", 403, foreign("用户额度不足", type="one_api_error"), E.BILLING),
    ("balance, Chinese", 400, foreign("账户余额不足"), E.BILLING),
    ("no channel", 503, foreign("No available channel for model claude-x", type="new_api_error", code="model_not_found"), E.NOT_FOUND),
    ("no channel, words", 503, foreign("No available channel for model claude-x under group default"), E.NOT_FOUND),
    ("bad token", 401, foreign("invalid token", type="new_api_error"), E.AUTHENTICATION),
    ("bad token, 403", 403, foreign("Invalid token"), E.AUTHENTICATION),
    ("string error", 401, {"error": "Unauthorized - Invalid token"}, E.AUTHENTICATION),
    ("FastAPI 401", 401, {"detail": "Not authenticated"}, E.AUTHENTICATION),
    ("FastAPI 404", 404, {"detail": "Not Found"}, E.ENDPOINT),
    ("FastAPI 422", 422, {"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "missing"}]}, E.INVALID),
    ("FastAPI around Anthropic", 404, {"detail": api("not_found_error", "model: claude-x")}, E.NOT_FOUND),
    ("LiteLLM rate", 429, foreign("litellm.RateLimitError", type="None", param="None", code="429"), E.RATE_LIMITED),
    ("LiteLLM budget", 400, foreign("Budget has been exceeded! Current cost: 1", type="budget_exceeded", code="400"), E.BILLING),
    ("LiteLLM wrapped", 500, foreign("litellm.AnthropicException - b'" + json.dumps(api("overloaded_error", "Overloaded")) + "'"), E.OVERLOADED),
    ("LiteLLM wrapped key", 500, foreign("AnthropicException - " + json.dumps(api("authentication_error", "invalid x-api-key"))), E.AUTHENTICATION),
    ("LiteLLM model", 400, foreign("Invalid model name passed in model=x. Call `/v1/models`"), E.NOT_FOUND),
    ("OpenRouter 402", 402, foreign("Insufficient credits", code=402), E.BILLING),
    ("OpenRouter 408", 408, foreign("timed out", code=408), E.TIMEOUT),
    ("OpenRouter 502", 502, foreign("Provider returned error", code=502), E.SERVER),
    ("OpenAI key", 401, foreign("Incorrect API key provided", type="invalid_request_error", code="invalid_api_key"), E.AUTHENTICATION),
    ("OpenAI quota", 429, foreign("You exceeded your current quota, please check your plan and billing details", code="insufficient_quota"), E.BILLING),
    ("Vertex model", 404, foreign("Publisher Model `projects/p/models/claude-x` was not found", code=404, status="NOT_FOUND"), E.NOT_FOUND),
    ("Vertex quota", 429, foreign("Quota exceeded for base_model", code=429, status="RESOURCE_EXHAUSTED"), E.RATE_LIMITED),
    ("Bedrock country", 400, {"message": "Access to Anthropic models is not allowed from unsupported countries"}, E.PERMISSION),
    ("Bedrock throttled", 400, {"message": "Too many requests", "__type": "ThrottlingException"}, E.RATE_LIMITED),
    ("Bedrock model", 400, {"message": "The provided model identifier is invalid."}, E.NOT_FOUND),
    ("rate in a 500", 500, foreign("upstream: Too Many Requests"), E.RATE_LIMITED),
    ("rate in a 403", 403, foreign("rate limit reached for this key"), E.RATE_LIMITED),
    ("Google key", 400, foreign("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT"), E.AUTHENTICATION),
    # Inside a 200, and in a stream (no status of its own)
    ("200 overloaded", 200, api("overloaded_error", "Overloaded"), E.OVERLOADED),
    ("200 api error", 200, api("api_error", "Internal server error"), E.SERVER),
    ("200 OpenRouter 429", 200, foreign("Rate limited", code=429), E.RATE_LIMITED),
    ("200 OpenRouter 502", 200, foreign("Provider returned error", code=502), E.SERVER),
    ("stream overloaded", None, api("overloaded_error", "Overloaded"), E.OVERLOADED),
    ("stream rate", None, api("rate_limit_error", "slow down"), E.RATE_LIMITED),
    ("stream invalid", None, api("invalid_request_error", "too many requests"), E.INVALID),
    ("stream key", None, api("authentication_error", "no"), E.AUTHENTICATION),
    ("stream permission", None, api("permission_error", "no"), E.PERMISSION),
    ("stream model", None, api("not_found_error", "model: x"), E.NOT_FOUND),
    ("stream text", None, "something went wrong", E.BAD_RESPONSE),
    ("stream nothing", None, "", E.BAD_RESPONSE),
]
# fmt: on


def encoded(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()


@pytest.mark.parametrize(("status", "body", "expected"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_each_body_gets_its_class(status: int | None, body: Any, expected: ErrorClass) -> None:
    failure = classify_message(200, {}, encoded(body)) if status == 200 else classify_error(status, {}, encoded(body))
    assert isinstance(failure, Failure)
    assert (failure.error_class, failure.http_status) == (expected, status)
    assert 0 < len(failure.message) <= 300


def test_payment_required_with_a_time_is_a_passing_budget() -> None:
    body = encoded(foreign("budget in flight", code=402))
    assert classify_error(402, {"retry-after": "7"}, body).error_class is E.RATE_LIMITED
    assert classify_error(402, {}, body).error_class is E.BILLING


def test_failure_carries_what_the_headers_say() -> None:
    headers = {"request-id": "req_header", "retry-after": "12"}
    failure = classify_error(429, headers, encoded(api("rate_limit_error", "slow down")))
    assert (failure.api_request_id, failure.retry_after_s) == ("req_header", 12.0)
    assert failure.message == "rate_limit_error: slow down"
    assert classify_error(429, {}, encoded(api("rate_limit_error", "slow down"))).api_request_id == "req_body"


def test_senseless_request_ids_are_dropped() -> None:
    for value in ("", "a b", "x" * 500, "caf\udce9", "line\nbreak"):
        assert classify_error(500, {"request-id": value}, b"").api_request_id is None


@pytest.mark.parametrize(
    ("status", "is_paid"),
    [(400, False), (429, False), (500, False), (529, False), (504, True), (524, True), (499, True)],
)
def test_only_a_lost_answer_may_have_been_paid(status: int, is_paid: bool) -> None:
    assert classify_error(status, {}, b"").possibly_paid is is_paid


def test_redirect_names_its_target_and_the_remedy() -> None:
    failure = classify_error(308, {"location": "https://elsewhere.example/v1/messages"}, b"")
    assert "https://elsewhere.example" in failure.message
    assert "base URL" in failure.message


def message(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [
            {"type": "text", "text": "Grüße "},
            {"type": "tool_use", "id": "t"},
            {"type": "text", "text": "🎈"},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "output_tokens": 7,
            "cache_creation_input_tokens": 2,
            "cache_read_input_tokens": None,
        },
    }
    whole.update(changes)
    return {key: value for key, value in whole.items() if value != "absent"}


def test_a_message_is_kept_as_received() -> None:
    body = json.dumps(message(), ensure_ascii=False, indent=1).encode()
    outcome = classify_message(200, {"request-id": "req_1"}, body)
    assert isinstance(outcome, Success)
    assert outcome.message == body.decode()
    assert (outcome.text, outcome.stop_reason, outcome.model) == ("Grüße 🎈", "end_turn", "claude-haiku-4-5")
    assert outcome.usage == Usage(input_tokens=5, output_tokens=7, cache_write_tokens=2)
    assert (outcome.api_request_id, outcome.blocks) == ("req_1", 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"stop_reason": "a_reason_of_tomorrow"},
        {"content": []},
        {"content": [{"type": "block_of_tomorrow", "text": 3}, "not even a block", {"type": "text", "text": None}]},
        {"usage": "absent"},
        {"usage": None},
        {"usage": {"input_tokens": "many", "output_tokens": -3, "cache_read_input_tokens": True}},
        {"usage": {"input_tokens": 10**300, "output_tokens": 1e400}},
        {"model": None},
        {"extra": "field"},
    ],
)
def test_a_message_may_be_odd(changes: dict[str, Any]) -> None:
    outcome = classify_message(200, {}, json.dumps(message(**changes)).replace("Infinity", "9e999").encode())
    assert isinstance(outcome, Success)
    assert all(0 <= count < 2**53 for count in (outcome.usage.input_tokens, outcome.usage.output_tokens))


def test_token_counts_written_as_text_or_fraction_count() -> None:
    body = json.dumps(message(usage={"input_tokens": "12", "output_tokens": 3.0})).encode()
    outcome = classify_message(200, {}, body)
    assert isinstance(outcome, Success)
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (12, 3)


def test_a_number_of_thousands_of_digits_does_no_harm() -> None:
    body = json.dumps(message()).replace('"input_tokens": 5', '"input_tokens": ' + "9" * 6000).encode()
    outcome = classify_message(200, {}, body)
    assert isinstance(outcome, Success)
    assert "9" * 6000 in outcome.message
    assert outcome.usage.input_tokens == 0


def test_lone_surrogates_stay_escaped_in_the_message_and_are_replaced_in_the_text() -> None:
    body = json.dumps(
        message(content=[{"type": "text", "text": "a\ud800b\udc00\ud83c\udf88"}], model="m\ud800")
    ).encode()
    outcome = classify_message(200, {}, body)
    assert isinstance(outcome, Success)
    assert "\\ud800" in outcome.message
    assert outcome.text == "a\ufffdb\ufffd🎈"
    assert outcome.model == "m\ufffd"
    outcome.message.encode()


CHANGES: list[dict[str, Any]] = [
    {"type": "absent"},
    {"type": "completion"},
    {"content": "absent"},
    {"content": None},
    {"content": "text"},
    {"content": {}},
    {"stop_reason": "absent"},
    {"stop_reason": None},
    {"stop_reason": ""},
    {"stop_reason": 3},
]
NEARLY_MESSAGES = [json.dumps(message(**change)).encode() for change in CHANGES]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"null",
        b"[]",
        b"3",
        b'"text"',
        b"{}",
        b"\xff\xfe{}",
        json.dumps(message()).encode("utf-16"),
        json.dumps(message()).encode()[:-9],
        json.dumps(message()).encode() + b"x",
        json.dumps(message()).replace("Gr", "\x00").encode(),
        json.dumps(message()).replace('"input_tokens": 5', '"input_tokens": NaN').encode(),
        b'{"type":"message","content":' + b"[" * 100_000,
        HTML.format("Welcome").encode(),
        *NEARLY_MESSAGES,
    ],
)
def test_a_200_that_is_no_message_is_a_bad_response(body: bytes) -> None:
    failure = classify_message(200, {}, body)
    assert isinstance(failure, Failure)
    assert failure.error_class is E.BAD_RESPONSE
    assert failure.possibly_paid
    assert (failure.body is None) == (not body)
    assert len((failure.body or "").encode()) <= 4096


def test_words_in_a_cut_message_do_not_make_it_another_error() -> None:
    body = json.dumps(message(content=[{"type": "text", "text": "too many requests: insufficient quota"}])).encode()
    failure = classify_message(200, {}, body[:-20])
    assert isinstance(failure, Failure)
    assert failure.error_class is E.BAD_RESPONSE


def test_a_byte_order_mark_is_not_part_of_the_message() -> None:
    assert isinstance(classify_message(200, {}, b"\xef\xbb\xbf" + json.dumps(message()).encode()), Success)


KEY = "plain-secret-4711"


@pytest.mark.parametrize("status", [200, 401, 500])
@pytest.mark.parametrize(
    "leak", [KEY, "sk-ant-api03-abcdefghijkl", "Bearer abc.def-ghi_jkl", "https://user:hunter2@host/"]
)
def test_no_credential_gets_into_a_failure(status: int, leak: str) -> None:
    for body in (
        encoded(api("api_error", f"you sent {leak}, {leak}")),
        f"plain {leak}".encode(),
        HTML.format(leak).encode(),
        b"x" * 4090 + b" " + leak.encode(),
        encoded(api("api_error", "y" * 290 + " " + leak)),
    ):
        failure = classify_message(status, {"request-id": KEY}, body, secrets=(KEY,))
        if status != 200:
            failure = classify_error(status, {"request-id": KEY, "location": leak}, body, secrets=(KEY,))
        for secret in (KEY, "abcdefghijkl", "abc.def", "hunter2"):
            assert secret not in repr(failure)


def test_messages_are_one_line_without_control_characters() -> None:
    failure = classify_error(
        400, {}, encoded(api("invalid_request_error", "a\x1b]52;c;x\x07\r\nb\u202ec\u2028d\x00e" * 50))
    )
    assert len(failure.message) <= 300
    assert failure.message.isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "error", "message", "code", "detail", "content", "stop_reason", "usage", "status"])
            | st.text(max_size=5),
            inner | st.sampled_from(["message", "error", "end_turn", "invalid_request_error"]),
            max_size=6,
        )
    ),
    max_leaves=20,
)

near_messages = st.fixed_dictionaries(
    {},
    optional={
        "type": st.just("message") | json_values,
        "content": st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}) | json_values)
        | json_values,
        "stop_reason": st.just("end_turn") | json_values,
        "usage": st.dictionaries(st.sampled_from(["input_tokens", "output_tokens"]), json_values) | json_values,
        "model": json_values,
        "request_id": json_values,
    },
)


def is_message(body: bytes) -> bool:
    try:
        data = json.loads(body.removeprefix(b"\xef\xbb\xbf").decode())
    except ValueError:
        return False
    return (
        isinstance(data, dict)
        and data.get("type") == "message"
        and isinstance(data.get("content"), list)
        and isinstance(data.get("stop_reason"), str)
        and data["stop_reason"] != ""
    )


@given(
    st.binary(max_size=200) | (json_values | near_messages).map(lambda value: json.dumps(value).encode()),
    st.none() | st.integers(100, 599),
    st.dictionaries(st.sampled_from(["retry-after", "request-id", "location", "date"]), st.text(max_size=40)),
)
@settings(max_examples=400, deadline=None)
def test_no_body_raises_and_only_a_message_succeeds(body: bytes, status: int | None, headers: dict[str, str]) -> None:
    failure = classify_error(status, headers, body)
    outcome = classify_message(200, headers, body)
    assert isinstance(failure, Failure)
    assert is_message(body) or isinstance(outcome, Failure)
    for text in (failure.message, failure.body or "", failure.api_request_id or ""):
        text.encode()
    assert failure.message
    assert failure.message.isprintable()
    if isinstance(outcome, Success):
        (outcome.text + outcome.message + outcome.model + outcome.stop_reason).encode()
