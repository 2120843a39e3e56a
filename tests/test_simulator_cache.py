"""The simulated prompt cache: who writes, who reads, from when on, for how long."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.simulator import Ledger, Simulator, parse_spec
from batchrunner.simulator.cache import NO_USE, CacheUse, PromptCache
from test_simulator_api import HEADERS, error_of

MARK: dict[str, Any] = {"type": "ephemeral"}
HOUR = MARK | {"ttl": "1h"}
#: 1,500 tokens, with what surrounds it.
LONG = "x" * (6000 - len('{"text":"","type":"text"}'))
SONNET = "claude-sonnet-5"  # keeps what has 1,024 tokens


def text(words: str, mark: object = None) -> dict[str, Any]:
    return {"type": "text", "text": words} | ({} if mark is None else {"cache_control": mark})


def body(question: str = "hi", mark: object = MARK, words: str = LONG, **more: Any) -> dict[str, Any]:
    system = {"system": [text(words, mark)]}
    return {"model": SONNET, "max_tokens": 50, "messages": [{"role": "user", "content": question}], **system, **more}


def used(cache: PromptCache, params: dict[str, Any], now: float, begins_at: float | None = None) -> CacheUse:
    lookup = cache.look(params, now)
    cache.use(lookup, now, now if begins_at is None else begins_at)
    return lookup.use


def test_an_entry_can_be_read_once_the_answer_that_writes_it_has_begun() -> None:
    cache = PromptCache()
    assert used(cache, body("a"), 0, 2) == CacheUse(write_5m=1500)
    assert used(cache, body("b"), 1, 3) == CacheUse(write_5m=1500)
    assert used(cache, body("c"), 2) == CacheUse(read=1500)


@pytest.mark.parametrize(("mark", "lifetime"), [(MARK, 300), (HOUR, 3600)], ids=["5m", "1h"])
def test_an_entry_lives_for_its_lifetime_after_each_read(mark: object, lifetime: float) -> None:
    cache = PromptCache()
    used(cache, body(mark=mark), 0, 1)
    assert used(cache, body(mark=mark), lifetime).read == 1500
    assert used(cache, body(mark=mark), 2 * lifetime - 1).read == 1500
    assert used(cache, body(mark=mark), 3 * lifetime - 1).written == 1500


def test_what_is_short_is_not_kept_and_nothing_says_so() -> None:
    cache = PromptCache()
    short = body(words="x" * 4000)
    assert used(cache, short, 0) == used(cache, short, 1) == NO_USE
    assert used(cache, body(words="x" * 4000, model="claude-opus-5-5"), 2).written > 1000


def test_each_model_has_its_own_entries() -> None:
    cache = PromptCache()
    used(cache, body(), 0)
    assert used(cache, body(model="claude-sonnet-4-6"), 1).read == 0


def test_without_a_marker_nothing_is_read_though_it_is_there() -> None:
    cache = PromptCache()
    used(cache, body(), 0)
    assert used(cache, body(mark=None), 1) == NO_USE


def test_several_marks_write_what_the_longest_known_prefix_lacks() -> None:
    cache = PromptCache()
    two = [text(LONG, HOUR), text(LONG + "2", MARK)]
    assert used(cache, body(system=two), 0) == CacheUse(write_1h=1500, write_5m=1500)
    other = [text(LONG, HOUR), text(LONG + "3", MARK)]
    assert used(cache, body(system=other), 1) == CacheUse(read=1500, write_5m=1500)
    assert used(cache, body(system=two), 2) == CacheUse(read=3000)


def test_a_conversation_that_has_grown_reads_what_it_was() -> None:
    cache = PromptCache()
    first = body(words="s", messages=[{"role": "user", "content": LONG}], cache_control=MARK)
    assert used(cache, first, 0).write_5m == 1500 + 6
    grown = [*first["messages"], {"role": "assistant", "content": "yes"}, {"role": "user", "content": LONG + "?"}]
    assert used(cache, body(words="s", messages=grown, cache_control=MARK), 1).read == 1500 + 6


def test_it_looks_back_twenty_blocks_and_no_further() -> None:
    for between, read in ((19, 1500), (20, 0)):
        cache = PromptCache()
        used(cache, body(), 0)
        system = [text(LONG), *(text(str(number)) for number in range(between - 1)), text("end", MARK)]
        assert used(cache, body(system=system), 1).read == read


def test_an_answer_that_never_came_writes_nothing_but_keeps_what_it_read() -> None:
    cache = PromptCache()
    cache.use(cache.look(body(), 0), 0, 1, is_answered=False)
    assert used(cache, body(), 2, 2).written == 1500
    cache.use(cache.look(body(), 300), 300, 301, is_answered=False)
    assert used(cache, body(), 400).read == 1500


def test_what_has_expired_is_forgotten() -> None:
    cache = PromptCache()
    for number in range(5000):
        used(cache, body(words=f"{number:05d}" + LONG), float(number))
    assert len(cache._entries) <= 2048


EVENTS = st.lists(st.tuples(st.floats(0, 400), st.integers(0, 2), st.booleans()), max_size=30)


@settings(deadline=None)
@given(EVENTS)
def test_every_token_is_counted_once_and_reads_follow_a_write(events: list[tuple[float, int, bool]]) -> None:
    cache, now = PromptCache(), 0.0
    begun: dict[int, list[float]] = {}
    for pause, kind, hour in events:
        now += pause
        lookup = cache.look(body(mark=HOUR if hour else MARK, words=f"{kind}{LONG}"), now)
        cache.use(lookup, now, now + 1)
        assert lookup.use.read + lookup.use.written == 1500
        if lookup.use.read:
            assert any(at <= now <= at + 3600 for at in begun[kind])
        begun.setdefault(kind, []).append(now + 1)


def ask(simulator: Simulator, params: dict[str, Any], now: float) -> dict[str, Any]:
    reply = simulator.respond("POST", "/v1/messages", HEADERS, json.dumps(params).encode(), now)
    simulator.finish(reply, now, 1, delivered=True)
    assert reply.status == 200, reply.body
    usage: dict[str, Any] = json.loads(reply.body)["usage"]
    return usage


def test_the_usage_says_what_was_cached_and_adds_up() -> None:
    simulator = Simulator(parse_spec("latency=5"))
    plain = ask(simulator, body(mark=None), 0)
    assert (plain["cache_creation_input_tokens"], plain["cache_read_input_tokens"]) == (0, 0)
    wrote = ask(simulator, body(mark=HOUR), 0)
    assert wrote["cache_creation"] == {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1500}
    assert wrote["cache_creation_input_tokens"] == 1500
    assert wrote["input_tokens"] + 1500 == plain["input_tokens"]  # a marker is no text
    assert ask(simulator, body(mark=HOUR), 0.99)["cache_creation_input_tokens"] == 1500
    read = ask(simulator, body(mark=HOUR), 1)
    assert (read["cache_read_input_tokens"], read["input_tokens"]) == (1500, wrote["input_tokens"])


def test_what_is_read_does_not_count_towards_the_limit() -> None:
    simulator = Simulator(parse_spec("latency=1,itpm=3200,strict=1"))
    ask(simulator, body(), 0)
    for second in range(1, 50):
        ask(simulator, body(str(second)), second)
    reply = simulator.respond("POST", "/v1/messages", HEADERS, json.dumps(body(words="y" + LONG)).encode(), 50)
    assert reply.status == 429


def test_a_gateway_may_ignore_markers() -> None:
    simulator = Simulator(parse_spec("cache=0"))
    assert ask(simulator, body(), 0)["cache_creation_input_tokens"] == 0
    assert ask(simulator, body(), 9)["cache_read_input_tokens"] == 0


def test_the_ledger_keeps_account_of_the_cache(tmp_path: Any) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        simulator = Simulator(parse_spec("latency=1"), ledger)
        for second in range(4):
            ask(simulator, body(str(second), mark=HOUR if second else MARK), second)
        summary = ledger.summary()
        again = Ledger.read(path).summary()
    assert (summary.cache_writes, summary.cache_reads) == (1, 3)
    assert (summary.cache_write_tokens, summary.cache_read_tokens) == (1500, 4500)
    assert again == summary


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ([text(str(number), MARK) for number in range(5)], "A maximum of 4 blocks"),
        ([text("a", MARK | {"ttl": "2h"})], "should be '5m' or '1h'"),
        ([text("a", MARK), text("b", HOUR)], "must not come after"),
    ],
    ids=["five", "ttl", "order"],
)
def test_markers_that_make_no_sense_are_refused(system: object, said: str) -> None:
    reply = Simulator().respond("POST", "/v1/messages", HEADERS, json.dumps(body(system=system)).encode(), 0)
    status, kind, message = error_of(reply)
    assert (status, kind) == (400, "invalid_request_error")
    assert said in message
