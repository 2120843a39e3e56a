"""What a reply is: bytes, when they are to be sent, and how the connection is to end."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from batchrunner.simulator.ledger import Arrival

JSON_TYPE = "application/json"

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Framing(StrEnum):
    """How the receiver learns where the body ends."""

    LENGTH = "length"  #: `content-length`, of `Reply.length` bytes even if fewer are sent.
    CHUNKED = "chunked"  #: `transfer-encoding: chunked`.
    UNTIL_CLOSE = "until_close"  #: Neither: the body ends with the connection.


class Ending(StrEnum):
    """What becomes of the connection once the chunks are out."""

    KEEP = "keep"  #: The reply is complete; the connection serves the next request.
    CLOSE = "close"  #: Closed in good order, complete or not.
    RESET = "reset"  #: Torn down by RST.
    HANG = "hang"  #: Left open, and nothing more is sent.


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, as the server has to carry it out."""

    status: int
    headers: Mapping[str, str]
    chunks: tuple[bytes, ...]  #: The body in the pieces in which it is sent.
    delay_s: float = 0.0  #: Before the first byte.
    gap_s: float = 0.0  #: Between one chunk and the next.
    framing: Framing = Framing.LENGTH
    length: int | None = None  #: Declared length; None: that of the chunks.
    ending: Ending = Ending.KEEP
    silent: bool = False  #: Not even a status line is sent.
    arrival: Arrival | None = None  #: What it answers, as the ledger has it.

    @property
    def body(self) -> bytes:
        """The whole body as sent."""
        return b"".join(self.chunks)

    @property
    def declared_length(self) -> int:
        """The `content-length` that is announced."""
        return sum(map(len, self.chunks)) if self.length is None else self.length


@dataclass(frozen=True, slots=True)
class Rejection:
    """An error in the API's own form."""

    status: int
    type: str
    message: str
    error_code: str | None = None  #: `error.details.error_code`.
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        """Return the error body as the API writes it."""
        error: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.error_code is not None:
            error["details"] = {"error_code": self.error_code}
        return to_json({"type": "error", "error": error, "request_id": request_id})


def to_json(value: object) -> bytes:
    """Return *value* as compact JSON in UTF-8; lone surrogates, which UTF-8 cannot hold, stay escaped."""
    try:
        return _ENCODER.encode(value).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()
