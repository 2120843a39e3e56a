"""Rows as lines that other programs know: a job file of ours, the results of the Message Batches API."""

import json
from collections.abc import Mapping
from types import MappingProxyType

from batchrunner.attachments import as_named
from batchrunner.csv_cells import encoded
from batchrunner.export.settings import Sink
from batchrunner.export.tables import one_line
from batchrunner.model import ErrorClass, State
from batchrunner.store.found import ExportRow
from batchrunner.store.queue import patched

#: The API's own name for each class of error; the Batches API knows no others.
ERROR_TYPES: Mapping[ErrorClass, str] = MappingProxyType(
    {
        ErrorClass.RATE_LIMITED: "rate_limit_error",
        ErrorClass.CONCURRENCY: "rate_limit_error",
        ErrorClass.RAMP: "rate_limit_error",
        ErrorClass.OVERLOADED: "overloaded_error",
        ErrorClass.TIMEOUT: "timeout_error",
        ErrorClass.INVALID: "invalid_request_error",
        ErrorClass.TOO_LARGE: "invalid_request_error",
        ErrorClass.INPUT: "invalid_request_error",
        ErrorClass.AUTHENTICATION: "authentication_error",
        ErrorClass.PERMISSION: "permission_error",
        ErrorClass.NOT_FOUND: "not_found_error",
        ErrorClass.ENDPOINT: "not_found_error",
        ErrorClass.BILLING: "billing_error",
    }
)
_OTHERWISE = "api_error"
_dumped = json.JSONEncoder(ensure_ascii=False).encode


class BatchResults:
    """Lines as `client.messages.batches.results()` gives them; see `batch_result`."""

    escaped_cells = 0
    extra = ("message",)

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, row: ExportRow) -> None:
        """Write one line."""
        self._sink.write(encoded(f'{{"custom_id": {_dumped(row["custom_id"])}, "result": {batch_result(row)}}}\n'))


def batch_result(row: ExportRow) -> str:
    """Return the result of *row* as JSON text.

    Every answer that is kept counts as `succeeded`, truncated and refused ones too: its `stop_reason` tells, as in the
    Batches API. Failures without an answer are `errored` or `expired`, and what is pending is `canceled`: not sent.
    """
    if row["status"] == State.PENDING:
        return '{"type": "canceled"}'
    if row["message"] is not None:
        return f'{{"type": "succeeded", "message": {one_line(row["message"])}}}'
    if row["error_class"] == ErrorClass.EXPIRED:
        return '{"type": "expired"}'
    kind = ERROR_TYPES.get(row["error_class"], _OTHERWISE)
    error = {"type": kind, "message": f"{row['error_class']}: {row['error_message']}"}
    return _dumped({"type": "errored", "error": {"type": "error", "error": error, "request_id": row["api_request_id"]}})


class JobLines:
    """Lines of a job file: parameters as they would be sent, changes by `retry --set` laid over."""

    escaped_cells = 0
    extra = ("params", "patches", "timeout_s")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, row: ExportRow) -> None:
        """Write one line."""
        params = row["params"]
        if row["patches"] != "[]":
            params, _, _ = patched(params, row["patches"])
        fields = [f'"custom_id": {_dumped(row["custom_id"])}', f'"params": {one_line(as_named(params))}']
        if row["metadata"] is not None:
            fields.append(f'"metadata": {one_line(row["metadata"])}')
        if row["timeout_s"] is not None:
            fields.append(f'"timeout_s": {_dumped(row["timeout_s"])}')
        self._sink.write(encoded(f"{{{', '.join(fields)}}}\n"))
