"""Where a store lies: network file systems and small disks are told beforehand, and what was opened is watched."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from batchrunner.errors import StoreError
from batchrunner.preflight import surroundings
from batchrunner.preflight.surroundings import check_disk
from batchrunner.store import place
from batchrunner.store.place import Place, concerns, network_file_system
from builders import numbered, opened_store, rows, take_in

MOUNTS = r"""22 27 0:21 / / rw,relatime - ext4 /dev/vda1 rw
30 22 0:40 / /home rw,relatime shared:5 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/ann/local rw,relatime - xfs /dev/vdb rw
32 22 0:42 / /mnt/with\040space rw - cifs //server/share rw
33 22 0:43 / /mnt/c rw - 9p drvfs rw
34 22 0:44 / /mnt/twice rw - nfs old:/ rw
35 22 0:45 / /mnt/twice rw - tmpfs tmpfs rw
36 22 0:46 / /mnt/käse rw - fuse.sshfs host: rw
37 22 0:47 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw,lowerdir=/a
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/home/ann/jobs", "nfs4"),
        ("/home", "nfs4"),
        ("/homely", None),
        ("/home/ann/local/jobs", None),
        ("/mnt/with space/a", "cifs"),
        ("/mnt/c/Users", "9p"),
        ("/mnt/twice/a", None),
        ("/mnt/käse", "fuse.sshfs"),
        ("/var/lib/docker/overlay2/x/merged", None),
        ("/", None),
    ],
)
def test_a_network_file_system_is_known_by_what_is_mounted_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, kind: str | None
) -> None:
    monkeypatch.setattr(os.path, "realpath", str)  # none of these directories is there
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS, encoding="utf-8")
    assert network_file_system(Path(folder), mounts) == kind


def test_where_the_system_does_not_say_a_file_system_counts_as_local(tmp_path: Path) -> None:
    assert network_file_system(tmp_path, tmp_path / "none") is None
    (tmp_path / "nonsense").write_text("what\nis this\n")
    assert network_file_system(tmp_path, tmp_path / "nonsense") is None
    assert network_file_system(tmp_path) is None, "the disk that the tests run on"


def test_a_store_on_a_network_file_system_is_warned_of_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "network_file_system", lambda _: "nfs4")
    (warning,) = concerns(tmp_path / "jobs.db", 10)
    assert f"{tmp_path / 'jobs.db'} lies on a network file system (nfs4)" in warning


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.parametrize(("free", "warned"), [(12_288_000, False), (12_287_999, True)])
def test_three_times_four_kilobytes_for_each_answer_should_be_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, warned: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(10**9, 0, free))
    found = list(concerns(tmp_path / "jobs.db", 1000))
    assert len(found) == warned
    if warned:
        assert f"the disk of {tmp_path} has 12.3 MB free, and 1,000 answers may take 4.1 MB or more" in found[0]


def test_a_store_that_stays_is_no_matter(tmp_path: Path) -> None:
    store = tmp_path / "jobs.db"
    with opened_store(store) as conn, Place(store) as watched:
        watched.check()
        take_in(conn, numbered(3))
        watched.check()
        watched.conclude(conn)
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.db"]


def test_watching_a_store_leaves_its_locks_alone(tmp_path: Path) -> None:
    """To close a descriptor of the file, for whatever it was opened, would drop them all; then this reader could not open."""
    store = tmp_path / "jobs.db"
    with opened_store(store) as conn:
        take_in(conn, numbered(3))
        conn.execute("BEGIN EXCLUSIVE")
        with Place(store):
            pass
        locks = Path("/proc/locks").read_text(encoding="ascii") if Path("/proc/locks").exists() else None
        conn.execute("ROLLBACK")
    if locks is not None:
        assert f":{store.stat().st_ino} " in locks


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="only Linux keeps hold of a removed file without its locks")
def test_a_copy_that_cannot_be_made_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "jobs.db"
    with opened_store(store) as conn, Place(store) as watched:
        take_in(conn, numbered(3))
        store.unlink()
        with contextlib.closing(conn.cursor()) as cursor:
            cursor.execute("BEGIN")
            with pytest.raises(Exception, match=r"VACUUM|vacuum"):
                watched.conclude(conn)  # no copy from within a transaction
            cursor.execute("ROLLBACK")
        assert not list(tmp_path.glob("*.saved.db"))
        with pytest.raises(StoreError, match="All that was in it is saved in"):
            watched.conclude(conn)
    (saved,) = tmp_path.glob("*.saved.db")
    with opened_store(saved) as conn:
        assert rows(conn, "SELECT count(*) FROM requests") == [(3,)]


def test_check_says_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_disk(tmp_path / "jobs.db", 1, 1)[1] == []
    monkeypatch.setattr(surroundings, "network_file_system", lambda _: "cifs")
    (found,) = check_disk(tmp_path / "jobs.db", 1, 1)[1]
    assert found.severity == "warning"
    assert f"{tmp_path} is on a network file system (cifs)" in found.message
