"""What attempts cost: the bill of each, the sums the settlements keep, the screen, and the ledger."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from batchrunner.errors import Exit, UsageError
from batchrunner.model import Attempt, Bill, ErrorClass, Outcome, Success, Usage
from batchrunner.prices import LIST_PRICES, OwnPrices, Tag, Tariff, requested_model
from batchrunner.screen import usd
from batchrunner.store.accounts import LEDGER_COLUMNS
from batchrunner.store.changes import Settled, Started
from batchrunner.store.read import Reader
from batchrunner.store.spending import PriceKept
from running import rows
from store_helpers import NOW, StoreMaker, answer, at, building, failure, report, requests, typed

AT = at("11:00:03")
HAIKU = "claude-haiku-4-5"


def attempt(params: dict[str, object] | None = None, max_tokens: int = 1000) -> Attempt:
    body = {"model": HAIKU, "max_tokens": max_tokens, "messages": []} | (params or {})
    return Attempt(1, 1, "r1", "haiku", json.dumps(body, separators=(",", ":")), max_tokens)


def tariff(own: OwnPrices = LIST_PRICES) -> Tariff:
    return Tariff([(own.name or None, own)])


def said(usage: Usage, **fields: object) -> Success:
    return replace(answer(), usage=usage, **fields)  # type: ignore[arg-type]


# The bill of one attempt.


def test_an_answer_costs_what_its_usage_says_by_the_price_of_the_model_that_answered() -> None:
    bill = tariff().bill(attempt({"model": "claude-opus-5"}), said(Usage(1000, 100)), AT)
    assert (bill.model, bill.possible_usd) == (HAIKU, None)
    assert bill.cost_usd == pytest.approx(0.0015)


def test_an_answer_that_was_not_accepted_costs_as_much() -> None:
    truncated = failure(ErrorClass.TRUNCATED, kept=said(Usage(1000, 100)))
    assert tariff().bill(attempt(), truncated, AT).cost_usd == pytest.approx(0.0015)


def test_the_request_names_the_model_where_a_relay_has_a_name_of_its_own() -> None:
    bill = tariff().bill(attempt(), said(Usage(1000, 100), model="anthropic/claude-haiku-4.5"), AT)
    assert bill.model == HAIKU
    assert bill.cost_usd == pytest.approx(0.0015)


@pytest.mark.parametrize(
    "outcome",
    [
        said(Usage(1000, 100), model="gpt-5"),
        said(Usage(10, 10, speed="fast")),  # no such price
    ],
    ids=["unknown model", "no such mode"],
)
def test_what_cannot_be_priced_is_unknown_and_not_free(outcome: Outcome) -> None:
    bill = tariff().bill(attempt({"model": "gpt-5"}), outcome, AT)
    assert (bill.cost_usd, bill.possible_usd) == (None, None)
    assert bill.price is not None


@pytest.mark.parametrize("usage", [Usage(0, 0), Usage(12, 0, is_told=False)], ids=["none", "half of it"])
def test_an_answer_that_does_not_say_what_it_took_costs_at_most_what_was_asked_for(usage: Usage) -> None:
    bill = tariff().bill(attempt(), said(usage), AT)
    assert (bill.cost_usd, bill.possible_usd) == (None, tariff().most(attempt(), AT).possible_usd)


def test_what_was_refused_costs_nothing_and_what_may_have_been_answered_at_most_all_that_was_asked_for() -> None:
    asked = attempt({"messages": [{"role": "user", "content": "x" * 4000}]}, max_tokens=2000)
    assert tariff().bill(asked, failure(ErrorClass.RATE_LIMITED), AT).cost_usd == 0
    timeout = tariff().bill(asked, failure(ErrorClass.TIMEOUT, possibly_paid=True), AT)
    assert timeout.cost_usd is None
    # Half of the characters as tokens of input, and every token of output.
    assert timeout.possible_usd == pytest.approx((len(asked.params) / 2 * 1 + 2000 * 5) / 1e6)
    assert tariff().most(asked, AT).possible_usd == timeout.possible_usd


def test_declining_before_any_output_costs_nothing_unless_the_api_bills_that_cause() -> None:
    assert tariff().bill(attempt(), said(Usage(1000, 5), billed=False), AT).cost_usd == 0


@pytest.mark.parametrize(
    ("params", "factor"),
    [
        ({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}, 1.25),
        ({"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, 2),
    ],
    ids=["5m", "1h"],
)
def test_a_marked_prompt_may_cost_as_much_as_writing_all_of_it_to_the_cache(
    params: dict[str, object], factor: float
) -> None:
    marked = attempt(params, max_tokens=0)
    assert tariff().most(marked, AT).possible_usd == pytest.approx(factor * len(marked.params) / 2 / 1e6)


def test_fast_mode_and_the_place_make_it_dearer() -> None:
    plain = tariff().most(attempt({"model": "claude-opus-5"}, 10_000), AT).possible_usd
    dear = (
        tariff()
        .most(attempt({"model": "claude-opus-5", "speed": "fast", "inference_geo": "us"}, 10_000), AT)
        .possible_usd
    )
    assert plain is not None
    assert dear == pytest.approx(plain * 2.2, rel=0.01)


def test_caching_and_batches_say_what_they_saved() -> None:
    bill = tariff().bill(attempt(), said(Usage(100, 0, 0, 10_000)), AT)
    assert bill.saved_cache_usd == pytest.approx(0.009)
    written = tariff().bill(attempt(), said(Usage(100, 0, 10_000, 0)), AT)
    assert written.saved_cache_usd == pytest.approx(-0.0025)
    batch = tariff().bill(attempt(), said(Usage(1000, 100, service_tier="batch")), AT)
    assert batch.cost_usd == batch.saved_batches_usd == pytest.approx(0.00075)


def test_each_endpoint_and_each_day_has_its_own_price_on_record_once() -> None:
    kept: list[Tag] = []
    prices = Tariff([("main", LIST_PRICES), ("relay", OwnPrices(2.0, name="relay"))], keep=kept.append)
    elsewhere = replace(attempt(), endpoint=1)
    for tried in (attempt(), elsewhere, attempt(), elsewhere):
        prices.bill(tried, said(Usage(1000, 0)), AT)
    prices.bill(attempt(), said(Usage(1000, 0)), "2026-11-23T00:00:00.000Z")
    assert [(tag.endpoint, tag.priced_at[:10]) for tag in kept] == [
        ("main", "2026-11-22"),
        ("relay", "2026-11-22"),
        ("main", "2026-11-23"),
    ]
    assert len({tag.number for tag in kept}) == 3
    assert prices.bill(elsewhere, said(Usage(1000, 0)), AT).cost_usd == pytest.approx(0.002)
    again = Tariff([("main", LIST_PRICES)]).tag(HAIKU, 0, "2026-11-22")
    assert again.number == kept[0].number  # the same in every run


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "messages": [{"content": '{"model":"no"}'}]},
        {"messages": [{"model": "no"}], "model": "m", "max_tokens": 5, "system": 'say "model":"no"'},
        {"messages": [], "model": "m", "tools": [{"model": "no"}]},
        {"messages": [], "model": "m", "metadata": {"model": "no"}},
        {"metadata": {"model": "no"}, "model": "m"},
    ],
    ids=["first", "before simple ones", "before a list", "before an object", "after an object"],
)
def test_the_model_is_found_wherever_it_stands(body: dict[str, object]) -> None:
    assert requested_model(json.dumps(body, separators=(",", ":"))) == "m"
    assert requested_model(json.dumps(body)) == "m"


# The sums and the screens.


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        yield maker


class Billed:
    """Writes attempts with their bills, as a run does."""

    def __init__(self, store: StoreMaker) -> None:
        self._store = store
        self._tariff = Tariff([(None, LIST_PRICES)], keep=self._keep)
        self._numbers: dict[int, int] = {}

    def _keep(self, tag: Tag) -> None:
        self._store.write(PriceKept(tag.number, tag.model, tag.endpoint, tag.priced_at, tag.figures))

    def start(self, seq: int) -> Attempt:
        number = self._numbers[seq] = self._numbers.get(seq, 0) + 1
        made = replace(attempt(), seq=seq, number=number, custom_id=f"r{seq}")
        self._store.write(Started(made, self._store.run_id, AT, None, self._tariff.most(made, AT)))
        return made

    def settle(self, seq: int, outcome: Outcome, decision: object = None) -> None:
        from batchrunner.model import Fail, Settlement

        made = self.start(seq)
        decided = None if isinstance(outcome, Success) else decision or Fail()
        bill = self._tariff.bill(made, outcome, AT)
        self._store.write(Settled(Settlement(made, outcome, decided, AT, None, bill)))  # type: ignore[arg-type]


@pytest.fixture
def spent(store: StoreMaker) -> StoreMaker:
    """Six requests: two answered, one truncated, one timed out, one refused, one left open by a run that died."""
    store.take_in(requests(8))
    store.begin()
    billed = Billed(store)
    billed.settle(1, said(Usage(1_000_000, 100_000, 0, 1_000_000)))
    billed.settle(2, said(Usage(1_000_000, 100_000), model="gpt-5"))
    billed.settle(3, failure(ErrorClass.TRUNCATED, kept=said(Usage(0, 100_000, 1_000_000, 0, 1_000_000))))
    billed.settle(4, failure(ErrorClass.TIMEOUT, possibly_paid=True))
    billed.settle(5, failure(ErrorClass.INVALID))
    billed.start(6)
    store.end(ending="died")
    return store


def test_the_sums_are_those_of_the_attempts_whatever_they_are_grouped_by(spent: StoreMaker) -> None:
    money = report("spend", spent.path)
    # 1 + 0.5 + 0.1 for the first; the second is a model of nobody, asked for as haiku: 1.5; 0.5 + 2 for the third.
    assert money["known_usd"] == pytest.approx(1.6 + 1.5 + 2.5)
    assert money["unpriced_answers"] == 0
    assert money["possibly_billed_attempts"] == 2
    most = 2 * ((len(attempt().params) / 2 + 1000 * 5) / 1e6)
    assert money["possibly_billed_usd"] == pytest.approx(most)
    assert money["saved_cache_usd"] == pytest.approx(0.9 - 1.0)
    for kind in ("model", "endpoint", "day", "class"):
        groups = money[f"by_{kind}"]
        assert sum(group["cost_usd"] for group in groups) == pytest.approx(money["known_usd"])
        assert sum(group["attempts"] for group in groups) == 6
    assert [group["class"] for group in money["by_class"]] == [
        "abandoned",
        "invalid",
        "success",
        "timeout",
        "truncated",
    ]
    assert [group["model"] for group in money["by_model"]] == [HAIKU]
    assert rows(spent.path, "SELECT sum(cost_usd), sum(possible_usd) FROM attempts")[0] == pytest.approx((5.6, most))
    assert rows(spent.path, "SELECT sum(cost_usd), sum(possible_usd) FROM spend")[0] == pytest.approx((5.6, most))
    assert rows(spent.path, "SELECT cost_usd FROM lane_totals")[0] == pytest.approx((5.6,))


def test_one_screen_says_what_it_cost_and_what_it_will(spent: StoreMaker) -> None:
    screen = typed("spend", spent.path).stdout
    assert "spent      $5.60" in screen
    assert "at most $0.0101 more: 2 attempts may have been billed without an answer" in screen
    assert "projected  about $8.96 in all" in screen  # 5 of 8 are final
    assert "saved      $0.10 lost by the prompt cache" in screen
    assert "claude-haiku-4-5: $1.00 input, $5.00 output per million tokens (2026-11-22 genai-prices" in screen
    assert len(screen.splitlines()) < 25
    assert "spent      $5.60" in typed("status", spent.path).stdout


def test_what_a_living_run_has_in_flight_is_told_apart(spent: StoreMaker) -> None:
    spent.begin("11:59:50")
    Billed(spent).start(7)
    with Reader(spent.path) as reader:
        classes = {account.class_: account.attempts for account in reader.accounts(NOW)}
    assert (classes["in flight"], classes["abandoned"]) == (1, 1)


def test_costs_that_are_not_known_are_said_to_be(store: StoreMaker) -> None:
    store.take_in(requests(2))
    store.begin()
    Billed(store).settle(1, said(Usage(10, 10, speed="fast")))
    money = report("spend", store.path)
    assert (money["known_usd"], money["unpriced_answers"], money["projected_usd"]) == (None, 1, None)
    assert "unknown: no price is known for 1 answer" in typed("spend", store.path).stdout
    assert report("status", store.path)["tokens"]["cost_usd"] is None


def test_before_the_first_run_the_estimate_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"check .*jobs\.jsonl --estimate` says what it will cost"):
        typed("spend", tmp_path / "jobs.jsonl")


def test_nothing_spent_is_no_error(store: StoreMaker) -> None:
    store.take_in(requests(2))
    assert report("spend", store.path)["known_usd"] == 0
    assert "nothing" in typed("spend", store.path).stdout


def test_the_ledger_has_a_row_for_every_attempt_and_adds_up(spent: StoreMaker, tmp_path: Path) -> None:
    found = typed("export", spent.path, "--ledger")
    table = list(csv.DictReader(io.StringIO(found.stdout)))
    assert tuple(table[0]) == LEDGER_COLUMNS
    assert [row["custom_id"] for row in table] == ["r1", "r2", "r3", "r4", "r5", "r6"]
    assert [row["class"] for row in table] == ["success", "success", "truncated", "timeout", "invalid", "open"]
    assert [row["possibly_billed"] for row in table] == ["0", "0", "0", "1", "0", "1"]
    assert sum(float(row["cost_usd"] or 0) for row in table) == pytest.approx(5.6)
    assert {row["model"] for row in table} == {HAIKU}
    assert table[0]["priced_at"].startswith("2026-11-22 genai-prices")
    assert "wrote 6 attempts to stdout: $5.60 known; at most $0.0101 more for 2 attempts" in found.stderr
    out = tmp_path / "ledger.jsonl"
    assert typed("export", spent.path, "--ledger", "-o", out).exit_code == Exit.OK
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert lines[0]["cost_usd"] == pytest.approx(1.6)
    assert (lines[3]["cost_usd"], lines[3]["possible_usd"]) == (None, pytest.approx(0.00503, rel=0.02))


def test_a_ledger_takes_no_options_of_requests_and_never_overwrites(spent: StoreMaker, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave out --failed"):
        typed("export", spent.path, "--ledger", "--failed")
    with pytest.raises(UsageError, match="CSV or JSON lines"):
        typed("export", spent.path, "--ledger", "--format", "batch-results")
    out = tmp_path / "ledger.csv"
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="-f replaces it"):
        typed("export", spent.path, "--ledger", "-o", out)
    with pytest.raises(UsageError, match="part of its store"):
        typed("export", spent.path, "--ledger", "-f", "-o", spent.path)


def test_the_cost_of_an_answer_stands_in_the_export(spent: StoreMaker) -> None:
    found = list(csv.DictReader(io.StringIO(typed("export", spent.path).stdout)))
    assert [row["cost_usd"] for row in found[:5]] == ["1.6", "1.5", "2.5", "", "0.0"]


def test_an_unapplied_bill_is_unknown() -> None:
    assert Bill().cost_usd is None


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (1234.5, "$1,234.50"),
        (0.0312, "$0.0312"),
        (0.5, "$0.50"),
        (0.00421, "$0.0042"),
        (0.0000042, "$0.0000042"),
        (-0.2, "-$0.20"),
    ],
)
def test_amounts_are_shown_with_at_least_two_figures(amount: float, text: str) -> None:
    assert usd(amount) == text
