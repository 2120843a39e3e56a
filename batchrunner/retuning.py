"""A run's ear for other terminals: takes wishes from the file beside the store, obeys, and puts it on record."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio

from batchrunner.clock import Clock, stamp
from batchrunner.dispatcher import Dispatcher
from batchrunner.errors import UsageError
from batchrunner.settings import Limits
from batchrunner.stopping import Stopper
from batchrunner.store.changes import Retuned
from batchrunner.store.wishfile import BadWishError, Wish, take
from batchrunner.store.writer import Writer
from batchrunner.tuning import AUTO, Tuning, Verb

#: Seconds between two looks; a look that finds nothing is one system call.
EVERY_S = 0.2
STOPPED = "stopped by `batchrunner stop`"


@dataclass(slots=True)
class Sending:
    """What can be retuned, from the moment the run sends."""

    dispatcher: Dispatcher
    writer: Writer
    run_id: int
    limits: Limits  #: In force.
    paused: bool = False

    @property
    def now(self) -> dict[str, Any]:
        """What is in force, as the store keeps it: plain JSON values."""
        return {**self.limits.as_record(), "paused": self.paused}


class Listener:
    """Obeys wishes for one owner of a store. Limits and pauses that come before the run sends wait until it does."""

    def __init__(self, store: Path, owner: str, stopper: Stopper, clock: Clock, note: Callable[[str], None]) -> None:
        self._store = store
        self._owner = owner
        self._stopper = stopper
        self._clock = clock
        self._note = note
        self._sending: Sending | None = None
        self._early: list[tuple[str, Tuning, str | None]] = []
        self._complaint: str | None = None

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Listener"]:
        """Listen while the block lasts."""
        self._first_look()
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen)
            try:
                yield self
            finally:
                group.cancel_scope.cancel()

    def sending(self, sending: Sending) -> None:
        """The run sends from now on."""
        self._sending = sending
        early, self._early = self._early, []
        for wish_id, tuning, done in early:
            self._obey(sending, wish_id, tuning, done)

    async def _listen(self) -> None:
        while True:
            await anyio.sleep(EVERY_S)
            self.look()

    def _first_look(self) -> None:
        """Take away without a word what a `tune` that died has left for an earlier owner."""
        with contextlib.suppress(BadWishError, OSError):
            if (wish := take(self._store, self._owner)) is not None:
                self._hear(wish)

    def look(self) -> None:
        """Obey the wish that lies there, if one does."""
        complaint = None
        try:
            wish = take(self._store, self._owner)
            if wish is not None:
                self._hear(wish)
        except (BadWishError, OSError) as error:
            complaint = str(error)
            if complaint != self._complaint:  # what cannot be removed is complained of once, not at every look
                self._note(complaint)
        self._complaint = complaint

    def _hear(self, wish: Wish) -> None:
        try:
            tuning = Tuning.from_json(wish.asked)
        except UsageError as error:
            self._note(f"a wish from another terminal is not understood and ignored: {error}")
            return
        done = self._stop() if tuning.verb is Verb.STOP else None
        if self._sending is None:
            self._early.append((wish.id, tuning, done))
        else:
            self._obey(self._sending, wish.id, tuning, done)

    def _obey(self, sending: Sending, wish_id: str, tuning: Tuning, done: str | None) -> None:
        refused = False
        try:
            what = done or _apply(sending, tuning)
        except UsageError as error:
            what, refused = f"refused: {error}", True
        self._note(f"from another terminal: {what}")
        at = stamp(self._clock.utc_now())
        sending.writer.submit(Retuned(sending.run_id, at, what, sending.now, wish_id, refused))

    def _stop(self) -> str:
        words = ("stop: nothing more is sent", "stop: what is in flight is cancelled", "stop: the run is stopping")
        before = self._stopper.wishes
        self._stopper.ask(STOPPED)
        return words[min(before, len(words) - 1)]


def _apply(sending: Sending, tuning: Tuning) -> str:
    """Do what *tuning* says and return it in words; raises `UsageError` if it cannot be done."""
    dispatcher = sending.dispatcher
    if tuning.verb is Verb.TUNE:
        return _retune(sending, tuning)
    wanted = tuning.verb is Verb.PAUSE
    changes = dispatcher.is_paused is not wanted
    (dispatcher.pause if wanted else dispatcher.unpause)()
    sending.paused = wanted
    word = "paused" if wanted else "going on"
    return word if changes else f"{word} as before"


def _retune(sending: Sending, tuning: Tuning) -> str:
    if tuning.concurrency is not None:
        from batchrunner.api.wire import allow_connections

        allow_connections(tuning.concurrency)
    before = sending.now
    wanted: dict[str, Any] = {
        name: None if (value := getattr(tuning, name)) == AUTO else value for name in tuning.limits()
    }
    sending.limits = replace(sending.limits, **wanted)
    sending.dispatcher.retune(sending.limits)
    after = sending.now
    return ", ".join(f"{name} from {_word(before[name])} to {_word(after[name])}" for name in wanted)


def _word(value: object) -> str:
    return AUTO if value is None else str(value)
