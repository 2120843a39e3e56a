"""What a store says its attempts have cost, held against the simulator's own account: faults, kills, caching, three models."""

import json
from pathlib import Path

from batchrunner.errors import Exit
from reckon import PUSD, Reckoning, lines, reckon, write_job
from running import RunningCommand, WatchedLedger, command, rows, simulator_thread

FAULTS = "429=0.02,500=0.03,reset=0.03,reset_body=0.04,200_truncated=0.04,200_html=0.02,sse_cut=0.2,bad_gzip=0.03"
SPEC = f"latency=0.05..0.3,seed=3,output_tokens=20..400,{FAULTS}"
#: Enough answers for the tenth of a dollar to differ, were anything wrong.
COUNT = 260


def reckoned(store: Path, ledger: WatchedLedger) -> Reckoning:
    ledger.wait_until(lambda seen: seen.ends == len([one for one in seen.seen if one.path == "/v1/messages"]))
    return reckon(store, {f"req_sim{one.number:012d}": one.charge_pusd for one in ledger.seen if one.paid})


def test_every_answer_costs_what_was_charged_and_the_rest_is_bracketed(tmp_path: Path) -> None:
    """Two runs are killed in mid-flight, the third finishes; three models, two of them with cached prefixes."""
    store = tmp_path / "jobs.db"
    write_job(tmp_path / "jobs.jsonl", lines(COUNT))
    words = ("run", "jobs.jsonl", "-j", "30", "--timeout", "5", "--progress", "none")
    with simulator_thread(SPEC) as (url, ledger):
        for answered in (60, 150):
            run = RunningCommand(*words, url=url, cwd=tmp_path)
            ledger.wait_until(lambda seen, count=answered: seen.ends >= count)  # type: ignore[misc]
            run.kill()
        done = command(*words, url=url, cwd=tmp_path)
        found = reckoned(store, ledger)
    assert done.code in {Exit.OK, Exit.SOME_FAILED}, done.stderr
    assert found.is_right, found
    assert found.answers >= COUNT * 0.9
    assert found.charged - found.known > 0, "no fault cost anything"
    # The kinds that make a difference were there.
    (reads, hours, fast, us) = rows(
        store,
        "SELECT sum(cache_read_tokens > 0), sum(cache_write_1h_tokens > 0), sum(speed = 'fast'), sum(geo = 'us') FROM attempts",
    )[0]
    assert min(reads, fast, us) >= 2
    assert hours >= 1, "of a shared prefix one is enough: those that share it wait for it"
    sums = rows(store, "SELECT sum(cost_usd), sum(possible_usd), sum(attempts), sum(unpriced) FROM spend")[0]
    assert abs(sums[0] * PUSD - found.known) < 1000
    assert abs(sums[1] * PUSD - found.possible) < 1000
    assert sums[2:] == (rows(store, "SELECT count(*) FROM attempts")[0][0], 0)
    priced = rows(store, "SELECT DISTINCT priced_at, figures FROM prices WHERE model = 'claude-sonnet-5'")
    assert [json.loads(figures)["rates"]["input"] for _, figures in priced] == [2e-6]


def test_an_account_that_is_a_picodollar_off_is_noticed(tmp_path: Path) -> None:
    write_job(tmp_path / "jobs.jsonl", lines(6))
    with simulator_thread() as (url, ledger):
        command("run", "jobs.jsonl", "--progress", "none", url=url, cwd=tmp_path)
        charges = {f"req_sim{one.number:012d}": one.charge_pusd for one in ledger.seen if one.paid}
    assert reckon(tmp_path / "jobs.db", charges).is_right
    first = min(charges)
    assert reckon(tmp_path / "jobs.db", charges | {first: (charges[first] or 0) + 1}).differing == (first,)
