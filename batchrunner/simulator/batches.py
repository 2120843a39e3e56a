"""The Message Batches API: create, retrieve, list, cancel, results, delete. Pure: request and time in, answer out."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from batchrunner.simulator.batch_held import HeldBatch
from batchrunner.simulator.batch_rows import Row
from batchrunner.simulator.chance import draw
from batchrunner.simulator.faults import Wire
from batchrunner.simulator.ledger import BATCHES_PATH, Ledger
from batchrunner.simulator.markers import longest_delay_s
from batchrunner.simulator.replies import Rejection
from batchrunner.simulator.settings import SimulatorSettings

LARGEST_BATCH = 256 * 2**20  #: Bytes of a body that creates a batch.
MOST_ROWS = 100_000

_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_DEFAULT_PAGE, _LARGEST_PAGE = 20, 1000
#: Rows that are worked on at most while a call is answered: the others wait for the next one.
_WORKED_PER_CALL = 2_000
_KEPT_HEADERS = ("anthropic-version", "anthropic-beta")


@dataclass(frozen=True, slots=True)
class BatchCall:
    """One call on the paths of the batches."""

    method: str
    path: str  #: Without the query.
    query: str
    headers: Mapping[str, str]
    body: bytes
    now: float
    number: int  #: Of the arrival.


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What a call gets: an error, JSON, or the results in pieces; and what happens to it on its way."""

    content: Rejection | dict[str, Any] | tuple[bytes, ...]
    action: str = "served"  #: For the ledger.
    wire: Wire = Wire.WHOLE


class Batches:
    """All batches of one workspace."""

    def __init__(self, settings: SimulatorSettings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._held: dict[str, HeldBatch] = {}

    def answer(self, call: BatchCall) -> BatchAnswer:
        """Return what *call* gets."""
        if not self._settings.batches.offered:
            return _refused(404, "not_found_error", "Not Found")
        if self._chance(call, "failing") < self._settings.batches.failing:
            return _refused(500, "api_error", "Internal server error")
        self.advance(call.now, _WORKED_PER_CALL)
        name, _, act = call.path.removeprefix(BATCHES_PATH).strip("/").partition("/")
        if not name and call.method in {"GET", "POST"}:
            return self._create(call) if call.method == "POST" else BatchAnswer(self._page(call))
        acting = {
            ("GET", ""): self._shown,
            ("DELETE", ""): self._delete,
            ("POST", "cancel"): self._cancel,
            ("GET", "results"): self._results,
        }.get((call.method, act))
        if acting is None:
            return _refused(404, "not_found_error", "Not Found")
        batch = self._held.get(name)
        if batch is None:
            return _refused(404, "not_found_error", f"Message batch {name} was not found")
        return acting(call, batch)

    def advance(self, now: float, at_most: int) -> bool:
        """Work on at most so many rows whose turn has come by *now*; whether any batch is still open."""
        is_open = False
        for batch in self._held.values():
            if batch.ended is None:
                at_most -= batch.advance(now, at_most, self._settings, self._ledger)
                is_open = is_open or batch.ended is None
        return is_open

    def _create(self, call: BatchCall) -> BatchAnswer:
        rows = _rows_of(call.body)
        if isinstance(rows, Rejection):
            return BatchAnswer(rows, "rejected")
        waiting = sum(batch.total for batch in self._held.values() if batch.ended is None)
        if waiting + len(rows) > self._settings.batches.queue:
            return _refused(429, "rate_limit_error", "This would exceed your limit of batch requests in the queue.")
        spec = self._settings.batches
        seconds = max(spec.seconds.at(self._chance(call, "seconds")), longest_delay_s(call.body))
        batch = HeldBatch(
            id=f"msgbatch_sim{round(self._ledger.epoch.timestamp() * 1000):x}{call.number:08d}",
            rows=rows,
            headers={name: call.headers[name] for name in _KEPT_HEADERS if name in call.headers},
            created=call.now,
            ends=call.now + seconds,
            expires=call.now + spec.expires_s,
        )
        self._held[batch.id] = batch
        is_lost = self._chance(call, "lost") < spec.lost
        return BatchAnswer(self._json(call, batch), "created", Wire.SILENT_RESET if is_lost else Wire.WHOLE)

    def _shown(self, call: BatchCall, batch: HeldBatch) -> BatchAnswer:
        return BatchAnswer(self._json(call, batch))

    def _cancel(self, call: BatchCall, batch: HeldBatch) -> BatchAnswer:
        if batch.ended is not None:
            return _refused(400, "invalid_request_error", f"Message batch {batch.id} has ended; it cannot be canceled")
        if batch.cancel_asked is None:
            batch.cancel_asked = call.now
        return BatchAnswer(self._json(call, batch), "canceled")

    def _delete(self, _call: BatchCall, batch: HeldBatch) -> BatchAnswer:
        if batch.ended is None:
            return _refused(
                400, "invalid_request_error", f"Message batch {batch.id} is still processing; cancel it first"
            )
        del self._held[batch.id]
        return BatchAnswer({"id": batch.id, "type": "message_batch_deleted"}, "deleted")

    def _results(self, call: BatchCall, batch: HeldBatch) -> BatchAnswer:
        if batch.ended is None:
            return _refused(404, "not_found_error", f"Message batch {batch.id} has no results yet")
        if self._archived(call, batch) is not None:
            return _refused(404, "not_found_error", f"The results of message batch {batch.id} are no longer available")
        is_cut = self._chance(call, "cut") < self._settings.batches.cut
        # A reset is an error that shows; a clean end of file is not.
        cut = Wire.RESET_MIDWAY if call.number % 2 else Wire.CUT_MIDWAY
        return BatchAnswer(tuple(batch.chunks()), "results", cut if is_cut else Wire.WHOLE)

    def _page(self, call: BatchCall) -> dict[str, Any]:
        asked = {name: values[-1] for name, values in parse_qs(call.query).items()}
        limit = min(max(int(asked["limit"]), 1), _LARGEST_PAGE) if asked.get("limit", "").isdecimal() else _DEFAULT_PAGE
        ids = [*reversed(self._held)]  # the newest first
        if (after := asked.get("after_id")) in ids:
            ids = ids[ids.index(after) + 1 :]
        if (before := asked.get("before_id")) in ids:
            ids = ids[: ids.index(before)][-limit:]
        page = ids[:limit]
        return {
            "data": [self._json(call, self._held[name]) for name in page],
            "has_more": len(ids) > len(page),
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
        }

    def _json(self, call: BatchCall, batch: HeldBatch) -> dict[str, Any]:
        host = self._settings.batches.results_host or f"http://{call.headers.get('host', '127.0.0.1')}"
        return batch.as_json(host, self._ledger.epoch, archived=self._archived(call, batch))

    def _archived(self, call: BatchCall, batch: HeldBatch) -> float | None:
        kept_until = batch.created + self._settings.batches.kept_s
        return kept_until if call.now >= kept_until else None

    def _chance(self, call: BatchCall, purpose: str) -> float:
        return draw(self._settings.seed, call.method, call.number, purpose)


def _rows_of(body: bytes) -> list[Row] | Rejection:
    if len(body) > LARGEST_BATCH:
        return Rejection(413, "request_too_large", "Request exceeds the maximum size")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return _invalid("The request body is not valid JSON")
    requests = asked.get("requests") if isinstance(asked, dict) else None
    if not isinstance(requests, list) or not requests:
        return _invalid("requests: Field required")
    if len(requests) > MOST_ROWS:
        return _invalid(f"requests: List should have at most {MOST_ROWS} items")
    rows: dict[str, Row] = {}
    for index, request in enumerate(requests):
        if (wrong := _complaint(request, rows)) is not None:
            return _invalid(f"requests.{index}.{wrong}")
        rows[request["custom_id"]] = Row(request["custom_id"], request["params"])
    return [*rows.values()]


def _complaint(request: object, before: Mapping[str, Row]) -> str | None:
    name = request.get("custom_id") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(name, str) or not _ID.fullmatch(name):
        return "custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
    if name in before:
        return f"custom_id: duplicate custom_id {name}"
    return None if isinstance(request.get("params"), dict) else "params: Input should be a valid dictionary"


def _invalid(message: str) -> Rejection:
    return Rejection(400, "invalid_request_error", message)


def _refused(status: int, kind: str, message: str) -> BatchAnswer:
    return BatchAnswer(Rejection(status, kind, message), "rejected")
