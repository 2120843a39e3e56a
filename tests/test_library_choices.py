"""What a Python program chooses: by a definition, by id, by chance, what to put back and how changed."""

import json
from pathlib import Path
from typing import Any

import pytest

from batchrunner import Limits, Rate, Store, UsageError, run
from batchrunner.choices import completed
from batchrunner.policy.signature import signature_key
from running import KEY, MODEL, job_file, rows

QUIET: Any = {"progress": "none", "simulate": "latency=0.001"}
DEFINITION = """
input = "rows.jsonl"
prompt = "Solve: {q}"
accept = ["truncated"]
[request]
model = "claude-haiku-4-5"
max_tokens = 77
stop_sequences = ["END"]
system = [{ type = "text", text = "Be brief." }]
[limits]
rate = "6000/10s"
concurrency = 7
[rules.server]
attempts = 2
[export]
columns = ["custom_id", "text"]
flatten = true
[run]
first = 2
drain_s = 0
"""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    job_file(
        tmp_path / "rows.jsonl", [{"id": "a", "q": "[[sim:truncate]] 1"}, {"id": "b", "q": "2"}, {"id": "c", "q": "3"}]
    )
    path = tmp_path / "job.toml"
    path.write_text(DEFINITION)
    return path


def params(store: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for (text,) in rows(store, "SELECT params FROM inputs ORDER BY seq")]


def settings(store: Path) -> dict[str, Any]:
    *_, (text,) = rows(store, "SELECT settings FROM runs ORDER BY id")
    found: dict[str, Any] = json.loads(text)
    return found


async def test_a_definition_stands_in_place_of_the_job_file(definition: Path) -> None:
    report = await run(definition, **QUIET)
    assert (report.totals.requests, report.totals.succeeded) == (2, 2)
    store = definition.with_suffix(".db")
    assert params(store)[1] == {
        "messages": [{"role": "user", "content": "Solve: 2"}],
        "model": MODEL,
        "max_tokens": 77,
        "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "Be brief."}],
    }
    kept = settings(store)
    assert (kept["rate"], kept["concurrency"], kept["first"]) == ("6000/10s", 7, 2)
    assert (kept["accept"], kept["rules"]) == (["truncated"], {"server": {"attempts": 2}})


async def test_keywords_win_over_the_definition(definition: Path) -> None:
    report = await run(
        definition, model="claude-sonnet-5", max_tokens=5, system="Be long.", prompt="Do: {q}", first=1, accept=(),
        params={"stop_sequences": ["X"]}, limits=Limits(Rate(50, 1.0), 3), rules={"server": {"attempts": 4}},
        timeout_s=30, store=definition.with_name("other.db"), **QUIET,
    )  # fmt: skip
    assert report.totals.requests == 1
    store = definition.with_name("other.db")
    assert params(store)[1] == {
        "messages": [{"role": "user", "content": "Do: 2"}],
        "model": "claude-sonnet-5",
        "max_tokens": 5,
        "system": "Be long.",
        "stop_sequences": ["X"],
    }
    kept = settings(store)
    assert (kept["rate"], kept["concurrency"], kept["accept"]) == ("50/1s", 3, [])
    assert (kept["rules"], kept["timeout_s"]) == ({"server": {"attempts": 4}}, 30)


async def test_the_store_alone_goes_on_with_the_limits_and_rules_of_the_last_run(tmp_path: Path) -> None:
    store = tmp_path / "x.db"
    asked: Any = {"rate": "50/s", "concurrency": 3, "accept": "empty", "rules": {"server": {"attempts": 2}}}
    await run(["one", "two", "three"], store=store, model=MODEL, first=1, **asked, **QUIET)
    assert (await run(None, store=store, first=2, **QUIET)).counts.sent == 1
    kept = settings(store)
    assert (kept["rate"], kept["concurrency"], kept["accept"]) == ("50/1s", 3, ["empty"])
    assert kept["rules"] == {"server": {"attempts": 2}}
    assert (await run(None, store=store, rpm=600, **QUIET)).counts.sent == 1
    assert (settings(store)["rate"], settings(store)["concurrency"]) == ("600/60s", 3)


def test_what_is_given_leaves_no_other_rate_standing() -> None:
    other = {"rate": "5/s", "concurrency": 2, "params": {"a": 1, "system": []}}
    assert completed({"rpm": 9, "params": {"b": 2}}, other) == {
        "rpm": 9, "concurrency": 2, "params": {"a": 1, "system": [], "b": 2},
    }  # fmt: skip
    assert completed({"limits": Limits(), "system": "S"}, other) == {
        "limits": Limits(),
        "system": "S",
        "params": {"a": 1},
    }
    assert completed({"rate": None, "concurrency": 1}, other) == {**other, "concurrency": 1}


async def test_requests_are_chosen_by_id_and_by_chance_and_the_rest_stays_pending(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [{"id": n, "prompt": f"Question {n}"} for n in range(40)])
    asked: Any = {"model": MODEL, **QUIET}
    by_id = await run(path, ids=[3, "5"], **asked)
    assert (by_id.totals.requests, by_id.totals.succeeded) == (2, 2)
    with Store(path) as store:
        assert [result.custom_id for result in store.results("succeeded")] == ["3", "5"]
    drawn = await run(path, sample=10, seed=4, **asked)
    again = await run(path, sample=10, seed=4, **asked)
    assert (drawn.totals.requests, drawn.totals.pending, again.counts.sent) == (10, 0, 0)
    rest = await run(path, shuffle=True, seed=4, concurrency=1, **asked)
    assert (rest.totals.requests, rest.totals.succeeded) == (40, 40)
    sql = "SELECT seq FROM attempts WHERE run_id = (SELECT max(id) FROM runs) ORDER BY started_at"
    sent = [seq for (seq,) in rows(tmp_path / "jobs.db", sql)]
    assert sent != sorted(sent)
    with pytest.raises(UsageError, match="'99'"):
        await run(path, ids="99", **asked)


ROUGH = [
    {"id": "cut", "prompt": "[[sim:truncate]] a"},
    {"id": "wrong", "prompt": "[[sim:400*1]] b"},
    {"id": "bad", "prompt": "[[sim:400]] c"},
    {"id": "down", "prompt": "[[sim:500*1]] d"},
]


async def rough(tmp_path: Path) -> Path:
    store = tmp_path / "x.db"
    report = await run(ROUGH, store=store, model=MODEL, retries={"server": 0}, **QUIET)
    assert report.totals.failed == 4
    return store


@pytest.mark.parametrize(
    ("asked", "tried"),
    [
        ({"retry": True}, {"down"}),
        ({"retry": "all"}, {"cut", "wrong", "bad", "down"}),
        ({"retry": "truncated"}, {"cut"}),
        ({"retry": ["invalid", "server"]}, {"wrong", "bad", "down"}),
        ({"retry": "invalid", "retry_ids": "wrong"}, {"wrong"}),
        ({"retry_ids": ["cut", "bad"]}, {"cut", "bad"}),
        ({"retry_signatures": "api_error: Internal server error"}, {"down"}),
        ({"retry_signatures": signature_key("server", "api_error: Internal server error"), "retry": "all"}, {"down"}),
        ({"retry": []}, set()),
    ],
)  # fmt: skip
async def test_failed_requests_are_put_back_by_class_and_by_id(tmp_path: Path, asked: Any, tried: set[str]) -> None:
    store = await rough(tmp_path)
    report = await run(None, store=store, **asked, **QUIET)
    assert report.put_back == len(tried)
    sql = "SELECT custom_id FROM requests WHERE seq IN (SELECT seq FROM attempts WHERE run_id = 2)"
    assert {name for (name,) in rows(store, sql)} == tried


async def test_what_is_put_back_may_be_changed_and_the_job_file_is_no_change_then(tmp_path: Path) -> None:
    store = await rough(tmp_path)
    asked: Any = {"retry": "truncated", "retry_params": {"max_tokens": 5000, "model": "claude-sonnet-5"}}
    await run(ROUGH, store=store, model=MODEL, accept="truncated", **asked, **QUIET)
    with Store(store) as answers:
        result = answers.get("cut")
    assert result is not None
    assert (result.ok, result.model) == (True, "claude-sonnet-5")
    assert rows(store, "SELECT patch FROM overrides") == [(json.dumps(asked["retry_params"]),)]


async def test_bad_lines_formats_half_characters_and_files_are_asked_for_by_keyword(tmp_path: Path) -> None:
    (tmp_path / "dot.gif").write_bytes(b"GIF89a\x01\x00\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02")
    image = {"type": "image", "source": {"type": "file", "path": "dot.gif"}}
    lines: Any = [{"messages": [{"role": "user", "content": [image]}]}, {"promt": "x"}]
    store = tmp_path / "x.db"
    report = await run(lines, store=store, model=MODEL, allow_files=tmp_path, skip_invalid=True, **QUIET)
    assert (report.totals.succeeded, report.totals.failed) == (1, 1)
    (tmp_path / "rows.data").write_text("q,r\none,1\n")
    (tmp_path / "half.jsonl").write_text('"a\\ud800"\n')
    table = await run(tmp_path / "rows.data", format="csv", prompt="{q}", model=MODEL, **QUIET)
    half = await run(tmp_path / "half.jsonl", surrogates="replace", model=MODEL, **QUIET)
    assert (table.totals.succeeded, half.totals.succeeded) == (1, 1)
