"""Decisions of the second route: what may go by batches, when to look again, which batch may be ours."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.batch import BATCH_TRANSITIONS, Batch, BatchState, Remote, RowKey, parse_row_id
from batchrunner.clock import stamp
from batchrunner.errors import UsageError
from batchrunner.policy.batching import Polling, may_be, switch_at, warning_of, why_not
from batchrunner.policy.routing import Route, Routing, parse_routing

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LARGE = 1 << 20


def at(hours: float) -> str:
    return stamp(NOW + timedelta(hours=hours))


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({}, None),
        ({"stream": True}, "stream"),
        ({"stream": False}, None),
        ({"speed": "fast"}, "speed"),
        ({"betas": ["x"]}, "betas"),
        ({"fallbacks": [{}]}, "fallbacks"),
        ({"messages": [{"role": "user", "content": 'say "stream": true'}]}, None),
    ],
    ids=["plain", "stream", "no-stream", "speed", "betas", "fallbacks", "in-the-prompt"],
)
def test_some_parameters_keep_a_request_from_batches(more: dict[str, Any], word: str | None) -> None:
    why = why_not(json.dumps({"max_tokens": 9, "messages": [], **more}), 9, LARGE)
    assert (why or "").partition(":")[0] == (word or "")


def test_a_row_without_an_answer_or_too_large_stays_out() -> None:
    assert (why_not("{}", 0, LARGE) or "").startswith("max_tokens 0")
    assert why_not("x" * LARGE, 9, LARGE) is None
    assert (why_not("ü" * (LARGE // 2 + 1), 9, LARGE) or "").startswith("size")


@given(looks=st.integers(0, 10_000), first=st.floats(0.05, 100), cap=st.floats(0.05, 1000))
def test_looks_get_rarer_up_to_a_cap(looks: int, first: float, cap: float) -> None:
    polling = Polling(first, cap)
    assert polling.wait_s(looks) <= polling.wait_s(looks + 1) <= cap


def remote(name: str, created: float, rows: int = 10) -> Remote:
    return Remote(name, BatchState.IN_PROGRESS, at(created), processing=rows)


def test_only_unknown_batches_of_the_same_size_and_age_may_be_ours() -> None:
    ours = Batch(1, "f" * 16, BatchState.SUBMITTING, 10, at(0))
    listed = [
        remote("later", 0.2),
        remote("known", 0.1),
        remote("larger", 0.1, rows=11),
        remote("older", -1),
        remote("soon", -0.1),  # their clock is behind ours
    ]
    assert [found.id for found in may_be(ours, listed, {"known"})] == ["soon", "later"]


def test_live_calls_get_the_time_they_need_and_a_tenth_to_spare() -> None:
    assert switch_at(6 * 3600, 0, 1000) == pytest.approx(5.4 * 3600)
    assert switch_at(3600, 10_000, 1000) == pytest.approx(3240 - 750)
    assert switch_at(60, 10_000, 10) == 0


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        ({"state": "submitting"}, "whether it arrived"),
        ({"state": "ended", "ended_at": at(-1), "results_until": at(24)}, "gone after"),
        ({"state": "ended", "ended_at": at(-1), "results_until": at(24 * 20)}, None),
        ({"state": "in_progress", "expires_at": at(1)}, "expires"),
        ({"state": "in_progress", "expires_at": at(20)}, None),
        ({"state": "collected", "sitting": 0, "ended_at": at(-1), "results_until": at(1)}, None),
    ],
    ids=["doubt", "gone-soon", "time-enough", "expires-soon", "young", "collected"],
)
def test_people_are_warned_before_anything_is_lost(facts: dict[str, Any], word: str | None) -> None:
    batch = {"id": 3, "remote_id": None, "ended_at": None, "results_until": None, "expires_at": None, "sitting": 5}
    said = warning_of(batch | facts, NOW)
    assert (said is None) if word is None else (word in str(said))


@given(nonce=st.from_regex(r"[0-9a-f]{16}", fullmatch=True), seq=st.integers(1, 10**17), number=st.integers(1, 10**8))
def test_row_ids_are_ours_and_fit_the_api(nonce: str, seq: int, number: int) -> None:
    name = RowKey(seq, number).row_id(nonce)
    assert len(name) <= 64
    assert parse_row_id(name) == (nonce, RowKey(seq, number))
    assert parse_row_id(f"{name} ") is None


def test_what_is_closed_stays_closed() -> None:
    for state in BatchState:
        assert state.is_open == bool(BATCH_TRANSITIONS[state])
        assert state in BATCH_TRANSITIONS


def test_what_is_said_of_the_way_is_checked() -> None:
    assert parse_routing({"route": "batches", "deadline": "6h"}).deadline_s == 21_600
    assert parse_routing({}, {"route": "batches", "batch_size": 7}) == Routing(Route.BATCHES, rows=7)
    for wrong in (
        {"route": "ship"},
        {"batch_size": 0},
        {"batch_size": 100_001},
        {"poll_s": 0},
        {"deadline": "soon"},
        {"submit_only": True, "then_live": True},
    ):
        with pytest.raises(UsageError):
            parse_routing(wrong)
