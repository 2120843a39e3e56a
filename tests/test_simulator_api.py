"""The simulated API without a socket: what it checks, what it answers, what it counts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.simulator import Simulator, parse_spec
from batchrunner.simulator.answers import answer_text
from batchrunner.simulator.replies import Reply

HEADERS = {"host": "127.0.0.1:8080", "x-api-key": "sk-test", "anthropic-version": "2026-10-21"}
PARAMS: dict[str, Any] = {
    "model": "claude-haiku-4-5",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "hi"}],
}


def ask(simulator: Simulator, params: object = PARAMS, headers: dict[str, str] = HEADERS, now: float = 0.0) -> Reply:
    return simulator.respond("POST", "/v1/messages", headers, json.dumps(params).encode(), now)


def get(path: str, method: str = "GET", body: bytes = b"") -> tuple[int, Any]:
    reply = Simulator().respond(method, path, HEADERS, body, 0)
    return reply.status, json.loads(reply.body)


def error_of(reply: Reply) -> tuple[int, str, str]:
    error = json.loads(reply.body)
    assert error["type"] == "error"
    return reply.status, error["error"]["type"], error["error"]["message"]


def test_a_good_request_gets_a_message() -> None:
    reply = ask(Simulator())
    assert reply.status == 200
    assert reply.delay_s == 0.05
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["request-id"].startswith("req_")
    said = json.loads(reply.body)
    assert (said["type"], said["role"], said["model"], said["stop_reason"]) == (
        "message",
        "assistant",
        "claude-haiku-4-5",
        "end_turn",
    )
    assert said["content"] == [{"type": "text", "text": answer_text(PARAMS)}]
    assert said["usage"]["input_tokens"] > 0
    assert said["usage"]["cache_read_input_tokens"] == 0


def test_a_streamed_request_gets_events_over_the_whole_latency() -> None:
    reply = ask(Simulator(parse_spec("latency=2")), PARAMS | {"stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.delay_s + reply.gap_s * (len(reply.chunks) - 1) == pytest.approx(2)


def test_a_marker_sets_the_latency() -> None:
    assert ask(Simulator(), {**PARAMS, "system": "[[sim:delay=1.5]]"}).delay_s == 1.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model: Input should be a valid string"),
        ({"max_tokens": "50"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        ({"max_tokens": 64_001}, "max_tokens: 64001 > 64000"),
        ({"messages": "hi"}, "messages: Input should be a valid list"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": ["hi"]}, "messages.0: Input should be a valid dictionary"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role: Input should be"),
        ({"messages": [{"role": ["user"], "content": "hi"}]}, "messages.0.role: Input should be"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content: Input should be a valid string or list"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0: user messages must have non-empty content"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean"),
        ({"prompt": "hi"}, "prompt: Extra inputs are not permitted"),
        ({"temperature": 1}, "temperature: "),
        ({"top_p": 1}, "top_p: "),
        ({"top_k": 1}, "top_k: "),
        ({"system": "x" * 900_000}, "prompt is too long: "),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(change: dict[str, Any], message: str) -> None:
    status, kind, said = error_of(ask(Simulator(), {**PARAMS, **change}))
    assert (status, kind) == (400, "invalid_request_error")
    assert said.startswith(message)


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_a_missing_field_is_named(name: str) -> None:
    params = {key: value for key, value in PARAMS.items() if key != name}
    assert error_of(ask(Simulator(), params)) == (400, "invalid_request_error", f"{name}: Field required")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"model":NaN}', b"\xff\xfe{}", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"]
)
def test_a_body_that_is_no_json_object_is_a_400(body: bytes) -> None:
    assert Simulator().respond("POST", "/v1/messages", HEADERS, body, 0).status == 400


@given(
    st.dictionaries(
        st.sampled_from(["model", "max_tokens", "messages", "system", "stream", "tools"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5) | st.just("claude-x") | st.just("user"),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["role", "content", "text", "type"]), inner)
            ),
            max_leaves=8,
        ),
    )
)
def test_any_object_gets_a_reply(params: dict[str, Any]) -> None:
    assert ask(Simulator(), params).status in {200, 400, 404}


def test_sampling_parameters_pass_under_an_older_version() -> None:
    assert (
        ask(Simulator(), {**PARAMS, "temperature": 0.5}, {**HEADERS, "anthropic-version": "2023-06-01"}).status == 200
    )


def test_the_version_header_is_required() -> None:
    headers = {name: value for name, value in HEADERS.items() if name != "anthropic-version"}
    assert error_of(ask(Simulator(), headers=headers))[2] == "anthropic-version: header is required"


def test_an_unknown_model_is_a_404() -> None:
    assert error_of(ask(Simulator(), {**PARAMS, "model": "gpt-5"})) == (404, "not_found_error", "model: gpt-5")


@pytest.mark.parametrize(
    ("credential", "status"),
    [
        ({}, 401),
        ({"authorization": "Basic sk-right"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"x-api-key": "sk-wrong"}, 401),
        ({"x-api-key": "sk-wrong", "authorization": "Bearer sk-right"}, 401),
        ({"x-api-key": "sk-right"}, 200),
        ({"authorization": "Bearer sk-right"}, 200),
        ({"authorization": "bearer sk-right"}, 200),
    ],
)
def test_only_the_key_of_the_settings_is_let_in(credential: dict[str, str], status: int) -> None:
    headers = {"anthropic-version": "2026-10-21", **credential}
    reply = ask(Simulator(parse_spec("key=sk-right")), headers=headers)
    assert reply.status == status
    if status == 401:
        assert error_of(reply)[1] == "authentication_error"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
def test_only_hosts_of_this_machine_are_answered(host: str, status: int) -> None:
    assert ask(Simulator(), headers={**HEADERS, "host": host}).status == status


def test_the_limit_is_kept_and_said() -> None:
    simulator = Simulator(parse_spec("rate=5/10s,strict=1"))
    replies = [ask(simulator, now=1 + number / 100) for number in range(8)]
    assert [reply.status for reply in replies] == [200] * 5 + [429] * 3
    assert error_of(replies[5])[1] == "rate_limit_error"
    assert replies[5].headers["retry-after"] == "10"
    assert replies[4].headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert [reply.arrival and reply.arrival.action for reply in replies[4:6]] == ["answered", "limited"]
    assert ask(simulator, now=11.0).status == 200
    assert simulator.ledger.max_in_window(10) == 5


def test_requests_that_fail_before_the_limit_do_not_count() -> None:
    simulator = Simulator(parse_spec("rpm=1,500=0"))
    for params in ({**PARAMS, "max_tokens": -1}, {**PARAMS, "system": "[[sim:529]]"}):
        ask(simulator, params)
    assert ask(simulator).status == 200
    assert ask(simulator).status == 429
    assert simulator.ledger.summary().accepted == 1


def test_output_tokens_count_while_the_answer_is_produced_whatever_becomes_of_it() -> None:
    simulator = Simulator(parse_spec("otpm=60,output_tokens=50,bucket_s=60,latency=10"))
    replies = [ask(simulator) for _ in range(4)]
    assert [reply.status for reply in replies] == [200] * 4
    simulator.finish(replies[0], 1.0, 0, delivered=False)  # the client has gone, the model goes on
    assert ask(simulator, now=3.0).status == 200  # 60 + 3 - 4 * 5 * 3
    late = ask(simulator, now=4.0)  # 60 + 4 - 4 * 5 * 4 - 5
    assert (late.status, late.headers["anthropic-ratelimit-output-tokens-remaining"]) == (429, "0")
    assert "output tokens" in error_of(late)[2]


def test_reserved_output_is_given_back_at_the_planned_end() -> None:
    simulator = Simulator(parse_spec("otpm=60,output_tokens=10,bucket_s=60,latency=10,output_limit=reserved"))
    assert ask(simulator).status == 200
    assert ask(simulator, now=9.0).status == 429  # 60 + 9 - 50 < 50
    assert ask(simulator, now=10.0).status == 200  # 60 + 10 - 50 + 40, the brim at most


def test_an_answer_that_is_never_produced_reserves_and_produces_nothing_in_the_end() -> None:
    simulator = Simulator(parse_spec("otpm=60,output_tokens=50,bucket_s=60,latency=10,output_limit=reserved"))
    assert ask(simulator, {**PARAMS, "system": "[[sim:reset]]"}).arrival is not None
    assert ask(simulator, now=5.0).status == 429
    assert ask(simulator, now=10.0).headers["anthropic-ratelimit-output-tokens-limit"] == "60"
    assert simulator.ledger.summary().statuses[200] == 1


def test_a_row_can_be_poisonous_for_ever() -> None:
    simulator = Simulator()
    for status, name in ((429, "429_no_header"), (429, "429"), (529, "529")):
        params = {**PARAMS, "system": f"[[sim:{name}]]"}
        assert {ask(simulator, params, now=float(i)).status for i in range(50)} == {status}
    assert ask(simulator).status == 200


def test_a_climbing_limit_refuses_with_the_code_for_it() -> None:
    simulator = Simulator(parse_spec("rpm=600,bucket_s=1,accelerate=60"))
    assert ask(simulator).status == 200
    refused = ask(simulator)
    error = json.loads(refused.body)["error"]
    assert (refused.status, error["details"]) == (429, {"error_code": "ramp_limit_exceeded"})
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["anthropic-ratelimit-requests-limit"] == "600"
    for step in range(1, 9):
        ask(simulator, now=10.0 * step)  # traffic goes on
    for _ in range(10):
        assert ask(simulator, now=90.0).status == 200
    assert "details" not in json.loads(ask(simulator, now=90.0).body)["error"]


@pytest.mark.parametrize("marker", ["", "[[sim:429]]"])
def test_the_headers_of_the_limits_can_be_left_out(marker: str) -> None:
    simulator = Simulator(parse_spec("rpm=1,itpm=1000,otpm=1000,headers=0"))
    for reply in (ask(simulator, {**PARAMS, "system": marker}) for _ in range(2)):
        assert not [name for name in reply.headers if name.startswith("anthropic-ratelimit")]
    assert reply.status == 429
    assert reply.headers["retry-after"]


def test_a_body_paid_twice_is_seen() -> None:
    simulator = Simulator()
    for params in (PARAMS, {**PARAMS, "stream": True}, {**PARAMS, "max_tokens": 51}):
        reply = ask(simulator, params)
        simulator.finish(reply, 1.0, 0, delivered=False)
    summary = simulator.ledger.summary()
    assert list(summary.paid_more_than_once.values()) == [2]
    assert (summary.paid, summary.undelivered) == (3, 3)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/messages", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/v1/messages", 404),
        ("GET", "/", 404),
        ("GET", "/v1/models/claude-unknown", 404),
        ("GET", "/v1/models/claude-haiku-4-5", 200),
    ],
)
def test_other_paths(method: str, path: str, status: int) -> None:
    assert get(path, method)[0] == status


def test_models_come_in_pages() -> None:
    _, first = get("/v1/models?limit=2")
    _, second = get(f"/v1/models?limit=2&after_id={first['last_id']}")
    _, back = get(f"/v1/models?limit=2&before_id={second['first_id']}")
    assert first["has_more"] is True
    assert [model["id"] for model in back["data"]] == [model["id"] for model in first["data"]]
    assert not {model["id"] for model in first["data"]} & {model["id"] for model in second["data"]}


def test_token_counts_are_those_of_the_answer() -> None:
    status, counted = get("/v1/messages/count_tokens", "POST", json.dumps({**PARAMS, "max_tokens": 1}).encode())
    assert (status, counted) == (200, {"input_tokens": json.loads(ask(Simulator()).body)["usage"]["input_tokens"]})
    assert get("/v1/messages/count_tokens", "POST", b"{}")[0] == 400
    assert get("/v1/messages/count_tokens", "POST", b"?")[0] == 400


def test_other_paths_are_no_arrivals_of_messages() -> None:
    simulator = Simulator()
    simulator.respond("GET", "/v1/models?limit=5", HEADERS, b"", 0)
    assert (simulator.ledger.summary().arrivals, simulator.ledger.summary().others) == (0, 1)


def test_more_than_the_concurrency_at_once_is_refused_until_one_is_finished() -> None:
    simulator = Simulator(parse_spec("concurrency=2"))
    replies = [ask(simulator) for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert "concurrent connections" in error_of(replies[2])[2]
    simulator.finish(replies[2], 0.0, 0, delivered=True)
    assert ask(simulator).status == 429
    simulator.finish(replies[0], 0.0, 0, delivered=True)
    assert ask(simulator).status == 200


def test_an_outage_hits_every_request_while_it_lasts() -> None:
    simulator = Simulator(parse_spec("outage=10..70"))
    assert [ask(simulator, now=now).status for now in (9.9, 10.0, 69.9, 70.0)] == [200, 529, 529, 200]


def test_structured_output_fits_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "kind": {"enum": ["a", "b"]},
            "size": {"type": ["integer", "null"], "minimum": 3},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}},
            "other": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "fixed": {"const": 7},
        },
        "$defs": {"part": {"properties": {"weight": {"type": "number"}, "more": {"$ref": "#/nowhere"}}}},
    }
    params = {**PARAMS, "max_tokens": 500, "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    said = json.loads(json.loads(ask(Simulator(), params).body)["content"][0]["text"])
    assert said.pop("name").startswith("Answer ")
    parts = [{"weight": 1, "more": None}]
    assert said == {"kind": "a", "size": 3, "parts": parts, "other": True, "fixed": 7}


def test_a_schema_that_refers_to_itself_still_gets_an_answer() -> None:
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}}
    params = {**PARAMS, "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    assert ask(Simulator(), params).status == 200
