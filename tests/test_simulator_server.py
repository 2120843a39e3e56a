"""The simulator on a real socket: what it does to connections, and what it writes down about it."""

import asyncio
import errno
import io
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from batchrunner.errors import UsageError
from batchrunner.simulator import Ledger, Simulator, parse_spec
from batchrunner.simulator.answers import answer_text
from batchrunner.simulator.ledger import Arrival
from batchrunner.simulator.server import serve, serve_until

HEADERS = {"x-api-key": "sk-test-canary", "anthropic-version": "2026-10-21"}
FAST = "latency=0"


def params(content: str = "hi", **more: object) -> dict[str, Any]:
    return {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": content}], **more}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(
        headers=HEADERS, timeout=timeout, connector=aiohttp.TCPConnector(limit=0)
    ) as client:
        yield client


async def post(client: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> tuple[int, bytes]:
    async with client.post(f"{url}/v1/messages", json=body, allow_redirects=False) as response:
        return response.status, await response.read()


class WatchedLedger(Ledger):
    """Tells a test when the server has got somewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived, self.ended = asyncio.Semaphore(0), asyncio.Semaphore(0)

    def arrive(self, arrival: Arrival, now: float) -> None:
        super().arrive(arrival, now)
        self.arrived.release()

    def end(self, arrival: Arrival, now: float, bytes_sent: int, *, delivered: bool) -> None:
        super().end(arrival, now, bytes_sent, delivered=delivered)
        self.ended.release()


async def times(count: int, event: asyncio.Semaphore) -> None:
    with anyio.fail_after(5):
        for _ in range(count):
            await event.acquire()


async def test_many_requests_at_once_each_get_their_own_answer(session: aiohttp.ClientSession) -> None:
    simulator = Simulator(parse_spec("latency=0..0.05"))
    async with serve(simulator) as url:
        asked = [params(f"question {number}") for number in range(200)]
        replies = await asyncio.gather(*(post(session, url, body) for body in asked))
    for body, (status, said) in zip(asked, replies, strict=True):
        assert status == 200
        assert json.loads(said)["content"][0]["text"] == answer_text(body)
    summary = simulator.ledger.summary()
    assert (summary.arrivals, summary.paid, summary.open, summary.undelivered) == (200, 200, 0, 0)


async def test_connections_are_kept_alive(session: aiohttp.ClientSession) -> None:
    async with (
        serve(Simulator(parse_spec(FAST))) as url,
        aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=1)) as client,
    ):
        opened: list[object] = []
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_note(opened))
        trace.freeze()
        client.trace_configs.append(trace)
        for content in ("a", "[[sim:529]]", "[[sim:200_html]]", "[[sim:200_empty]]", "b"):
            await post(client, url, params(content))
        await post(client, url, params("c", stream=True))
        assert len(opened) == 1


def _note(opened: list[object]) -> Any:
    async def note(*_: object) -> None:
        opened.append(None)

    return note


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("reset", (aiohttp.ClientOSError,)),
        ("close", (aiohttp.ServerDisconnectedError,)),
        ("reset_body", (aiohttp.ClientPayloadError, aiohttp.ClientOSError)),
        ("bad_gzip", (aiohttp.ClientPayloadError,)),
    ],
)
async def test_a_broken_connection_is_broken_for_the_client(
    session: aiohttp.ClientSession, name: str, errors: tuple[type[Exception], ...]
) -> None:
    simulator = Simulator(parse_spec(FAST), ledger := WatchedLedger())
    async with serve(simulator) as url:
        with pytest.raises(errors) as caught:
            await post(session, url, params(f"[[sim:{name}]] hello"))
        assert name != "reset" or getattr(caught.value, "errno", None) == errno.ECONNRESET
        await times(1, ledger.ended)
    assert simulator.ledger.summary().paid == (name in {"reset_body", "bad_gzip"})


@pytest.mark.parametrize(
    "name", ["200_truncated", "200_null", "200_html", "200_utf8", "redirect", "502_html", "524", "413"]
)
async def test_a_strange_reply_arrives_whole(session: aiohttp.ClientSession, name: str) -> None:
    simulator = Simulator(parse_spec(FAST))
    async with serve(simulator) as url:
        status, said = await post(session, url, params(f"[[sim:{name}]] hello"))
    assert status == {"redirect": 307, "502_html": 502, "524": 524, "413": 413}.get(name, 200)
    assert b'"type":"message","role"' not in said or name == "200_truncated"
    assert simulator.ledger.summary().actions == {name: 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stream_that_is_cut_looks_ended(session: aiohttp.ClientSession, stream: bool) -> None:
    async with serve(Simulator(parse_spec(FAST))) as url:
        _, said = await post(session, url, params("[[sim:sse_cut]] hello", stream=stream))
    assert (b"message_start" in said) is stream
    assert b"message_stop" not in said


async def test_a_reset_stream_breaks_the_clients_read(session: aiohttp.ClientSession) -> None:
    async with serve(Simulator(parse_spec(FAST))) as url:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            await post(session, url, params("[[sim:reset_body]] hello", stream=True))


async def test_a_client_that_goes_while_waiting_has_still_to_pay(session: aiohttp.ClientSession) -> None:
    simulator = Simulator(parse_spec("latency=30"), ledger := WatchedLedger())
    async with serve(simulator) as url:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await post(session, url, params())
        await times(1, ledger.ended)
    summary = simulator.ledger.summary()
    assert (summary.paid, summary.undelivered) == (1, 1)


async def test_a_trickle_sends_its_head_and_then_hardly_anything(session: aiohttp.ClientSession) -> None:
    simulator = Simulator(parse_spec(FAST), ledger := WatchedLedger())
    async with serve(simulator) as url:
        async with session.post(f"{url}/v1/messages", json=params("[[sim:trickle]]")) as response:
            assert response.status == 200
            assert await response.content.readexactly(1) == b"{"
            response.close()
        await times(1, ledger.ended)
    assert simulator.ledger.summary().undelivered == 1


async def test_a_server_stops_while_requests_are_being_answered(session: aiohttp.ClientSession) -> None:
    simulator = Simulator(parse_spec("latency=60"), ledger := WatchedLedger())
    with anyio.fail_after(5):
        async with serve(simulator) as url:
            contents = ["[[sim:hang]]", "[[sim:trickle]]", "slow", "slower"]
            waiting = [asyncio.ensure_future(post(session, url, params(content))) for content in contents]
            await times(4, ledger.arrived)
        summary = simulator.ledger.summary()
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, aiohttp.ClientError) for result in results)
    assert (summary.open, summary.paid, summary.undelivered) == (0, 3, 3)


async def test_one_simulator_may_be_served_twice_on_one_port(session: aiohttp.ClientSession) -> None:
    simulator = Simulator(parse_spec(f"{FAST},rate=2/1h,strict=1"))
    async with serve(simulator) as url:
        assert (await post(session, url, params("a")))[0] == 200
    async with serve(simulator, port=int(url.rpartition(":")[2])) as again:
        assert again == url
        assert (await post(session, url, params("b")))[0] == 200
        assert (await post(session, url, params("c")))[0] == 429


async def test_a_port_in_use_is_a_usage_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port}"):
            async with serve(Simulator(), port):
                pass


async def test_it_listens_on_this_machine_only() -> None:
    async with serve(Simulator()) as url:
        assert url.startswith("http://127.0.0.1:")
        with socket.socket() as elsewhere:
            elsewhere.settimeout(1)
            assert elsewhere.connect_ex(("127.0.0.2", int(url.rpartition(":")[2]))) != 0


async def test_a_foreign_host_name_is_refused(session: aiohttp.ClientSession) -> None:
    async with (
        serve(Simulator()) as url,
        session.post(f"{url}/v1/messages", json=params(), headers={"host": "evil.example"}) as response,
    ):
        assert response.status == 403


async def test_serving_ends_when_it_is_told_to(session: aiohttp.ClientSession) -> None:
    stop, seen = anyio.Event(), []

    async def use(url: str) -> None:
        seen.append((await post(session, url, params()))[0])
        stop.set()

    async with anyio.create_task_group() as group:

        def ready(url: str) -> None:
            group.start_soon(use, url)

        await serve_until(Simulator(parse_spec(FAST)), 0, stop, ready)
    assert seen == [200]


async def test_the_ledgers_file_holds_every_arrival_and_no_key(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        async with serve(Simulator(parse_spec(FAST), ledger)) as url:
            for content in ("a", "[[sim:401]]", "[[sim:529*1]]", "[[sim:529*1]]"):
                await post(session, url, params(content))
            async with session.get(f"{url}/v1/models?api_key=sk-test-canary"):
                pass
    assert Ledger.read(path).summary() == ledger.summary()
    assert ledger.summary().actions == {"answered": 2, "401": 1, "529": 1}
    assert b"sk-test" not in path.read_bytes()


async def test_a_large_body_is_taken_and_a_larger_one_refused(session: aiohttp.ClientSession) -> None:
    async with serve(Simulator(parse_spec(FAST))) as url:
        for size, status in ((3_000_000, 400), (33 * 2**20, 413)):  # too long a prompt, but read; too large to be read
            body = io.BytesIO(json.dumps(params("x" * size)).encode())
            async with session.post(f"{url}/v1/messages", data=body) as response:
                assert response.status == status


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 this is TLS\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_is_not_http_gets_a_400_and_no_traceback(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serve(Simulator()) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(sent)
        assert b" 400 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
    assert caplog.records == []
