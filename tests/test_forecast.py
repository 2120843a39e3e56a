"""What a job will take: `check --estimate`, the first lines of a run, the samples of the store that they go by."""

import contextlib
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from batchrunner.errors import Exit, UsageError
from batchrunner.forecast import cost_words, forecast, forecast_of, told_in_short
from batchrunner.policy.projection import Drawn
from batchrunner.policy.window import Rate
from batchrunner.prices import LIST_PRICES, OwnPrices
from batchrunner.prices.sizing import JobSize
from batchrunner.settings import Limits
from batchrunner.store import sampled
from batchrunner.store.files import open_reader
from running import KEY, MODEL, job_file, rows, simulator_thread
from store_helpers import building, requests, typed

TODAY = date(2026, 11, 25)


def job(tmp_path: Path, count: int = 120) -> Path:
    return job_file(
        tmp_path / "jobs.jsonl",
        [{"id": f"r{n}", "prompt": f"Question {n}? " + "and some words more " * (n % 30)} for n in range(count)],
    )


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def check(path: Path, *words: str) -> Result:
    return typed("check", path, "--model", MODEL, "--max-tokens", 60, "--estimate", *words)


def checked(path: Path, *words: str) -> dict[str, Any]:
    done = check(path, "--json", *words)
    assert done.exit_code == Exit.OK, done.output
    found = json.loads(done.stdout)["estimate"]
    assert isinstance(found, dict)
    return found


def run(path: Path, *words: str) -> str:
    done = typed("run", path, "--model", MODEL, "--max-tokens", 60, "--simulate", "--progress", "none", *words)
    assert done.exit_code == Exit.OK, done.output
    return done.stderr


def test_an_estimate_holds_what_the_job_costs_and_is_close_once_there_are_answers(tmp_path: Path) -> None:
    path = job(tmp_path)
    before = checked(path, "--simulate", "--rpm", "600")
    assert (before["requests"], before["by_answers"], before["unpriced_models"]) == (120, 0, [])
    assert before["max_output_tokens"] == 120 * 60
    assert before["seconds"] == pytest.approx([12, 12, 12])
    assert (before["binds"], before["limits_known"]) == ("requests", True)
    assert before["batch_usd"] == pytest.approx([usd / 2 for usd in before["live_usd"]])
    assert run(path, "--first", "60").count("estimate (simulated): $") == 1
    after = checked(path, "--simulate")
    assert (after["requests"], after["by_answers"]) == (60, 60)
    run(path)
    store = path.with_suffix(".db")
    whole = rows(store, "SELECT sum(cost_usd) FROM attempts")[0][0]
    rest = rows(store, "SELECT sum(cost_usd) FROM attempts WHERE seq > 60")[0][0]
    assert before["live_usd"][0] <= whole <= before["live_usd"][2]
    assert before["live_usd"][2] <= 4.001 * before["live_usd"][0]
    assert after["live_usd"][0] <= rest <= after["live_usd"][2] <= 1.35 * after["live_usd"][0]
    assert whole < before["worst_usd"]


def test_of_a_finished_job_nothing_is_left_to_send(tmp_path: Path) -> None:
    path = job(tmp_path, 12)
    run(path)
    assert "estimate   nothing is left to send" in check(path, "--simulate").stdout
    assert checked(path, "--simulate")["live_usd"] == [0, 0, 0]


def test_the_api_counts_a_sample_if_it_is_asked_to(tmp_path: Path) -> None:
    path = job(tmp_path)
    with simulator_thread() as (url, ledger):
        counted = checked(path, "--count-tokens", "--base-url", url)
        assert [one.path for one in ledger.seen] == ["/v1/messages/count_tokens"] * 24
    guessed = checked(path, "--simulate")
    assert (counted["counted_requests"], counted["not_counted"]) == (24, None)
    assert counted["input_tokens"][2] / counted["input_tokens"][0] < 1.07
    assert guessed["input_tokens"][2] / guessed["input_tokens"][0] > 1.5
    run(path)
    true = rows(path.with_suffix(".db"), "SELECT sum(input_tokens) FROM attempts")[0][0]
    assert counted["input_tokens"][0] * 0.98 <= true <= counted["input_tokens"][2] * 1.02


def test_an_endpoint_that_cannot_count_leaves_an_estimate_by_size(tmp_path: Path) -> None:
    done = check(job(tmp_path, 5), "--count-tokens", "--base-url", "http://127.0.0.1:9")
    assert "tokens were not counted: " in done.stdout
    assert "cost       $" in done.stdout


def test_counting_is_part_of_an_estimate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --estimate too"):
        typed("check", job(tmp_path, 1), "--model", MODEL, "--count-tokens")


# As arithmetic.


def size(count: int = 100, model: str = MODEL) -> JobSize:
    made = JobSize()
    for _ in range(count):
        made.add(json.dumps({"model": model, "messages": ["x" * 400]}, separators=(",", ":")), model, 1000)
    return made


@pytest.mark.parametrize(
    ("limits", "binds", "at_most_s"),
    [
        (Limits(Rate(60, 60.0)), "requests", 100),
        (Limits(itpm=1000), "input tokens", 1200),
        (Limits(otpm=1000), "output tokens", 3400),
        (Limits(concurrency=1), "calls in flight", 1700),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_limit_that_takes_longest_binds(limits: Limits, binds: str, at_most_s: float) -> None:
    found = forecast(size(), limits, own=LIST_PRICES, today=TODAY)
    assert found.time is not None
    assert (found.time.binds, found.time.seconds.high <= at_most_s) == (binds, True)


def test_an_endpoints_own_prices_are_what_it_will_cost() -> None:
    listed = forecast(size(), Limits(), own=LIST_PRICES, today=TODAY).live_usd
    dear = forecast(size(), Limits(), own=OwnPrices(3, name="relay"), today=TODAY).live_usd
    assert listed is not None
    assert dear == pytest.approx(listed.times(3))


def test_failures_are_no_answers_to_go_by() -> None:
    failed = [Drawn(400, 0.0, 0, 0, 1.0, failed=True)] * 50
    assert forecast(size(), Limits(), own=LIST_PRICES, today=TODAY, sample=failed).projection is None


def test_a_model_without_a_price_is_named_with_the_remedy() -> None:
    found = forecast(size(model="gpt-5"), Limits(), own=LIST_PRICES, today=TODAY)
    assert cost_words(found) == "unknown: no price is known for gpt-5; docs/cost.md says how to give prices"
    assert "unknown" in told_in_short(found, simulated=False)
    assert found.as_json()["live_usd"] is None


# What the store is asked.


def test_a_large_store_is_sized_by_a_part_of_it(tmp_path: Path) -> None:
    with building(tmp_path / "jobs.db") as store:
        store.take_in(requests(9000))
        with contextlib.closing(open_reader(store.path)) as conn:
            found = sampled.pending_size(conn, 9000)
            exact = conn.execute("SELECT sum(length(params)), sum(max_tokens) FROM inputs").fetchone()
            whole = forecast_of(conn, 9000, Limits(), own=LIST_PRICES, today=TODAY)
    (sized,) = found.kinds.values()
    assert found.requests == pytest.approx(9000)
    assert sized.length == pytest.approx(exact[0], rel=0.02)
    assert sized.max_tokens == pytest.approx(exact[1])
    assert whole.estimate.requests == 9000


def test_a_few_of_many_are_sized_by_a_part_of_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    add = JobSize.add

    def counted(self: JobSize, params: str, model: str, max_tokens: int) -> None:
        read.append(params)
        add(self, params, model, max_tokens)

    monkeypatch.setattr(JobSize, "add", counted)
    with building(tmp_path / "jobs.db") as store:
        store.take_in(requests(9000))
        with contextlib.closing(open_reader(store.path)) as conn:
            assert sampled.pending_size(conn, 20).requests == pytest.approx(20)
    assert 2000 <= len(read) <= 3000


def test_what_a_retry_changes_counts(tmp_path: Path) -> None:
    with building(tmp_path / "jobs.db") as store:
        store.take_in(requests(10))
        patch = json.dumps({"max_tokens": 16_000, "model": "claude-opus-5"})
        store.conn.execute("INSERT INTO overrides (seq, patch, created_at) SELECT seq, ?, '' FROM requests", (patch,))
        with contextlib.closing(open_reader(store.path)) as conn:
            found = forecast_of(conn, 10, Limits(), own=LIST_PRICES, today=TODAY)
    assert found.estimate.max_output_tokens == 160_000
    assert list(found.estimate.by_model) == ["claude-opus-5"]


@pytest.mark.parametrize("analyzed", [False, True])
def test_what_waits_is_found_along_its_index_and_what_is_final_from_the_end(tmp_path: Path, *, analyzed: bool) -> None:
    with building(tmp_path / "jobs.db") as store:
        store.take_in(requests(300))
        if analyzed:
            store.conn.execute("ANALYZE")
        with contextlib.closing(open_reader(store.path)) as conn:
            for sql, asked in ((sampled._WAITING, {"step": 2}), (sampled._FINAL, {"most": 400})):
                plan = [row["detail"] for row in conn.execute("EXPLAIN QUERY PLAN " + sql, asked)]
                walks = [step for step in plan if step.startswith("SCAN ")]
                # Attempts from their end; the subquery is what was found of a single request's changes.
                fine = {"SCAN q USING INDEX requests_fresh", "SCAN latest", "SCAN attempts", "SCAN (subquery-1)"}
                assert set(walks) <= fine | {"SCAN q USING COVERING INDEX requests_fresh"}, plan
                assert not [step for step in plan if step.startswith(("SCAN a ", "SCAN i"))], plan
