"""The simulated Message Batches API: states, counters, results, expiry, cancellation, and what the ledger books."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import anthropic
import anyio
import httpx2
import pytest

from batchrunner.simulator import Ledger, Simulator, parse_spec
from batchrunner.simulator.answers import answer_text
from batchrunner.simulator.ledger import BatchRow, read_lines
from batchrunner.simulator.replies import Ending, Reply
from batchrunner.simulator.server import serve

MODEL = "claude-haiku-4-5"
HEADERS = {"x-api-key": "sk-test", "anthropic-version": "2026-10-21", "host": "127.0.0.1:1"}
PATH = "/v1/messages/batches"


def params(content: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": content}], **more}


def rows(*contents: str) -> list[dict[str, Any]]:
    return [{"custom_id": f"row-{n}", "params": params(content)} for n, content in enumerate(contents)]


class Api:
    """The simulator without a socket, and its clock."""

    def __init__(self, spec: str = "", ledger: Ledger | None = None) -> None:
        self.simulator = Simulator(parse_spec(f"batch_s=10{spec}"), ledger)
        self.now = 0.0

    def call(self, method: str, path: str = "", body: object = None) -> Reply:
        content = b"" if body is None else json.dumps(body).encode()
        reply = self.simulator.respond(method, PATH + path, HEADERS, content, self.now)
        self.simulator.finish(reply, self.now, len(reply.body), delivered=True)
        return reply

    def json(self, method: str, path: str = "", body: object = None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.call(method, path, body).body)
        return found

    def create(self, *contents: str) -> str:
        return str(self.json("POST", body={"requests": rows(*contents)})["id"])

    def results(self, name: str) -> dict[str, dict[str, Any]]:
        lines = self.call("GET", f"/{name}/results").body.splitlines()
        return {line["custom_id"]: line["result"] for line in map(json.loads, lines)}


def test_a_batch_goes_from_in_progress_to_ended_and_its_counters_say_nothing_before() -> None:
    api = Api()
    name = api.create("a", "b", "[[sim:400]] c")
    api.now = 9.9
    early = api.json("GET", f"/{name}")
    assert (early["processing_status"], early["results_url"], early["ended_at"]) == ("in_progress", None, None)
    assert early["request_counts"] == {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    assert api.call("GET", f"/{name}/results").status == 404
    api.now = 10.0
    ended = api.json("GET", f"/{name}")
    assert ended["processing_status"] == "ended"
    assert ended["request_counts"] == {"processing": 0, "succeeded": 2, "errored": 1, "canceled": 0, "expired": 0}
    assert ended["results_url"] == f"http://127.0.0.1:1{PATH}/{name}/results"


def test_results_have_the_answer_of_each_row_and_errors_in_the_envelope_of_the_api() -> None:
    api = Api()
    name = api.create("first", "[[sim:529*1]] second", "[[sim:truncate]] third")
    api.now = 11
    found = api.results(name)
    assert found["row-0"]["message"]["content"][0]["text"] == answer_text(params("first"))
    assert found["row-0"]["message"]["usage"]["service_tier"] == "batch"
    assert found["row-1"] == {
        "type": "errored",
        "error": {
            "type": "error",
            "error": {"type": "overloaded_error", "message": "Overloaded"},
            "request_id": f"req_{name}",
        },
    }
    assert found["row-2"]["message"]["stop_reason"] == "max_tokens"
    again = api.json("POST", body={"requests": rows("[[sim:529*1]] second")})["id"]
    api.now = 30
    assert api.results(again)["row-0"]["type"] == "succeeded"


def test_params_are_looked_at_when_the_row_has_its_turn_not_before() -> None:
    api = Api()
    bad = [params("a", stream=True), params("b", temperature=1), params("c", speed="fast"), {"model": MODEL}]
    asked = [{"custom_id": f"row-{n}", "params": one} for n, one in enumerate([*bad, params("d", max_tokens=0)])]
    name = api.json("POST", body={"requests": asked})["id"]
    api.now = 10
    kinds = {key: result["error"]["error"]["type"] for key, result in api.results(name).items()}
    assert kinds == {f"row-{n}": "invalid_request_error" for n in range(5)}


@pytest.mark.parametrize(
    ("requests", "word"),
    [
        ([], "Field required"),
        ([{"custom_id": "ü", "params": {}}], "pattern"),
        ([{"custom_id": "a", "params": {}}, {"custom_id": "a", "params": {}}], "duplicate"),
        ([{"custom_id": "a"}], "dictionary"),
        ([{"custom_id": str(n), "params": {}} for n in range(100_001)], "at most 100000"),
    ],
    ids=["none", "id", "twice", "no-params", "too-many"],
)
def test_what_is_no_batch_is_refused_at_once(requests: list[Any], word: str) -> None:
    reply = Api().call("POST", body={"requests": requests})
    assert reply.status == 400
    assert word in json.loads(reply.body)["error"]["message"]


def test_cancelling_keeps_what_is_done_and_pays_for_nothing_else() -> None:
    api = Api(",batch_cancel_s=2")
    name = api.create(*(f"row {n}" for n in range(10)))
    api.now = 4.5
    assert api.json("POST", f"/{name}/cancel")["processing_status"] == "canceling"
    api.now = 6
    assert api.json("GET", f"/{name}")["processing_status"] == "canceling"
    api.now = 6.6
    ended = api.json("GET", f"/{name}")
    assert ended["request_counts"] == {"processing": 0, "succeeded": 4, "errored": 0, "canceled": 6, "expired": 0}
    assert Counter(result["type"] for result in api.results(name).values()) == {"succeeded": 4, "canceled": 6}
    assert api.simulator.ledger.summary().batch_rows == {"succeeded": 4, "canceled": 6}
    assert api.call("POST", f"/{name}/cancel").status == 400


def test_what_is_not_done_in_time_expires() -> None:
    api = Api(",batch_expires_s=6")
    name = api.create(*(f"row {n}" for n in range(10)))
    api.now = 6
    assert api.json("GET", f"/{name}")["request_counts"]["expired"] == 4


def test_results_are_gone_after_their_time_and_a_batch_that_ended_can_be_deleted() -> None:
    api = Api(",batch_kept_s=100")
    name, other = api.create("a"), api.create("b")
    assert api.call("DELETE", f"/{name}").status == 400
    api.now = 50
    assert api.json("DELETE", f"/{name}") == {"id": name, "type": "message_batch_deleted"}
    assert api.call("GET", f"/{name}").status == 404
    api.now = 100
    archived = api.json("GET", f"/{other}")
    assert (archived["results_url"], archived["archived_at"] is None) == (None, False)
    assert api.call("GET", f"/{other}/results").status == 404


def test_the_list_comes_in_pages_the_newest_first() -> None:
    api = Api()
    names = [api.create("a") for _ in range(5)]
    page = api.json("GET", "?limit=2")
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (names[:2:-1], True)
    page = api.json("GET", f"?limit=3&after_id={page['last_id']}")
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (names[2::-1], False)


def test_the_queue_has_a_limit() -> None:
    api = Api(",batch_queue=3")
    api.create("a", "b")
    assert api.call("POST", body={"requests": rows("c", "d")}).status == 429
    api.now = 10
    assert api.call("POST", body={"requests": rows("c", "d")}).status == 200


def test_an_answer_may_be_lost_although_the_batch_is_there() -> None:
    api = Api(",batch_lost=1")
    reply = api.call("POST", body={"requests": rows("a")})
    assert (reply.silent, reply.ending) == (True, Ending.RESET)
    assert len(api.json("GET")["data"]) == 1


def test_a_gateway_without_batches_knows_no_such_path() -> None:
    assert Api(",batches=0").call("GET").status == 404


def test_the_ledger_books_rows_at_half_the_price_and_knows_what_was_paid_twice(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        api = Api(",batch_errored=0.2,batch_expired=0.2,seed=3", ledger)
        api.create(*(f"row {n % 50}" for n in range(60)))
        api.now = 10
        api.call("GET")
        summary = ledger.summary()
    assert sum(summary.batch_rows.values()) == 60
    assert summary.batch_rows.keys() == {"succeeded", "errored", "expired"}
    booked = [line for line in read_lines(path) if line["event"] == "batch_row"]
    assert {line["price"] for line in booked} == {0.5}
    assert sum(line["paid"] for line in booked) == summary.batch_rows["succeeded"]
    assert summary.batch_output_tokens == sum(line["output_tokens"] for line in booked)
    assert summary.paid_more_than_once
    assert Ledger.read(path).summary() == summary


async def test_the_official_sdk_takes_it_for_the_api() -> None:
    simulator = Simulator(parse_spec("batch_s=0.3,latency=0"))
    async with (
        serve(simulator) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="sk-x", max_retries=0) as client,
    ):
        batches = client.messages.batches
        batch = await batches.create(requests=[{"custom_id": "a", "params": params("hello")}])  # type: ignore[typeddict-item]
        assert batch.processing_status == "in_progress"
        with anyio.fail_after(10):
            while True:
                if (await batches.retrieve(batch.id)).processing_status == "ended":
                    break
                await anyio.sleep(0.05)
        (result,) = [line async for line in await batches.results(batch.id)]
        assert result.result.type == "succeeded"
        assert [one.id async for one in batches.list(limit=1)] == [batch.id]
        with pytest.raises(anthropic.BadRequestError):
            await batches.cancel(batch.id)
        await batches.delete(batch.id)


async def test_a_download_may_be_cut_and_rows_are_worked_on_while_nobody_asks() -> None:
    done = anyio.Event()

    class Watched(Ledger):
        def book(self, row: BatchRow, now: float) -> None:
            super().book(row, now)
            if self.summary().batch_rows.get("succeeded") == 50:
                done.set()

    simulator = Simulator(parse_spec("batch_s=0.2,latency=0,batch_cut=1"), Watched())
    async with serve(simulator) as url, httpx2.AsyncClient(base_url=url, headers=HEADERS) as client:
        name = (await client.post(PATH, json={"requests": rows(*map(str, range(50)))})).json()["id"]
        with anyio.fail_after(10):
            await done.wait()
        short = 0
        for _ in range(2):
            try:
                short += len((await client.get(f"{PATH}/{name}/results")).content.splitlines()) < 50
            except httpx2.HTTPError:
                short += 1
        assert short == 2
