"""Every kind of body that has been seen in the wild gets the class that its rule needs."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.api.classify import classify_error, classify_message
from batchrunner.model import ErrorClass, Failure, Success, Usage
from error_bodies import BODIES, HTML, api, encoded, foreign, is_message

E = ErrorClass


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


def test_usage_says_how_the_answer_is_billed() -> None:
    usage = {
        "input_tokens": 5,
        "output_tokens": 7,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 4,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
        "service_tier": "batch",
        "speed": "fast",
        "inference_geo": "us",
    }
    outcome = classify_message(200, {}, json.dumps(message(usage=usage)).encode())
    assert isinstance(outcome, Success)
    assert outcome.usage == Usage(5, 7, 30, 4, 20, 2, "batch", "fast", "us")
    assert outcome.usage.prompt_tokens == 39


def test_usage_of_the_ordinary_kind_or_without_sense_says_nothing_special() -> None:
    for extra in (
        {"service_tier": "standard", "speed": "standard", "inference_geo": None, "server_tool_use": None},
        {"service_tier": 5, "speed": ["fast"], "inference_geo": "a\ud800", "cache_creation": [1], "server_tool_use": 3},
        {"cache_creation": {"ephemeral_1h_input_tokens": 99}},  # more than was written at all
    ):
        usage = {"input_tokens": 5, "output_tokens": 7, **extra}
        outcome = classify_message(200, {}, json.dumps(message(usage=usage)).encode())
        assert isinstance(outcome, Success)
        assert outcome.usage == Usage(5, 7)


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


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 5},
        {"output_tokens": 5},
        {"input_tokens": 5, "output_tokens": None},
        {"input_tokens": -5, "output_tokens": 7},
        {"input_tokens": 5, "output_tokens": 3.5},
        {"input_tokens": 10**15, "output_tokens": 7},
        {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": -100_000},
        {"input_tokens": 5, "output_tokens": 7, "server_tool_use": {"web_search_requests": 10**9}},
        "none",
        None,
    ],
    ids=[
        "no output",
        "no input",
        "null",
        "negative",
        "half a token",
        "huge",
        "negative cache",
        "searches",
        "text",
        "nothing",
    ],
)
def test_usage_of_which_a_part_is_no_figure_is_known_not_to_be_whole(usage: object) -> None:
    outcome = classify_message(200, {}, json.dumps(message(usage=usage)).encode())
    assert isinstance(outcome, Success)
    assert not outcome.usage.is_told
    assert all(0 <= count < 1000 for count in (*outcome.usage.counts, outcome.usage.web_searches))


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
