"""How a command tells a run something and hears what came of it."""

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrunner.errors import StoreError, UsageError
from batchrunner.store.found import LiveChange
from batchrunner.store.owner import Owner, last_owner
from batchrunner.store.read import Reader
from batchrunner.store.wishfile import Sent, send

#: A run that lives answers within a fraction of a second; one that does not for so long is stopped or asleep.
PATIENCE_S = 5.0
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Told:
    """What came of telling a run something."""

    words: str
    change: LiveChange | None = None  #: As the run put it on record; None: it has not come to that.


def living_owner(store: Path, verb: str, resume: str) -> Owner:
    """Return the run that works on *store*; raises `UsageError`, naming the command *resume*, if there is none to *verb*."""
    owner = last_owner(store)
    # Of another machine (a container, a network disk) the answer, or none, will tell.
    if owner is None or (owner.is_here and not owner.lives):
        raise UsageError(f"No run works on {store}, so there is none to {verb}. `{resume}` starts one.")
    who = f"The run on {store} (process {owner.pid} on {owner.host})"
    if owner.name is None:
        raise UsageError(f"{who} is of an earlier version, which takes no wishes; Ctrl-C stops it.")
    if owner.uid != os.geteuid():
        raise UsageError(f"{who} belongs to another user, who alone can {verb} it.")
    return owner


def tell(store: Path, owner: Owner, asked: Mapping[str, Any]) -> Told:
    """Tell *owner*, the run that works on *store*, what is *asked*, and return its answer.

    Raises `UsageError` if the run refuses or is over, `StoreError` if it does not answer; nothing is changed then.
    """
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.closing(_send(store, owner, asked, deadline)) as sent:
        return _answer_to(sent, store, owner, asked, deadline)


def _answer_to(sent: Sent, store: Path, owner: Owner, asked: Mapping[str, Any], deadline: float) -> Told:
    while time.monotonic() < deadline:
        lives = _still_owns(store, owner)  # before the rest: its last words are written before it goes
        if sent.is_taken() and (change := _on_record(store, sent.id)):
            return _answer(change)
        if not lives:
            return _last_words(store, owner, sent, asked)
        time.sleep(_LOOK_S)
    if sent.withdraw():
        raise StoreError(
            f"The run on {store} (process {owner.pid} on {owner.host}) did not answer within {PATIENCE_S:g} s: is it "
            "suspended? Nothing was changed."
        )
    if change := _on_record(store, sent.id):
        return _answer(change)
    return Told("taken; it will take effect when the run sends (it may still be reading its job file)")


def _send(store: Path, owner: Owner, asked: Mapping[str, Any], deadline: float) -> Sent:
    if owner.name is None:
        raise AssertionError("only an owner with a name is told anything")
    while (sent := send(store, owner.name, asked)) is None:  # another terminal was faster; its wish is taken first
        if time.monotonic() > deadline:
            raise StoreError(
                f"The run on {store} has not yet taken what another terminal wants of it. Nothing was changed; try again."
            )
        time.sleep(_LOOK_S)
    return sent


def _answer(change: LiveChange) -> Told:
    if change.refused:
        raise UsageError(f"The run has {change.what}")
    return Told(change.what, change)


def _on_record(store: Path, wish_id: str) -> LiveChange | None:
    try:
        with Reader(store) as reader:
            runs = reader.latest_runs(1)
    except UsageError:  # a first import that is stopped leaves no store behind
        return None
    return next((change for run in runs for change in run.changes if change.wish == wish_id), None)


def _still_owns(store: Path, owner: Owner) -> bool:
    now = last_owner(store)
    return now is not None and now.name == owner.name and (now.lives or not now.is_here)


def _last_words(store: Path, owner: Owner, sent: Sent, asked: Mapping[str, Any]) -> Told:
    """The run is over: what it took was taken by its end."""
    taken = not sent.withdraw()
    if change := _on_record(store, sent.id):
        return _answer(change)
    if taken and asked["verb"] == "stop":
        return Told("stop: the run is over; it was still reading its job file")
    raise UsageError(f"The run on {store} (process {owner.pid} on {owner.host}) ended before it took effect.")
