"""Whole runs by batches: what comes back, what it costs, what failed, and what is sent again."""

from pathlib import Path

import anyio
import pytest

from batching import QUICK, by_batches, created, settings, sitting, states
from batchrunner.errors import ChangedRequestsError, Exit, HaltError, UsageError
from batchrunner.policy.caps import Caps
from batchrunner.policy.routing import Route
from batchrunner.policy.tolerance import HaltAt
from batchrunner.settings import RunSettings
from batchrunner.simulator import Simulator, parse_spec
from batchrunner.simulator.server import serve
from running import KEY, WatchedLedger, job_file, paid_extra, right_answers, rows, run_job, simulator


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return job_file(tmp_path / "jobs.jsonl", [f"question {n}" for n in range(250)])


async def test_every_row_is_final_with_its_own_answer_at_half_the_price(path: Path) -> None:
    async with simulator(f"{QUICK},batch_errored=0.05,batch_expired=0.05") as (url, ledger):
        report = await by_batches(path, url)
    assert (report.exit_code, report.totals.succeeded) == (Exit.OK, 250)
    store = path.with_suffix(".db")
    assert right_answers(store)
    assert states(store).keys() == {"collected"}
    assert sitting(store) == 0
    assert paid_extra(store, ledger) == {}
    assert ledger.summary().batch_rows.keys() == {"succeeded", "errored", "expired"}
    assert ledger.summary().arrivals == 0  # no call of its own
    ((cost, saved),) = rows(store, "SELECT sum(cost_usd), sum(saved_batches_usd) FROM spending")
    assert cost == pytest.approx(saved)
    assert cost > 0
    batches = rows(store, "SELECT DISTINCT batch_id FROM attempts")
    assert len(batches) == created(ledger) == len(rows(store, "SELECT id FROM batches"))


async def test_failures_are_sorted_by_the_same_classes_and_rules(tmp_path: Path) -> None:
    prompts = ["fine", "[[sim:400]] wrong", "[[sim:529*2]] busy", "[[sim:truncate]] long", "[[sim:refusal]] no"]
    path = job_file(tmp_path / "jobs.jsonl", prompts)
    async with simulator(QUICK) as (url, _):
        report = await by_batches(path, url)
    assert report.exit_code == Exit.SOME_FAILED
    found = rows(path.with_suffix(".db"), "SELECT custom_id, state, error_class, attempts FROM requests ORDER BY seq")
    assert found == [
        ("r0", "succeeded", None, 1),
        ("r1", "failed", "invalid", 1),
        ("r2", "succeeded", None, 3),
        ("r3", "failed", "truncated", 1),
        ("r4", "failed", "refused", 1),
    ]
    assert rows(path.with_suffix(".db"), "SELECT count(*) FROM results") == [(4,)]  # truncated and refused are kept


async def test_a_batch_whose_answer_is_lost_is_found_again_not_submitted_twice(path: Path) -> None:
    async with simulator(f"{QUICK},batch_lost=0.7") as (url, ledger):
        report = await by_batches(path, url, rows=30)
    store = path.with_suffix(".db")
    assert report.totals.succeeded == 250
    assert created(ledger) == len(rows(store, "SELECT id FROM batches")) == 9
    assert paid_extra(store, ledger) == {}
    assert any(arrival.action == "created" and arrival.status == 0 for arrival in ledger.seen)


async def test_a_download_that_breaks_off_is_begun_again_and_settles_nothing_twice(path: Path) -> None:
    async with simulator(f"{QUICK},batch_cut=0.7,batch_failing=0.2") as (url, ledger):
        report = await by_batches(path, url)
    store = path.with_suffix(".db")
    assert report.totals.succeeded == 250
    assert sum(arrival.action == "results" for arrival in ledger.seen) > 3
    assert rows(store, "SELECT count(*), max(number) FROM attempts") == [(250, 1)]
    assert rows(store, "SELECT succeeded FROM job") == [(250,)]
    assert rows(store, "SELECT sum(attempts) FROM spending") == [(250,)]


async def test_a_run_may_leave_and_the_next_one_collects(path: Path) -> None:
    store = path.with_suffix(".db")
    async with simulator(QUICK) as (url, ledger):
        left = await by_batches(path, url, submit_only=True)
        assert (left.ending, left.exit_code, left.totals.pending) == ("submitted", Exit.OK, 250)
        assert left.at_api == {"batches": 3, "requests": 250}
        assert sitting(store) == 250
        report = await by_batches(path, url, route=None)
    assert report.totals.succeeded == 250
    assert created(ledger) == 3
    assert right_answers(store)


async def test_the_live_route_refuses_to_pay_for_what_sits_in_a_batch(path: Path) -> None:
    async with simulator(QUICK) as (url, ledger):
        await by_batches(path, url, submit_only=True)
        with pytest.raises(UsageError, match=r"250 requests .* sit in batches .*batchrunner move .* --to live"):
            await by_batches(path, url, route=Route.LIVE)
        assert ledger.summary().arrivals == 0
    assert sitting(path.with_suffix(".db")) == 250


async def test_rows_move_to_live_and_back_and_nothing_is_paid_twice(path: Path) -> None:
    store = path.with_suffix(".db")
    async with simulator("latency=0,batch_s=3,batch_cancel_s=0.05") as (url, ledger):
        await by_batches(path, url, submit_only=True)
        halved = RunSettings(routing=settings(route=Route.LIVE, moves=True).routing, first=150)
        live = await run_job(path, url, halved)
        assert (live.totals.requests, live.totals.succeeded) == (150, 150)
        assert ledger.summary().batch_rows["canceled"] > 0
        back = await by_batches(path, url, moves=True)
    assert back.totals.succeeded == 250
    assert paid_extra(store, ledger) == {}
    assert right_answers(store)
    assert {"live", "batches"} == {"batches" if b else "live" for (b,) in rows(store, "SELECT batch_id FROM attempts")}


async def test_what_batches_did_not_answer_goes_live_at_the_end(path: Path) -> None:
    store = path.with_suffix(".db")
    async with simulator(f"{QUICK},batch_expired=0.1,batch_errored=0.1") as (url, ledger):
        report = await by_batches(path, url, then_live=True)
    assert report.totals.succeeded == 250
    rest = 250 - ledger.summary().batch_rows["succeeded"]
    assert 0 < rest == ledger.summary().paid
    assert created(ledger) == 3
    assert report.counts.sent == 250 + rest
    assert right_answers(store)


async def test_a_deadline_lets_batches_work_while_there_is_time(path: Path) -> None:
    async with simulator("latency=0,batch_s=60,batch_cancel_s=0.05") as (url, ledger):
        report = await by_batches(path, url, deadline_s=20.0)  # 250 rows at 1,000 a minute: 18.75 s of it
    assert report.totals.succeeded == 250
    assert ledger.summary().batch_rows["canceled"] > 200
    assert paid_extra(path.with_suffix(".db"), ledger) == {}


async def test_an_endpoint_without_batches_is_told_apart_and_nothing_is_lost(path: Path) -> None:
    store = path.with_suffix(".db")
    async with simulator(f"{QUICK},batches=0") as (url, _):
        with pytest.raises(UsageError, match=r"no Message Batches API .* `--route live`"):
            await by_batches(path, url)
        assert rows(store, "SELECT count(*) FROM batches") == [(0,)]
        assert (await by_batches(path, url, route=Route.LIVE)).totals.succeeded == 250


async def test_results_come_from_the_endpoint_itself_whatever_the_server_names(path: Path) -> None:
    other = WatchedLedger()
    async with (
        serve(Simulator(parse_spec(QUICK), other)) as elsewhere,
        simulator(f"{QUICK},batch_results_host={elsewhere}") as (url, _),
    ):
        report = await by_batches(path, url)
    assert report.totals.succeeded == 250
    assert other.arrivals == 0


async def test_what_cannot_go_by_batches_is_left_or_sent_live(tmp_path: Path) -> None:
    stream = {"custom_id": "s", "params": {"stream": True, "messages": [{"role": "user", "content": "hi"}]}}
    fast = {"custom_id": "f", "params": {"speed": "standard", "messages": [{"role": "user", "content": "hi"}]}}
    path = job_file(tmp_path / "jobs.jsonl", ["fine", stream, fast])
    async with simulator(QUICK) as (url, ledger):
        report = await by_batches(path, url)
        assert (report.exit_code, report.totals.succeeded, report.totals.pending) == (Exit.SOME_FAILED, 1, 2)
        assert sorted(why.partition(":")[0] for why in report.unfit) == ["speed", "stream"]
        assert ledger.summary().arrivals == 0
        report = await by_batches(path, url, then_live=True)
    assert report.totals.succeeded == 3


async def test_batches_of_another_key_are_not_submitted_again(path: Path) -> None:
    store = path.with_suffix(".db")
    async with simulator(QUICK) as (url, _):
        await by_batches(path, url, submit_only=True)
    async with simulator(QUICK) as (url, ledger):  # another one: it knows nothing of them
        with pytest.raises(HaltError, match=r"does not know the batch .* another workspace"):
            await by_batches(path, url)
        assert created(ledger) == 0
    assert sitting(store) == 250
    assert rows(store, "SELECT ending FROM runs ORDER BY id") == [("submitted",), ("halted",)]


async def test_results_that_are_gone_are_failures_that_may_have_been_paid(path: Path) -> None:
    store = path.with_suffix(".db")
    async with simulator(f"{QUICK},batch_kept_s=0.3") as (url, _):
        await by_batches(path, url, submit_only=True)
        await anyio.sleep(0.5)
        report = await by_batches(path, url, then_live=True)
    assert states(store) == {"lost": 3}
    assert report.totals.succeeded == 250  # by the rule for what expired: live, at the end
    ((doubtful, possible),) = rows(store, "SELECT count(*), sum(possible_usd) FROM attempts WHERE possibly_paid = 1")
    assert doubtful == 250
    assert possible > 0


async def test_too_many_failures_stop_the_submitting(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"[[sim:truncate]] {n}" for n in range(300)])
    async with simulator(QUICK) as (url, ledger):
        stop = settings(rows=50, queue=50)
        report = await run_job(path, url, RunSettings(routing=stop.routing, halt=HaltAt(failures=20)))
    assert (report.ending, report.exit_code) == ("stopped", Exit.LIMIT)
    assert created(ledger) <= 2
    assert sitting(path.with_suffix(".db")) == 0


async def test_the_money_is_kept_together_with_what_open_batches_may_cost(path: Path) -> None:
    async with simulator(QUICK) as (url, _):
        capped = RunSettings(routing=settings().routing, caps=Caps(max_cost_usd=0.25))
        report = await run_job(path, url, capped)
    assert (report.ending, report.exit_code) == ("stopped", Exit.LIMIT)
    assert 0 < report.totals.succeeded < 250
    ((most,),) = rows(path.with_suffix(".db"), "SELECT max(possible_usd) FROM batches")
    assert 0 < most <= 0.25


async def test_a_line_that_changed_while_its_request_sits_in_a_batch_needs_a_word(path: Path) -> None:
    store = path.with_suffix(".db")
    async with simulator(QUICK) as (url, ledger):
        await by_batches(path, url, submit_only=True)
        job_file(path, ["another question", *(f"question {n}" for n in range(1, 250))])
        with pytest.raises(ChangedRequestsError):
            await by_batches(path, url)
        report = await by_batches(path, url, job={"on_change": "rerun"})
    assert report.totals.succeeded == 250
    assert right_answers(store)
    assert created(ledger) == 4
