"""Every known body over the wire, through every sender; and bodies that nobody has seen yet."""

import gzip
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_helpers import KEY, MESSAGE, attempt, reply, scripted, sse
from batchrunner.api.classify import classify_error, classify_message
from batchrunner.model import ErrorClass, Failure, Outcome, Success
from error_bodies import BODIES, api, encoded, foreign, is_message
from test_api_contract import Counter, sender_to

E = ErrorClass
KINDS = ["direct", "sdk", "injected"]


async def outcomes_of(kind: str, replies: Sequence[bytes], *, stream: bool = False) -> list[Outcome]:
    """Return what comes of one request after the other, each answered by the next of *replies*."""
    with anyio.fail_after(60):
        async with scripted(*[[answer] for answer in replies]) as server, sender_to(kind, server.url) as sender:
            outcomes = [await sender.send(attempt(stream=stream), Counter()) for _ in replies]
            assert len(server.arrivals) == len(replies), "never sent again by the sender itself"
    return outcomes


def is_failure(outcome: Outcome) -> TypeGuard[Failure]:
    return isinstance(outcome, Failure)


Row = tuple[str, int | None, Any, ErrorClass]


def classes(table: Sequence[Row], outcomes: Sequence[Outcome]) -> dict[str, ErrorClass | None]:
    pairs = zip(table, outcomes, strict=True)
    return {name: outcome.error_class if is_failure(outcome) else None for (name, *_), outcome in pairs}


@pytest.mark.parametrize("kind", KINDS)
async def test_each_body_gets_its_class_over_the_wire(kind: str) -> None:
    table = [row for row in BODIES if row[1] is not None]
    assert len(table) >= 200
    outcomes = await outcomes_of(kind, [reply(encoded(body), status or 0) for _, status, body, _ in table])
    assert classes(table, outcomes) == {name: expected for name, _, _, expected in table}


@pytest.mark.parametrize("kind", ["sdk", "injected"])
async def test_each_error_in_a_stream_gets_its_class_over_the_wire(kind: str) -> None:
    """Status 200, and then an error event: whatever it costs, it may have been paid."""
    table = [row for row in BODIES if row[1] is None and row[2] != ""]
    streams = [sse(b"event: error\ndata: " + encoded(body) + b"\n\n") for _, _, body, _ in table]
    outcomes = await outcomes_of(kind, streams, stream=True)
    assert classes(table, outcomes) == {name: expected for name, _, _, expected in table}
    assert all(is_failure(outcome) and outcome.possibly_paid for outcome in outcomes)


LEAKS = [
    reply(foreign(f"invalid token {KEY}"), 401),
    reply(f"no access for {KEY}", 403),
    reply(f"<html><title>{KEY}</title></html>", 502),
    reply({"detail": [KEY, {"msg": f"Bearer {KEY}"}]}, 422),
    reply(api("invalid_request_error", f"header authorization: Bearer {KEY}"), 400),
    reply({**MESSAGE, "type": KEY}),
    reply("", 307, f"location: https://elsewhere.example/?key={KEY}"),
    reply("", 500, f"request-id: {KEY}"),
]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_that_a_relay_echoes_gets_into_no_failure(kind: str) -> None:
    for outcome in await outcomes_of(kind, LEAKS):
        assert is_failure(outcome)
        assert KEY not in repr(outcome)


# What nobody has seen yet: known bodies, damaged, in other statuses, headers and encodings.


def wrapped(body: bytes) -> bytes:
    return json.dumps({"detail": body.decode("utf-8", "replace")}).encode()


def listed(body: bytes) -> bytes:
    return b"[" + body + b"]"


def marked(body: bytes) -> bytes:
    return b"\xef\xbb\xbf" + body


def wide(body: bytes) -> bytes:
    return body.decode("utf-8", "replace").encode("utf-16")


def escaped(body: bytes) -> bytes:
    return body.replace(b"e", b"\\u0065")


def halved(body: bytes) -> bytes:
    return body.replace(b"a", b"\\ud800")


bodies = st.sampled_from([encoded(row[2]) for row in BODIES] + [json.dumps(MESSAGE).encode()])
disguises: st.SearchStrategy[Callable[[bytes], bytes]] = st.sampled_from(
    [wrapped, listed, marked, wide, escaped, halved, gzip.compress, bytes.upper, bytes.swapcase]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A known body with some of it cut out, doubled, overwritten or put into something else."""
    body = draw(bodies)
    for _ in range(draw(st.integers(0, 3))):
        at, size = draw(st.integers(0, len(body))), draw(st.integers(0, 40))
        match draw(st.sampled_from(["cut", "double", "write", "splice", "disguise"])):
            case "cut":
                body = body[:at] + body[at + size :]
            case "double":
                body = body[: at + size] + body[at:]
            case "write":
                body = body[:at] + draw(st.binary(max_size=8)) + body[at + size :]
            case "splice":
                body = body[:at] + draw(bodies)[at:]
            case _:
                body = draw(disguises)(body)
    return body


header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30) | st.sampled_from(
    ["nan", "inf", "-1", "0", "1e999", "Wed, 21 Oct 2026 07:28:00 GMT", "9" * 400, "7, 8", "true"]
)
headers = st.dictionaries(
    st.sampled_from(
        [
            *("retry-after", "retry-after-ms", "request-id", "location", "date", "x-should-retry"),
            *("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining"),
        ]
    ),
    header_values,
    max_size=4,
)


def check(outcome: Outcome) -> None:
    """Whatever came: a message is a success, everything else a failure of a known class, fit to be shown and stored."""
    if isinstance(outcome, Success):
        assert is_message(outcome.message.encode())
        outcome.text.encode()
        return
    assert outcome.error_class in set(ErrorClass)
    assert outcome.message
    assert outcome.message.isprintable()
    assert len(outcome.message) <= 300
    assert outcome.retry_after_s is None or 0 < outcome.retry_after_s <= 300
    for text in (outcome.message, outcome.body or "", outcome.api_request_id or ""):
        text.encode()


@given(mutated(), st.none() | st.integers(100, 999), headers)
@settings(max_examples=600, deadline=None)
def test_no_mutation_raises_or_stays_unclassified(body: bytes, status: int | None, headers: dict[str, str]) -> None:
    failure = classify_error(status, headers, body)
    assert isinstance(failure, Failure)
    check(failure)
    outcome = classify_message(200, headers, body)
    assert isinstance(outcome, Success) <= is_message(body)
    check(outcome)


#: Statuses with which no body may come are another matter; 1xx announce a response and are none.
statuses = st.just(200) | st.integers(200, 599).filter(lambda status: status not in {204, 205, 304})
encodings = st.sampled_from(
    ["", "", "content-encoding: gzip", "content-encoding: deflate", "content-encoding: identity"]
)
content_types = st.sampled_from(["", "text/plain", "application/json; charset=utf-16", "text/event-stream", "x/y"])


@st.composite
def mutated_replies(draw: st.DrawFn) -> bytes:
    lines = [f"{name}: {value}" for name, value in draw(headers).items()]
    encoding = draw(encodings)
    return reply(draw(mutated()), draw(statuses), *lines, *([encoding] if encoding else []), kind=draw(content_types))


@pytest.mark.parametrize("kind", KINDS)
@given(replies=st.lists(mutated_replies(), min_size=5, max_size=40))
@settings(max_examples=12, deadline=None)
def test_no_mutation_on_the_wire_raises_or_stays_unclassified(kind: str, replies: list[bytes]) -> None:
    for outcome in anyio.run(outcomes_of, kind, replies):
        check(outcome)


@given(
    replies=st.lists(st.lists(mutated(), min_size=1, max_size=3), min_size=5, max_size=20),
    name=st.sampled_from(["error", "message_start", "x"]),
)
@settings(max_examples=12, deadline=None)
def test_no_mutation_in_a_stream_raises_or_stays_unclassified(replies: list[list[bytes]], name: str) -> None:
    streams = [
        sse(*[f"event: {name}\ndata: ".encode() + body.replace(b"\n", b" ") + b"\n\n" for body in bodies_])
        for bodies_ in replies
    ]

    async def run() -> list[Outcome]:
        return await outcomes_of("sdk", streams, stream=True)

    for outcome in anyio.run(run):
        check(outcome)
        assert is_failure(outcome), "nothing here is a whole stream"
