"""What must hold of the reading of a job file, whatever its bytes: for Hypothesis in the tests and Atheris beside them."""

import gzip
import io
from collections.abc import Iterable
from dataclasses import dataclass

from batchrunner.errors import InputError
from batchrunner.jobfile import Defaults, Format, LineError, Shaper, Template, open_lines, read_lines
from batchrunner.model import Request

DEFAULTS = Defaults("claude-haiku-4-5", 1024)
FIRST = b'{"id": "the first good line \xe2\x84\x96 1", "prompt": "Gr\xc3\xbc\xc3\x9fe"}'
LAST = b'{"id": "the last good line \xe2\x84\x96 2", "prompt": "\\ud83c\\udf88"}'
TEMPLATES = {Format.TXT: "{line}", Format.CSV: "{a}", Format.TSV: "{a}", Format.JSONL: "{prompt}"}


@dataclass(frozen=True)
class Reading:
    """What came of the bytes of a job file."""

    requests: tuple[Request, ...] = ()  #: Of bad lines too, marked by their `fault`.
    refused: str | None = None  #: The whole file was, with this message.

    @property
    def good(self) -> dict[str, str]:
        """Return custom_id -> hash of the params, of the lines that can be sent."""
        return {request.custom_id: request.params_hash for request in self.requests if request.fault is None}


def read(data: bytes, form: Format, *, is_table: bool = False, block_bytes: int | None = None) -> Reading:
    """Read a job file as a run with `--skip-invalid` does. Anything but a reading or a refusal is a bug and is raised."""
    template = Template(TEMPLATES[form]) if is_table else None
    shaper = Shaper(DEFAULTS, template)
    found = []
    try:
        stream = io.BytesIO(data)
        lines = (
            read_lines(stream, block_bytes=block_bytes)
            if block_bytes
            else open_lines(stream, form, "jobs", None if template is None else template.needed)
        )
        for line in lines:
            try:
                found.append(shaper.request(line))
            except LineError as error:
                told(str(error))
                found.append(shaper.unsendable(line, error))
    except InputError as error:
        return Reading(tuple(found), told(str(error)))
    for request in found:
        storable(request)
    return Reading(tuple(found))


def told(message: str) -> str:
    """Return *message* if it is fit to be shown."""
    assert message.strip()
    assert len(message) < 1000, "a message and not the line"
    message.encode()
    return message


def storable(request: Request) -> None:
    """Check that SQLite takes *request*."""
    assert 1 <= len(request.custom_id) <= 256
    for text in (request.custom_id, request.params, request.metadata or "", request.model, request.fault or ""):
        assert "\0" not in text
        text.encode()
    assert -(2**63) <= request.max_tokens < 2**63


def check_bytes(data: bytes, form: Format, *, is_table: bool = False) -> None:
    """Read *data*, twice and packed too: no exception, and every time the same requests with the same ids."""
    reading = read(data, form, is_table=is_table)
    assert read(data, form, is_table=is_table) == reading
    if not data.startswith(b"\x1f\x8b"):
        packed = gzip.compress(data, mtime=0)
        assert read(packed, form, is_table=is_table).good == reading.good
    read(b"\x1f\x8b" + data, form, is_table=is_table)


def check_lines(parts: Iterable[bytes]) -> None:
    """Read JSON lines, good ones before and behind and between *parts*: none of them is lost, moved or changed by the others."""
    parts = [part for part in parts if b"\n" not in part]
    data = FIRST + b"\n" + b"\n".join(parts) + b"\n" + LAST
    reading = read(data, Format.JSONL)
    assert reading.refused is None, "JSON lines are never refused as a whole behind a good one"
    alone = read(FIRST + b"\n" + LAST, Format.JSONL)
    assert len(alone.good) == 2
    assert alone.good.items() <= reading.good.items()
    assert reading.requests[0] == alone.requests[0]
    assert reading.requests[-1].custom_id == alone.requests[1].custom_id
    assert len(reading.requests) == 2 + sum(bool(part.strip(b" \t\r\x0b\x0c")) for part in parts)
    # Neither where the reader's blocks end nor what stands before a line changes what it is.
    assert read(data, Format.JSONL, block_bytes=7).requests == reading.requests
    moved = read(b"\n\n{bad\n" + data, Format.JSONL)
    assert moved.good == reading.good
