"""Damaged stores: whatever bit has flipped, every verb works or names the file; nothing is written over it."""

import random
from collections import Counter
from pathlib import Path

import click
from click.testing import CliRunner

from batchrunner.cli import cli
from batchrunner.errors import BatchrunnerError, StoreError
from batchrunner.model import ErrorClass
from store_helpers import answer, building, failure, request

VERBS = (
    ["status"],
    ["errors"],
    ["errors", "--rows"],
    ["export", "-f", "-o", "out.csv"],
    ["runs"],
    ["show", "r3"],
    ["resume", "--simulate", "--progress", "none"],
)


def whole_store(path: Path) -> bytes:
    """Make a store in which everything is final, and return its bytes."""
    with building(path) as maker:
        maker.take_in([request(f"r{n}", n) for n in range(1, 41)], simulated=True)
        maker.begin()
        for n in range(1, 20):
            maker.settle(f"r{n}", answer(f"a{n}" * 20))
        for n in range(20, 41):
            maker.settle(f"r{n}", failure(ErrorClass.SERVER, f"broke {n % 3}"))
        maker.end()
    return path.read_bytes()


def flips(folder: Path, *, count: int, seed: int) -> Counter[str]:
    """Flip one bit in a copy of a store, *count* times, and use it with every verb; returns how often each came to what."""
    chance, whole = random.Random(seed), whole_store(folder / "whole.db")
    came_to: Counter[str] = Counter()
    for _ in range(count):
        place = chance.randrange(len(whole))
        store = folder / "jobs.db"
        store.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
        for verb, *options in VERBS:
            came_to[use(store, place, verb, *options)] += 1
        for left in folder.glob("jobs.db*"):
            left.unlink()
    return came_to


def use(store: Path, place: int, verb: str, *options: str) -> str:
    """Return what became of a verb on *store*, of which the byte at *place* is not what it was."""
    before = store.read_bytes()
    result = CliRunner().invoke(cli, [verb, str(store), *options], standalone_mode=False)
    # A run writes its own rows until it comes upon the damage; who only reads writes nothing, whatever there is.
    assert verb == "resume" or store.read_bytes() == before, f"{verb}, byte {place}: it was written to"
    if result.exception is None:
        return "worked"
    told = f"{verb}, byte {place}: {result.exception!r}"
    assert isinstance(result.exception, BatchrunnerError | click.ClickException), told
    if isinstance(result.exception, StoreError):
        assert str(store) in str(result.exception), told
        return "named"
    return "refused"
