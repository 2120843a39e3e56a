"""Every fault as a reply, and how a fault is chosen."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.simulator import Simulator, parse_spec
from batchrunner.simulator.faults import FAULTS, Wire
from batchrunner.simulator.markers import MarkerError, Marks, Step, chosen_fault, parse_marks, scripted_fault
from batchrunner.simulator.replies import Ending, Framing, Reply

HEADERS = {"host": "127.0.0.1:8080", "x-api-key": "sk-test", "anthropic-version": "2026-10-21"}


def body(content: str, **more: object) -> bytes:
    request = {
        "model": "claude-haiku-4-5",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": content}],
        **more,
    }
    return json.dumps(request).encode()


def ask(simulator: Simulator, content: str, now: float = 0.0, **more: object) -> Reply:
    return simulator.respond("POST", "/v1/messages", HEADERS, body(content, **more), now)


def faulty(name: str, *, stream: bool = False) -> Reply:
    return ask(Simulator(), f"[[sim:{name}]] hello", stream=stream)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_has_a_reply_and_its_name_in_the_ledger(name: str, stream: bool) -> None:
    reply = faulty(name, stream=stream)
    fault = FAULTS[name]
    assert reply.arrival is not None
    if fault.stream_only and not stream:
        assert reply.arrival.action == "answered"
        return
    assert reply.arrival.action == name
    assert reply.arrival.paid is fault.paid
    assert reply.arrival.status == reply.status
    if fault.error is not None:
        error = json.loads(reply.body)
        assert reply.status == fault.error.status
        assert error["error"]["type"] == fault.error.type
        assert error["request_id"] == reply.headers["request-id"]
    elif fault.raw is not None:
        assert (reply.status, reply.headers["content-type"], reply.body) == (fault.status, *fault.raw)


@pytest.mark.parametrize("name", [name for name in FAULTS if name[0].isdigit()])
def test_a_fault_named_for_a_status_has_it(name: str) -> None:
    assert faulty(name).status == int(name[:3])


def test_retry_after_is_sent_with_rate_limits_but_not_with_the_spend_limit() -> None:
    simulator = Simulator(parse_spec("retry_after=0.25"))
    limited = ask(simulator, "[[sim:429]]")
    assert limited.headers["retry-after"] == "0.25"
    assert limited.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert ask(simulator, "[[sim:429_ramp]]").headers["retry-after"] == "0.25"
    for name in ("429_spend", "429_no_header", "429_concurrency"):
        assert "retry-after" not in ask(simulator, f"[[sim:{name}]]").headers


@pytest.mark.parametrize(
    ("name", "code"), [("429_spend", "enforced_spend_limit_reached"), ("429_ramp", "ramp_limit_exceeded")]
)
def test_the_error_code_stands_in_the_details(name: str, code: str) -> None:
    assert json.loads(faulty(name).body)["error"]["details"] == {"error_code": code}


@pytest.mark.parametrize(("name", "ending"), [("reset", Ending.RESET), ("close", Ending.CLOSE), ("hang", Ending.HANG)])
def test_silent_faults_send_nothing(name: str, ending: Ending) -> None:
    reply = faulty(name)
    assert (reply.silent, reply.body, reply.ending) == (True, b"", ending)


def test_a_reset_in_mid_body_announces_the_whole_length() -> None:
    whole, reset = ask(Simulator(), "hello"), faulty("reset_body")
    assert reset.ending is Ending.RESET
    assert 0 < len(reset.body) < reset.declared_length
    assert whole.ending is Ending.KEEP


def test_truncated_json_announces_what_is_sent() -> None:
    reply = faulty("200_truncated")
    assert reply.declared_length == len(reply.body)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(reply.body)


def test_a_trickle_is_the_whole_answer_byte_by_byte() -> None:
    reply = faulty("trickle")
    assert {len(chunk) for chunk in reply.chunks} == {1}
    assert reply.gap_s == 1
    assert json.loads(reply.body)["type"] == "message"


def test_a_broken_stream_ends_with_an_error_event_or_without_any() -> None:
    error, cut = faulty("sse_error", stream=True), faulty("sse_cut", stream=True)
    assert b"event: error" in error.chunks[-1]
    assert b"overloaded_error" in error.chunks[-1]
    assert cut.framing is Framing.UNTIL_CLOSE
    for reply in (error, cut):
        assert b"message_start" in reply.chunks[0]
        assert b"message_delta" not in reply.body


def test_every_kind_of_wire_trouble_is_used() -> None:
    assert {fault.wire for fault in FAULTS.values()} == set(Wire)


def test_a_script_is_met_arrival_by_arrival() -> None:
    simulator = Simulator()
    actions = [ask(simulator, "[[sim:529*2,reset*1]] hello").arrival for _ in range(5)]
    assert [arrival and arrival.action for arrival in actions] == ["529", "529", "reset", "answered", "answered"]
    assert [arrival and arrival.attempt for arrival in actions] == [1, 2, 3, 4, 5]


def test_scripts_are_counted_for_each_body_apart() -> None:
    simulator = Simulator()
    statuses = [ask(simulator, f"[[sim:500*1]] {name}").status for name in "abab"]
    assert statuses == [500, 500, 200, 200]


def test_a_script_keeps_chance_away() -> None:
    simulator = Simulator(parse_spec("500=1"))
    assert [ask(simulator, "[[sim:529*1]]").status for _ in range(3)] == [529, 200, 200]
    assert ask(simulator, "no script").status == 500


def test_markers_are_found_in_the_system_prompt_and_in_blocks() -> None:
    assert ask(Simulator(), "hi", system="[[sim:529]]").status == 529
    assert ask(Simulator(), "hi", system=[{"type": "text", "text": "[[sim:529]]"}]).status == 529


def test_an_unknown_marker_is_told_to_the_sender() -> None:
    reply = ask(Simulator(), "[[sim:530]]")
    assert reply.status == 400
    assert "'530' is unknown" in json.loads(reply.body)["error"]["message"]


@given(st.text(alphabet="[]:sim=*,0123456789 refusaldelayong.529", max_size=40))
def test_any_marker_is_read_or_refused(text: str) -> None:
    try:
        marks = parse_marks(text)
    except MarkerError:
        return
    assert isinstance(marks, Marks)


@given(st.lists(st.tuples(st.sampled_from(["429", "529"]), st.integers(0, 3)), max_size=4), st.integers(1, 20))
def test_a_script_runs_step_by_step_and_then_stops(steps: list[tuple[str, int]], attempt: int) -> None:
    unrolled = [name for name, times in steps for _ in range(times)]
    expected = unrolled[attempt - 1] if attempt <= len(unrolled) else None
    assert scripted_fault([Step(*step) for step in steps], attempt) == expected


def test_chance_strikes_as_often_as_it_should() -> None:
    shares = {"429": 0.1, "500": 0.05, "400": 0.02}
    drawn = Counter(chosen_fault(shares, 1, f"body {number}", 1) for number in range(5000))
    for name, share in shares.items():
        assert 0.7 * share < drawn[name] / 5000 < 1.3 * share


def test_a_wrong_request_stays_wrong_and_other_faults_pass() -> None:
    shares = {"400": 0.5, "500": 0.25}
    for number in range(200):
        drawn = {chosen_fault(shares, 3, f"body {number}", attempt) for attempt in range(1, 30)}
        assert drawn in ({"400"}, {"500", None})


def replies_in(order: list[str]) -> dict[str, Any]:
    simulator = Simulator(parse_spec("seed=5,latency=1..10,output_tokens=5..50,500=0.2,reset=0.2,429=0.2"))
    found: dict[str, Any] = {}
    for content in order:
        reply = ask(simulator, content)
        assert reply.arrival is not None
        found.setdefault(content, []).append((reply.arrival.action, reply.delay_s, reply.arrival.output_tokens))
    return found


@given(st.permutations([f"question {number}" for number in range(12)] * 2))
def test_what_a_body_meets_does_not_depend_on_the_order(order: list[str]) -> None:
    assert replies_in(order) == replies_in(sorted(order))


def test_another_seed_is_another_world() -> None:
    def world(seed: int) -> list[int]:
        simulator = Simulator(parse_spec(f"seed={seed},500=0.5"))
        return [ask(simulator, f"question {number}").status for number in range(50)]

    assert world(1) == world(1) != world(2)
