"""Flipped bits, in a small number; `make soak` does ten thousand."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from batchrunner.errors import StoreError
from batchrunner.model import ErrorClass
from batchrunner.store.spending import PriceKept
from faults.flips import flips
from store_helpers import answer, building, failure, requests, typed


def test_two_hundred_flipped_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    came_to = flips(tmp_path, count=200, seed=1)
    assert came_to["named"] > 20
    assert came_to["worked"] > 1000, "most bytes of a store are in no one's way"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two requests of which one failed, and a price."""
    with building(tmp_path / "jobs.db") as maker:
        maker.take_in(requests(3), simulated=True)
        maker.begin()
        maker.settle("r1", failure(ErrorClass.INVALID, "no"))
        maker.settle("r2", answer())
        maker.write(PriceKept(1, "claude", "", "2026-11-25", '{"rates": {"input": 1e-6, "output": 5e-6}}'))
        maker.end()
    return tmp_path / "jobs.db"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("UPDATE requests SET error_class = 'inwalid' WHERE seq = 1", ["errors"]),
        ("UPDATE requests SET error_class = 'inwalid' WHERE seq = 1", ["errors", "--id", "r1"]),
        ("UPDATE requests SET signature = 'nn' WHERE seq = 1", ["errors"]),
        ("UPDATE failure_groups SET error_class = 'inwalid'", ["errors"]),
        ("UPDATE prices SET figures = replace(figures, 'rates', 'rbtes')", ["spend"]),
        ("UPDATE prices SET figures = replace(figures, 'output', 'oudput')", ["spend"]),
        ("UPDATE inputs SET params = replace(params, '{', '[') WHERE seq = 3", ["resume", "--simulate"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value.split(" SET ")[1][:24],
)
def test_a_letter_that_has_changed_is_damage_and_no_mistake_of_ours(store: Path, damage: str, words: list[str]) -> None:
    with contextlib.closing(sqlite3.connect(store, isolation_level=None)) as conn:
        assert conn.execute(damage).rowcount
    with pytest.raises(StoreError, match=r"\.recover"):
        typed(words[0], store, *words[1:])
