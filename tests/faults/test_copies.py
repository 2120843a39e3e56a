"""Copies of a live store: `VACUUM INTO` always, the files one by one only by good luck."""

from pathlib import Path

from faults.copies import take_copies


def test_a_copy_of_a_live_store_holds_all_that_was_saved_before(tmp_path: Path) -> None:
    found = take_copies(tmp_path, count=20, seed=3)
    assert found.vacuumed == 20
    assert found.plain, "no copy of the files was taken without a checkpoint between"
