"""What faults do to a good reply on its way."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from batchrunner.simulator.events import error_event
from batchrunner.simulator.faults import Wire
from batchrunner.simulator.replies import Ending, Framing, Reply

_TRICKLE_GAP_S = 1.0
_MEGABYTE = b" " * (1 << 20)
_HUGE_MB = 65  # more than a client should take
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # what follows it is no deflate stream


def spoil(reply: Reply, wire: Wire, request_id: str) -> Reply:
    """Return *reply* as it looks after *wire*."""
    if wire is Wire.ERROR_MIDWAY:
        event = error_event("overloaded_error", "Overloaded", request_id)
        return replace(reply, chunks=(*_first_half(reply), event))
    return _SPOILERS[wire](reply)


def _first_half(reply: Reply) -> tuple[bytes, ...]:
    """Half of the events of a stream, half of the bytes of anything else."""
    if len(reply.chunks) > 1:
        return reply.chunks[: len(reply.chunks) // 2]
    return (reply.body[: len(reply.body) // 2],)


def _silent(ending: Ending) -> Callable[[Reply], Reply]:
    return lambda reply: replace(reply, status=0, chunks=(), silent=True, ending=ending)


def _reset_midway(reply: Reply) -> Reply:
    return replace(reply, chunks=_first_half(reply), length=reply.declared_length, ending=Ending.RESET)


def _cut_midway(reply: Reply) -> Reply:
    return replace(reply, chunks=_first_half(reply), framing=Framing.UNTIL_CLOSE, ending=Ending.CLOSE)


def _truncate(reply: Reply) -> Reply:
    return replace(reply, chunks=_first_half(reply))


def _trickle(reply: Reply) -> Reply:
    bytewise = tuple(bytes([byte]) for byte in reply.body)
    return replace(reply, chunks=bytewise, framing=Framing.LENGTH, gap_s=_TRICKLE_GAP_S)


def _bad_gzip(reply: Reply) -> Reply:
    return replace(reply, headers={**reply.headers, "content-encoding": "gzip"}, chunks=(_GZIP_HEAD, *reply.chunks))


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(_MEGABYTE) for _ in range(_HUGE_MB)]) + packer.flush()


def _gzip_bomb(reply: Reply) -> Reply:
    return replace(reply, headers={**reply.headers, "content-encoding": "gzip"}, chunks=(_bomb(),))


def _huge(reply: Reply) -> Reply:
    return replace(reply, chunks=(_MEGABYTE,) * _HUGE_MB, framing=Framing.LENGTH, gap_s=0.0)


def _huge_header(reply: Reply) -> Reply:
    return replace(reply, headers={**reply.headers, "x-huge": "y" * len(_MEGABYTE)})


_SPOILERS: Mapping[Wire, Callable[[Reply], Reply]] = {
    Wire.WHOLE: lambda reply: reply,
    Wire.SILENT_RESET: _silent(Ending.RESET),
    Wire.SILENT_CLOSE: _silent(Ending.CLOSE),
    Wire.HANG: _silent(Ending.HANG),
    Wire.RESET_MIDWAY: _reset_midway,
    Wire.CUT_MIDWAY: _cut_midway,
    Wire.TRICKLE: _trickle,
    Wire.TRUNCATE: _truncate,
    Wire.BAD_GZIP: _bad_gzip,
    Wire.GZIP_BOMB: _gzip_bomb,
    Wire.HUGE: _huge,
    Wire.HUGE_HEADER: _huge_header,
}
