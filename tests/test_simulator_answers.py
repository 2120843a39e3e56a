"""What the simulated model says, whole and as a stream."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.simulator.answers import Answer, answer_text, body_sha256, compose, message, read_prompt
from batchrunner.simulator.events import stream_events
from batchrunner.simulator.markers import parse_marks
from batchrunner.simulator.replies import to_json


def params(content: object = "What is 2 + 2?", **more: object) -> dict[str, Any]:
    return {"model": "claude-haiku-4-5", "max_tokens": 1000, "messages": [{"role": "user", "content": content}], **more}


def answer(asked: dict[str, Any], marks: str = "", tokens: int | None = None) -> Answer:
    return compose(asked, read_prompt(asked), attempt=1, tokens=tokens, marks=parse_marks(marks))


def test_the_answer_shows_which_prompt_it_belongs_to() -> None:
    text = answer_text(params())
    assert text.startswith("Answer ")
    assert text.endswith(": What is 2 + 2?")
    assert text == message(answer(params()))["content"][0]["text"]


@pytest.mark.parametrize(
    "other", [params("What is 2 + 3?"), params(system="Be brief."), params() | {"model": "claude-sonnet-5"}]
)
def test_another_prompt_gets_another_answer(other: dict[str, Any]) -> None:
    assert answer_text(other) != answer_text(params())


def test_text_blocks_are_read_and_markers_left_out() -> None:
    blocks = [{"type": "image", "source": {}}, {"type": "text", "text": "[[sim:529*1]] Look\nat this"}]
    assert answer_text(params(blocks)).endswith(": Look at this")


@given(st.integers(0, 400), st.integers(0, 400))
def test_an_answer_longer_than_max_tokens_is_cut_there(tokens: int, max_tokens: int) -> None:
    said = answer(params(max_tokens=max_tokens), tokens=tokens)
    cut = tokens > max_tokens
    assert said.stop_reason == ("max_tokens" if cut else "end_turn")
    assert len(said.text) == 4 * min(tokens, max_tokens)
    if said.text:
        assert said.output_tokens == min(tokens, max_tokens)


@pytest.mark.parametrize(
    ("marks", "stop_reason", "has_text"),
    [
        ("[[sim:refusal]]", "refusal", False),
        ("[[sim:empty]]", "end_turn", False),
        ("[[sim:truncate]]", "max_tokens", True),
    ],
)
def test_markers_change_how_the_answer_ends(marks: str, stop_reason: str, has_text: bool) -> None:
    body = message(answer(params(), marks))
    assert body["stop_reason"] == stop_reason
    assert bool(body["content"]) is has_text
    assert body["usage"]["output_tokens"] > 0
    assert (body["stop_details"] is not None) is (stop_reason == "refusal")


def test_a_marker_sets_the_length() -> None:
    assert answer(params(), "[[sim:long=500]]").output_tokens == 500


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_bodys_identity_ignores_layout_and_streaming(metadata: object) -> None:
    asked = params(metadata=metadata)
    plain = body_sha256(json.dumps(asked).encode())
    streamed = json.dumps({"stream": True, **asked}, indent=1, sort_keys=True, ensure_ascii=True).encode()
    assert plain == body_sha256(streamed)
    assert plain != body_sha256(json.dumps(asked | {"max_tokens": 999}).encode())


@given(st.binary(max_size=50))
def test_any_bytes_have_an_identity(body: bytes) -> None:
    assert len(body_sha256(body)) == 64


def test_a_lone_surrogate_stays_escaped_and_other_text_is_utf_8() -> None:
    assert to_json({"text": "é"}) == b'{"text":"\xc3\xa9"}'
    assert to_json({"text": "\ud800"}) == b'{"text":"\\ud800"}'


def events_of(said: Answer) -> list[dict[str, Any]]:
    events = []
    for event in stream_events(said):
        name, data = event.decode().removesuffix("\n\n").split("\n")
        decoded = json.loads(data.removeprefix("data: "))
        assert name == f"event: {decoded['type']}"
        events.append(decoded)
    return events


@given(st.integers(1, 5000))
def test_a_stream_has_the_apis_sequence_and_the_whole_answer(tokens: int) -> None:
    asked = params(max_tokens=4000)
    events = events_of(answer(asked, tokens=tokens))
    kinds = [event["type"] for event in events]
    deltas = kinds.count("content_block_delta")
    assert deltas > 0
    assert kinds == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    whole = message(answer(asked, tokens=tokens))
    assert text == whole["content"][0]["text"]
    assert events[0]["message"]["stop_reason"] is None
    assert events[0]["message"]["usage"]["output_tokens"] == 1
    assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"]
    assert events[-2]["usage"] == whole["usage"]


def test_a_stream_without_text_has_no_block() -> None:
    kinds = [event["type"] for event in events_of(answer(params(), "[[sim:refusal]]"))]
    assert kinds == ["message_start", "ping", "message_delta", "message_stop"]
