"""The disk of the power cuts, piece by piece."""

import random

from faults.disk import SECTOR, Disk, Record


def wrote(path: str, offset: int, data: bytes) -> Record:
    return Record("W", path, offset, data)


def flushed(path: str) -> Record:
    return Record("S", path, 0, b"")


def outcomes(*records: Record) -> list[dict[str, bytes]]:
    """Return what two hundred power cuts after these records leave."""
    disk = Disk()
    for record in records:
        disk.follow(record)
    return [disk.after_a_cut(random.Random(seed)) for seed in range(200)]


def test_what_was_flushed_survives_and_what_was_not_may_not() -> None:
    left = outcomes(wrote("/d/a", 0, b"one"), flushed("/d/a"), flushed("/d"), wrote("/d/a", 3, b"two"))
    assert {files["/d/a"] for files in left} == {b"one", b"onetwo"}


def test_a_write_may_be_torn_between_sectors_and_nowhere_else() -> None:
    old, new = bytes(2 * SECTOR), b"x" * 2 * SECTOR
    left = outcomes(wrote("/d/a", 0, old), flushed("/d/a"), flushed("/d"), wrote("/d/a", 0, new))
    half = {old[:SECTOR] + new[:SECTOR], new[:SECTOR] + old[:SECTOR]}
    assert {files["/d/a"] for files in left} == {old, new} | half


def test_a_flush_of_the_content_does_not_keep_the_name() -> None:
    made = (wrote("/d/a", 0, b"one"), flushed("/d/a"))
    assert any("/d/a" not in files for files in outcomes(*made))
    assert all(files["/d/a"] == b"one" for files in outcomes(*made, flushed("/d")))


def test_a_rename_happens_or_not_and_never_loses_the_file() -> None:
    left = outcomes(
        wrote("/d/a", 0, b"new"), flushed("/d/a"), flushed("/d"), wrote("/d/b", 0, b"old"), flushed("/d/b"),
        flushed("/d"), Record("R", "/d/a", 0, b"/d/b"),
    )  # fmt: skip
    assert {tuple(sorted(files.items())) for files in left} == {
        (("/d/a", b"new"), ("/d/b", b"old")),
        (("/d/b", b"new"),),
    }


def test_a_removed_file_may_still_be_there_until_its_directory_is_flushed() -> None:
    made = (wrote("/d/a", 0, b"one"), flushed("/d/a"), flushed("/d"), Record("U", "/d/a", 0, b""))
    assert {files.get("/d/a") for files in outcomes(*made)} == {b"one", None}
    assert all("/d/a" not in files for files in outcomes(*made, flushed("/d")))
