"""Halts that explain: what was seen, what it usually means, what to try; and a wrong address is known by its pages."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_helpers import reply, scripted
from batchrunner.api.classify import classify_error, classify_message
from batchrunner.errors import Exit
from batchrunner.model import ErrorClass, Fail, Failure, Halt, Retry
from batchrunner.policy.explanations import EXPLANATIONS, explained
from batchrunner.policy.halts import PAGES, HaltWatch
from batchrunner.report import closing
from batchrunner.settings import Limits, RunSettings
from builders import failure
from error_bodies import BODIES, HTML, encoded
from running import KEY, job_file, rows, run_job, simulator

RETRY = Retry(5.0)
BODY = {name: (status, encoded(body)) for name, status, body, _ in BODIES}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def seen(name: str, **headers: str) -> Failure:
    """Return the failure that a known body makes."""
    status, body = BODY[name]
    return classify_error(status, headers, body)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("key", "ANTHROPIC_API_KEY"),
        ("gateway's key", "ANTHROPIC_API_KEY"),
        ("permission", "workspace"),
        ("denied, a word", "workspace"),
        ("region", "is not offered where this call came from"),
        ("region, OpenAI", "is not offered where this call came from"),
        ("region, Chinese", "is not offered where this call came from"),
        ("Bedrock country", "is not offered where this call came from"),
        ("legal", "is not offered where this call came from"),
        ("challenge", "page of its own"),
        ("blocked, Cloudflare", "page of its own"),
        ("on hold", "organization"),
        ("disabled", "organization"),
        ("payment", "Add credit"),
        ("credit", "Add credit"),
        ("new-api quota", "Add credit"),
        ("own limit", "was set for this workspace"),
        ("workspace limit", "was set for this workspace"),
        ("spend", "is reached"),
        ("model", "does not offer this model"),
        ("no channel", "does not offer this model"),
        ("plain 404", "ends before /v1"),
        ("path", "ends before /v1"),
        ("404, relay", "has /v1 twice"),
        ("web 404", "web page"),
        ("405, a web page", "web page"),
        ("moved", "redirects are not followed"),
        ("proxy login", "HTTPS_PROXY"),
    ],
)
def test_each_kind_of_halt_says_what_it_usually_means(name: str, word: str) -> None:
    failed = seen("OpenAI key" if name == "gateway's key" else name)
    halt = HaltWatch(official=True).review(failed, Halt(failed.message), 0.0)
    assert isinstance(halt, Halt)
    assert halt.reason.startswith(failed.message.rstrip(".")), "what was seen comes first"
    assert word in halt.reason
    assert "\n" not in halt.reason
    assert 2 <= len(halt.steps) <= 4


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("the server's certificate is not trusted (SSL_CERT_FILE can name your own): x", "SSL_CERT_FILE"),
        ("the proxy refused: HTTP 407 Proxy Authentication Required", "HTTPS_PROXY"),
    ],
)
def test_an_endpoint_that_was_never_reached_is_explained_too(message: str, word: str) -> None:
    found = explained(failure(ErrorClass.ENDPOINT, message))
    assert found is not None
    assert word in found.remedy


@given(st.sampled_from(sorted(ErrorClass)), st.text(), st.none() | st.integers(0, 999), st.none() | st.text())
def test_every_failure_can_be_asked_about(name: str, message: str, status: int | None, body: str | None) -> None:
    found = explained(failure(ErrorClass(name), message, http_status=status, body=body))
    assert (found is not None) or ErrorClass(name) not in EXPLANATIONS


# Web pages where the API should be.

PAGE = classify_message(200, {}, HTML.format("Console").encode())
assert isinstance(PAGE, Failure)


@pytest.mark.parametrize("decision", [RETRY, Fail()])
def test_nothing_but_pages_is_a_wrong_address(decision: Retry | Fail) -> None:
    assert isinstance(PAGE, Failure)
    watch = HaltWatch(official=False)
    decisions = [watch.review(PAGE, decision, 0.0) for _ in range(PAGES)]
    assert decisions[:-1] == [decision] * (PAGES - 1)
    assert isinstance(decisions[-1], Halt)
    assert "base URL leads to a web interface" in decisions[-1].reason


@pytest.mark.parametrize("other", ["answer", "error", "other body"])
def test_a_page_among_other_things_is_the_matter_of_its_request(other: str) -> None:
    assert isinstance(PAGE, Failure)
    watch = HaltWatch(official=False)
    for n in range(5 * PAGES):
        assert watch.review(PAGE, RETRY, 0.0) == RETRY
        match other:
            case _ if n:
                pass
            case "answer":
                watch.succeeded()
            case "error":
                watch.review(failure(http_status=500), RETRY, 0.0)
            case _:
                watch.review(failure(ErrorClass.BAD_RESPONSE, http_status=200, body="null"), RETRY, 0.0)


def test_broken_connections_between_pages_say_nothing() -> None:
    assert isinstance(PAGE, Failure)
    watch = HaltWatch(official=False)
    for _ in range(PAGES - 1):
        watch.review(PAGE, RETRY, 0.0)
        watch.review(failure(ErrorClass.NETWORK), RETRY, 0.0)
    assert isinstance(watch.review(PAGE, RETRY, 0.0), Halt)


# In a run.


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("401", "ANTHROPIC_API_KEY"),
        ("402", "Add credit"),
        ("403", "workspace"),
        ("404_path", "base-url"),
        ("404_model", "--model"),
        ("400_credit", "Add credit"),
        ("429_spend", "raise it in the console"),
        ("gateway_quota", "Add credit"),
        ("gateway_key", "ANTHROPIC_API_KEY"),
        ("redirect", "redirects are not followed"),
        ("200_html", "web page"),
        ("400", "requests all failed alike"),
    ],
)
async def test_a_run_that_cannot_go_on_stops_early_blames_nobody_and_says_what_to_try(
    tmp_path: Path, fault: str, word: str
) -> None:
    path = job_file(tmp_path / "jobs.jsonl", [f"[[sim:{fault}]] Question {n}" for n in range(300)])
    async with simulator("latency=0.001") as (url, ledger):
        report = await run_job(path, url, RunSettings(limits=Limits(concurrency=4)))
    assert report.exit_code == Exit.HALTED
    assert ledger.arrivals <= 30
    states = dict(rows(path.with_suffix(".db"), "SELECT state, count(*) FROM requests GROUP BY state"))
    assert states.get("failed", 0) <= (24 if fault == "400" else 0)
    ((reason,),) = rows(path.with_suffix(".db"), "SELECT reason FROM runs")
    assert reason == report.reason
    assert word in reason
    assert "\n" not in reason
    shown = closing(report, str(path)).splitlines()
    assert shown[0].startswith("halted: ")
    assert [line[:5] for line in shown[1 : 1 + len(report.steps)]] == [
        f"  {n}. " for n in range(1, len(report.steps) + 1)
    ]
    assert report.as_record()["steps"] == list(report.steps) != []


async def test_a_single_request_to_a_wrong_address_stays_pending(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["One"])
    rules = RunSettings().rules
    async with scripted([reply(HTML.format("Welcome"))]) as server:
        report = await run_job(path, server.url, RunSettings(rules=rules))
    assert (report.exit_code, report.totals.pending) == (Exit.HALTED, 1)
    assert len(server.arrivals) == PAGES


async def test_a_key_that_is_echoed_stands_in_no_reason_and_on_no_screen(tmp_path: Path) -> None:
    path = job_file(tmp_path / "jobs.jsonl", ["One", "Two", "Three"])
    async with scripted([reply({"error": {"message": f"invalid token: {KEY}"}}, 401)]) as server:
        report = await run_job(path, server.url)
    assert report.exit_code == Exit.HALTED
    assert KEY not in closing(report, str(path))
    for suffix in (".db", ".db-wal"):
        file = path.with_suffix(suffix)
        assert not file.exists() or KEY.encode() not in file.read_bytes()
