"""Carries one reply out on a connection: delays, chunks, resets, silence."""

import asyncio
import socket
import struct
from http import HTTPStatus

from batchrunner.simulator.replies import Ending, Framing, Reply

_FLUSH_S = 0.02  # lets half of a body reach the client before the RST, which might overtake it
_LINGER_RESET = struct.pack("ii", 1, 0)  # closing discards what is unsent and sends RST
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Sending:
    """One reply on its way. Whatever interrupts it, the attributes tell how far it came."""

    def __init__(self, reply: Reply, transport: asyncio.Transport, *, keep_alive: bool) -> None:
        self._reply = reply
        self._transport = transport
        self._whole = reply.ending is Ending.KEEP
        self.keep_alive = keep_alive and self._whole  #: Whether the connection may serve another request afterwards.
        self.bytes_sent = 0  #: Of the body, handed to the kernel or waiting for it.
        self.delivered = False  #: The whole reply is out.

    async def run(self) -> None:
        """Send the reply and bring the connection to the end that the reply asks for."""
        if self._reply.delay_s > 0:
            await asyncio.sleep(self._reply.delay_s)
        if not self._reply.silent:
            await self._write_all()
        self.delivered = self._whole and not self._transport.is_closing()
        match self._reply.ending:
            case Ending.RESET:
                await asyncio.sleep(_FLUSH_S)
                self._reset()
            case Ending.CLOSE:
                self._transport.close()
            case Ending.HANG:
                await asyncio.Event().wait()  # until the client goes away or the server stops
            case Ending.KEEP:
                pass

    async def _write_all(self) -> None:
        chunks = self._reply.chunks
        if len(chunks) == 1 and self._reply.framing is Framing.LENGTH:
            self._transport.write(self._head() + chunks[0])
            self.bytes_sent = len(chunks[0])
            return
        self._transport.write(self._head())
        for index, chunk in enumerate(chunks):
            if index and self._reply.gap_s > 0:
                await asyncio.sleep(self._reply.gap_s)
            self._transport.write(self._framed(chunk))
            self.bytes_sent += len(chunk)
        if self._reply.framing is Framing.CHUNKED and self._whole:
            self._transport.write(b"0\r\n\r\n")

    def _head(self) -> bytes:
        reply = self._reply
        lines = [_STATUS_LINES.get(reply.status, f"HTTP/1.1 {reply.status} Unknown\r\n")]
        lines += [f"{name}: {value}\r\n" for name, value in reply.headers.items()]
        if reply.framing is Framing.LENGTH:
            lines.append(f"content-length: {reply.declared_length}\r\n")
        elif reply.framing is Framing.CHUNKED:
            lines.append("transfer-encoding: chunked\r\n")
        lines.append("\r\n" if self.keep_alive else "connection: close\r\n\r\n")
        return "".join(lines).encode()

    def _framed(self, chunk: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(chunk), chunk) if self._reply.framing is Framing.CHUNKED else chunk

    def _reset(self) -> None:
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._transport.abort()
