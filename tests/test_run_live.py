"""A run against the simulator over loopback, in this process: what becomes of each kind of answer."""

from pathlib import Path

import pytest

from batchrunner.endpoint import Endpoint
from batchrunner.errors import ChangedRequestsError, Exit, HaltError, InputError, StoreLockedError, UsageError
from batchrunner.model import ErrorClass
from batchrunner.policy.window import Rate
from batchrunner.report import Job
from batchrunner.settings import Limits, RunSettings, Stopping, default_rules, with_retries, with_rules
from batchrunner.store.files import owned
from batchrunner.store.selection import Selection
from running import KEY, MODEL, job_file, paid_extra, right_answers, rows, run_job, simulator

#: A row that is refused again and again lets others go first, for up to a minute; here for a moment.
QUICK = with_rules(default_rules(), {"rate_limited": {"first_s": 0.01, "cap_s": 0.05}})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def states(path: Path) -> dict[str, str]:
    return dict(rows(path.with_suffix(".db"), "SELECT custom_id, state FROM requests ORDER BY seq"))


async def test_every_request_becomes_final_whatever_the_server_does(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(400)])
    async with simulator("latency=0.005,500=0.02,529=0.02,reset=0.02,200_html=0.02,400=0.01,seed=5") as (url, ledger):
        report = await run_job(path, url)
    bad = [custom_id for custom_id, state in states(path).items() if state == "failed"]
    store = path.with_suffix(".db")
    refused = rows(
        store, "SELECT DISTINCT q.custom_id FROM attempts a JOIN requests q USING (seq) WHERE http_status = 400"
    )
    assert bad
    assert sorted(bad) == sorted(custom_id for (custom_id,) in refused)
    assert report.exit_code == Exit.SOME_FAILED
    assert report.totals.pending == 0
    assert report.totals.succeeded == 400 - len(bad)
    assert right_answers(store)
    assert paid_extra(store, ledger) == {}
    assert ledger.arrivals == report.counts.sent
    assert rows(store, "SELECT count(*) FROM attempts WHERE ended_at IS NULL") == [(0,)]


async def test_a_429_uses_up_no_attempt_and_holds_everybody(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["[[sim:429*9]] busy", *(f"Question {i}" for i in range(200))])
    settings = RunSettings(limits=Limits(concurrency=2), rules=QUICK)
    async with simulator("latency=0.001,retry_after=0.02") as (url, _):
        report = await run_job(path, url, settings)
    assert report.exit_code == Exit.OK
    assert states(path)["r0"] == "succeeded"
    assert rows(path.with_suffix(".db"), "SELECT attempts FROM requests WHERE custom_id = 'r0'") == [(10,)]


async def test_a_row_that_is_refused_ten_times_while_others_get_through_is_given_up(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["[[sim:429]] never", *(f"Question {i}" for i in range(400))])
    settings = RunSettings(limits=Limits(concurrency=3), rules=QUICK)
    async with simulator("latency=0.01,retry_after=0.02") as (url, _):
        report = await run_job(path, url, settings)
    assert report.exit_code == Exit.SOME_FAILED
    assert [custom_id for custom_id, state in states(path).items() if state == "failed"] == ["r0"]


async def test_a_bad_key_stops_the_run_and_blames_no_request(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(3000)])
    settings = RunSettings(limits=Limits(concurrency=20))
    async with simulator("latency=0.02,key=sk-ant-api03-the-other") as (url, ledger):
        report = await run_job(path, url, settings)
    assert report.exit_code == Exit.HALTED
    assert report.reason is not None
    assert "ANTHROPIC_API_KEY" in report.reason
    assert ledger.arrivals <= 2 * 20  # on a gateway it takes two refusals in a row
    assert set(states(path).values()) == {"pending"}


async def test_a_missing_key_is_said_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    path = job_file(tmp_path / "jobs.jsonl", ["Question"])
    async with simulator() as (url, ledger):
        with pytest.raises(HaltError, match="ANTHROPIC_API_KEY"):
            await run_job(path, url)
    assert ledger.arrivals == 0


async def test_an_unknown_model_halts_its_own_lane_only(tmp_path: Path) -> None:
    lines = [{"id": f"a{i}", "prompt": "x", "model": "no-such-model"} for i in range(50)]
    lines += [{"id": f"b{i}", "prompt": "x", "model": MODEL} for i in range(50)]
    path = job_file(tmp_path / "jobs.jsonl", lines)
    async with simulator("latency=0.01") as (url, _):
        report = await run_job(path, url, RunSettings(limits=Limits(concurrency=4)))
    assert report.exit_code == Exit.HALTED
    assert {i for i, s in states(path).items() if s == "succeeded"} == {f"b{i}" for i in range(50)}
    assert {s for i, s in states(path).items() if i.startswith("a")} == {"pending"}


async def test_a_mistake_in_every_row_stops_after_twenty(tmp_path: Path) -> None:
    lines = [{"id": f"r{i}", "prompt": f"x {i}", "temperature": 0.2} for i in range(500)]
    path = job_file(tmp_path / "jobs.jsonl", lines)
    async with simulator("latency=0.01") as (url, ledger):
        report = await run_job(path, url, RunSettings(limits=Limits(concurrency=5)))
    assert report.exit_code == Exit.HALTED
    assert ledger.arrivals <= 20 + 5
    assert "temperature" in str(report.reason)


async def test_a_truncated_answer_is_kept_and_counts_as_failed_unless_accepted(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["[[sim:truncate]] one", "[[sim:refusal]] two", "three"])
    store = path.with_suffix(".db")
    async with simulator() as (url, ledger):
        report = await run_job(path, url)
        assert report.exit_code == Exit.SOME_FAILED
        assert rows(store, "SELECT custom_id, error_class FROM requests WHERE state = 'failed' ORDER BY 1") == [
            ("r0", "truncated"),
            ("r1", "refused"),
        ]
        assert rows(store, "SELECT count(*) FROM results WHERE NOT accepted") == [(2,)]
        accept = frozenset({ErrorClass.TRUNCATED, ErrorClass.REFUSED})
        again = await run_job(path, url, RunSettings(accept=accept), put_back=Selection())
    assert again.exit_code == Exit.OK
    assert ledger.arrivals == 5


async def test_a_call_that_hangs_times_out_and_is_sent_again_as_a_stream(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [{"id": "slow", "prompt": "[[sim:hang*1]] hello", "timeout_s": 0.5}])
    async with simulator() as (url, _):
        report = await run_job(path, url)
    store = path.with_suffix(".db")
    assert report.exit_code == Exit.OK
    assert rows(store, "SELECT number, error_class, possibly_paid FROM attempts ORDER BY number") == [
        (1, "timeout", 1),
        (2, None, 0),
    ]
    assert right_answers(store)


async def test_only_the_first_lines_are_sent_when_asked_for(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(30)])
    async with simulator() as (url, ledger):
        for _ in range(2):
            report = await run_job(path, url, RunSettings(first=7))
            assert report.exit_code == Exit.OK
            assert ledger.arrivals == 7
        assert list(states(path).values()).count("pending") == 23
        assert (await run_job(path, url)).totals.succeeded == 30
    assert ledger.arrivals == 30


async def test_bad_lines_are_all_counted_and_nothing_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b'{"id":"a","prompt":"x"}\n' + b"{broken\n" * 30 + b'{"id":"b","prompt":""}\n')
    async with simulator() as (url, ledger):
        with pytest.raises(InputError) as error:
            await run_job(path, url)
    message = str(error.value)
    assert "31 bad lines of 32" in message
    assert "line 2:" in message
    assert "line 21:" in message
    assert "line 22:" not in message
    assert ledger.arrivals == 0
    assert not path.with_suffix(".db").exists()


async def test_a_row_inserted_on_top_of_a_finished_file_is_the_only_one_that_runs(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(20)])
    async with simulator() as (url, ledger):
        await run_job(path, url)
        text = path.read_text()
        path.write_text('{"id": "new", "prompt": "on top"}\n' + text)
        report = await run_job(path, url)
    assert ledger.arrivals == 21
    assert report.totals.succeeded == 21
    assert rows(path.with_suffix(".db"), "SELECT custom_id FROM requests ORDER BY line LIMIT 2") == [("new",), ("r0",)]


async def test_other_limits_rerun_nothing(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(20)])
    other = RunSettings(
        limits=Limits(concurrency=3),
        rules=with_retries(default_rules(), ["server=1"]),
        stopping=Stopping(1, 1),
        timeout_s=9,
    )
    async with simulator() as (url, ledger):
        await run_job(path, url)
        report = await run_job(path, url, other)
    assert ledger.arrivals == 20
    assert report.exit_code == Exit.OK


@pytest.mark.parametrize(("on_change", "sent"), [("keep", 3), ("rerun", 4)])
async def test_another_prompt_under_the_same_id_stops_and_is_kept_or_rerun_as_asked(
    tmp_path: Path, on_change: str, sent: int
) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one", "two", "three"])
    async with simulator() as (url, ledger):
        await run_job(path, url)
        job_file(path, ["one", "two, but otherwise", "three"])
        with pytest.raises(ChangedRequestsError, match=r"'r1'.*--on-change keep"):
            await run_job(path, url)
        assert ledger.arrivals == 3
        report = await run_job(path, url, on_change=on_change)
        assert report.totals.succeeded == 3
        assert ledger.arrivals == sent
        await run_job(path, url)
        assert ledger.arrivals == sent
    assert right_answers(path.with_suffix(".db"))


async def test_other_max_tokens_over_rows_without_ids_stop_instead_of_billing_again(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [{"prompt": f"Question {i}"} for i in range(5)])
    async with simulator() as (url, ledger):
        await run_job(path, url, max_tokens=100)
        with pytest.raises(ChangedRequestsError, match=r"^5 requests"):
            await run_job(path, url, max_tokens=200)
    assert ledger.arrivals == 5


async def test_rows_of_any_jsonl_become_requests_by_a_template(tmp_path: Path) -> None:
    path = job_file(tmp_path / "rows.jsonl", [{"question": f"{i} + {i}?", "answer": 2 * i} for i in range(5)])
    async with simulator() as (url, _):
        report = await run_job(path, url, prompt="Solve: {question}")
    assert report.totals.succeeded == 5
    store = path.with_suffix(".db")
    (first, *_) = rows(store, "SELECT params, metadata FROM inputs ORDER BY seq")
    assert '"Solve: 0 + 0?"' in first[0]
    assert first[1] == '{"answer":0}'


async def test_failed_requests_are_put_back_by_class_with_a_change(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["[[sim:truncate]] a", "[[sim:400]] b", "c"])
    store = path.with_suffix(".db")
    async with simulator() as (url, ledger):
        await run_job(path, url)
        patched = Selection(classes=["truncated"], patch={"max_tokens": 4000})
        report = await run_job(path, url, put_back=patched)
    assert report.put_back == 1
    assert ledger.arrivals == 4
    assert rows(store, "SELECT attempts FROM requests ORDER BY seq") == [(2,), (1,), (1,)]
    assert '"max_tokens":1024' in rows(store, "SELECT params FROM inputs WHERE seq = 1")[0][0]


async def test_a_store_in_use_is_refused_naming_its_owner(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one"])
    with owned(path.with_suffix(".db")), pytest.raises(StoreLockedError, match=r"process \d+ on "):
        await run_job(path, "http://127.0.0.1:1")


async def test_the_limit_holds_in_every_window_of_the_server(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(150)])
    async with simulator("latency=0.05..0.2,rate=60/1s,strict=1") as (url, ledger):
        report = await run_job(path, url, RunSettings(limits=Limits(Rate(60, 1.0), 50)))
        assert ledger.max_in_window(1.0) <= 60
    assert report.counts.refused == 0
    assert report.counts.retries == 0


@pytest.mark.parametrize("earlier", [(20,), (10, 20)], ids=["one run", "two runs"])
async def test_a_run_that_starts_right_after_others_counts_what_they_sent(
    tmp_path: Path, earlier: tuple[int, ...]
) -> None:
    """The earlier ones were faster than the limit that only the last one is told, and used it up."""
    path = job_file(tmp_path / "jobs.jsonl", [f"Question {i}" for i in range(30)])
    async with simulator("latency=0.02,rate=20/2s,strict=1") as (url, ledger):
        for first in earlier:
            await run_job(path, url, RunSettings(limits=Limits(Rate(100, 1.0)), first=first))
        report = await run_job(path, url, RunSettings(limits=Limits(Rate(20, 2.0))))
        assert ledger.max_in_window(2.0) <= 20
        assert ledger.arrivals == report.totals.succeeded == 30
    assert report.counts.refused == 0


async def test_an_empty_file_is_a_finished_job(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b"\n\n")
    report = await run_job(path, "http://127.0.0.1:1")
    assert report.exit_code == Exit.OK
    assert report.totals.requests == 0


async def test_simulated_and_real_answers_never_share_a_store(tmp_path: Path) -> None:
    import random
    from io import StringIO

    from batchrunner.progress import Silent
    from batchrunner.runner import run
    from batchrunner.simulator import parse_spec

    path = job_file(tmp_path / "jobs.jsonl", ["one"])
    async with simulator() as (url, ledger):
        await run_job(path, url)
        with pytest.raises(UsageError, match="real answers"):
            await run(
                Job(path.with_suffix(".db"), None),
                RunSettings(),
                Endpoint(simulator=parse_spec("")),
                reporter=Silent(StringIO()),
                rng=random.Random(1),
            )
    assert ledger.arrivals == 1


async def test_a_failed_line_that_was_mended_is_the_only_one_that_runs(tmp_path: Path) -> None:
    prompts = [f"Question {i}" for i in range(10)]
    path = job_file(tmp_path / "jobs.jsonl", [*prompts, "[[sim:400]] wrong"])
    async with simulator() as (url, ledger):
        assert (await run_job(path, url)).exit_code == Exit.SOME_FAILED
        job_file(path, [*prompts, "mended"])
        report = await run_job(path, url)
        assert ledger.arrivals == 12
        assert report.totals.succeeded == 11
        with pytest.raises(ChangedRequestsError):
            await run_job(path, url, max_tokens=99)
    assert ledger.arrivals == 12


async def test_another_host_than_in_the_last_run_must_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one", "two"])
    async with simulator() as (url, ledger):
        await run_job(path, url, RunSettings(first=1))
        monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://gateway.invalid")
        with pytest.raises(UsageError, match=r"last run against http://127.*--base-url https://gateway.invalid"):
            await run_job(path, None)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url.replace("127.0.0.1", "localhost"))
        assert (await run_job(path, None)).exit_code == Exit.OK
    assert ledger.arrivals == 2


async def test_another_job_file_does_not_slip_into_a_store_that_has_answers(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["one"])
    other = job_file(tmp_path / "jobs.json", ["two"])
    async with simulator() as (url, ledger):
        await run_job(path, url)
        with pytest.raises(InputError, match=r"holds the answers of .*jobs\.jsonl"):
            await run_job(other, url)
        renamed = path.rename(tmp_path / "moved.json")
        renamed.replace(other)
        assert (await run_job(other, url, on_change="keep")).exit_code == Exit.OK
        assert (await run_job(other, url)).exit_code == Exit.OK
    assert ledger.arrivals == 1
