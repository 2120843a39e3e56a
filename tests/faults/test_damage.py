"""Flipped bits, in a small number; `make soak` does ten thousand."""

from pathlib import Path

import pytest

from faults.flips import flips


def test_two_hundred_flipped_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    came_to = flips(tmp_path, count=200, seed=1)
    assert came_to["named"] > 20
    assert came_to["worked"] > 1000, "most bytes of a store are in no one's way"
