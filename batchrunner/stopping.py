"""Stopping well: once means drain, twice means cancel, three times means out."""

import os
import signal
from collections.abc import Callable

import anyio

from batchrunner.errors import Exit
from batchrunner.settings import Stopping

#: Who asks twice waits for a store that refuses no longer than this (seconds).
_INSIST_S = 0.5


class Stopper:
    """Turns signals into wishes. What drains and what is cancelled is set when there is something to stop."""

    def __init__(self, stopping: Stopping, note: Callable[[str], None]) -> None:
        self._stopping = stopping
        self._note = note
        self._drain: Callable[[float], int] = lambda _: 0
        self._work: anyio.CancelScope | None = None
        self._heard: list[int] = []
        self._leaving: Callable[[], str] | None = None
        self.wishes = 0
        self.code: Exit | None = None  #: Of the first signal.
        self._wished: anyio.Event | None = None  # set at the first wish, if somebody waits for it
        self.reason: str | None = None  #: Why, where the first wish was no signal.

    def stopped(self) -> bool:
        """Whether the user wants the run to stop."""
        return self.wishes > 0

    async def wished(self) -> None:
        """Wait until the user wants the run to stop."""
        if not self.stopped():
            self._wished = self._wished or anyio.Event()
            await self._wished.wait()

    def watch_over(
        self, work: anyio.CancelScope, drain: Callable[[float], int], leaving: Callable[[], str] | None = None
    ) -> None:
        """Stop *work* on request.

        *drain* is told within how many seconds all should be over; it stops the sending and returns how many calls are in
        flight. *leaving*: nothing is waited for, since others go on with it; returns what to say of that.
        """
        self._work, self._drain, self._leaving = work, drain, leaving
        if self.stopped():
            self._begin_drain(self._patience_s)

    def hear(self) -> None:
        """Remember signals from now on until `listen` acts on them: none must end a process that is about to begin."""
        for number in _heeded():
            signal.signal(number, lambda heard, _: self._heard.append(heard))

    async def listen(self) -> None:
        """Take in signals until cancelled. Main thread only.

        A signal that the process was started to ignore (`nohup`, a background job of a script) stays ignored.
        """
        heeded = _heeded()
        try:
            with anyio.open_signal_receiver(*heeded) as signals:
                for number in self._heard:
                    self.wish(number)
                async for number in signals:
                    self.wish(number)
        finally:
            if self.stopped() and signal.SIGHUP in heeded:  # one more of them must not end what has ended well
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def wish(self, number: int) -> None:
        """Act on a signal *number*."""
        if number == signal.SIGHUP and self.stopped():
            return  # a terminal that closes hangs up more than once, the kernel and then the shell: nobody insists
        self.wishes += 1
        if self._wished is not None:
            self._wished.set()
        if self.code is None:
            self.code = Exit.INTERRUPTED if number == signal.SIGINT else Exit.TERMINATED
        if self.wishes == 1:
            self._begin_drain(self._patience_s)
        elif self.wishes == 2:
            self._note("cancelling what is in flight; answers that have arrived are saved")
            self._drain(_INSIST_S)
            if self._work is not None:
                self._work.cancel()
        else:
            # The writer may be waiting for a disk: the store survives this as it survives a crash.
            os._exit(self.code)

    def ask(self, reason: str) -> None:
        """Act as on a Ctrl-C that came another way. Beyond the second wish nothing more happens."""
        if self.wishes >= 2:
            return
        if self.wishes == 0:
            self.reason = reason
        self.wish(signal.SIGINT)

    @property
    def _patience_s(self) -> float:
        return self._stopping.drain_s if self.code is Exit.INTERRUPTED else self._stopping.drain_sigterm_s

    def _begin_drain(self, drain_s: float) -> None:
        in_flight = self._drain(drain_s)
        if self._work is None:
            return
        if self._leaving is not None:
            self._note(self._leaving())
            self._work.cancel()
            return
        self._work.deadline = anyio.current_time() + drain_s
        calls = "call" if in_flight == 1 else "calls"
        self._note(
            f"stopping: nothing more is sent, {in_flight} {calls} in flight may finish within {drain_s:g} s "
            "(once more to cancel them)"
        )


def _heeded() -> list[signal.Signals]:
    every = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return [number for number in every if signal.getsignal(number) != signal.SIG_IGN]
