"""The file in which a wish travels: what it survives, and what it must not carry."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batchrunner.store.files import owned
from batchrunner.store.owner import last_owner
from batchrunner.store.wishfile import _LARGEST_BYTES, BadWishError, send, take, wish_path

ASKED = {"verb": "tune", "concurrency": 7}
ME = "0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "jobs.db").touch(0o600)
    return tmp_path / "jobs.db"


def content(owner: str = ME) -> bytes:
    return json.dumps({"owner": owner, "id": "1", "asked": ASKED}).encode()


def test_a_wish_arrives_once_and_leaves_nothing(store: Path) -> None:
    sent = send(store, ME, ASKED)
    assert sent is not None
    assert not sent.is_taken()
    wish = take(store, ME)
    assert wish is not None
    assert (wish.id, wish.asked) == (sent.id, ASKED)
    assert sent.is_taken()
    assert take(store, ME) is None
    assert sorted(path.name for path in store.parent.iterdir()) == ["jobs.db"]


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_only_its_owner_may_read_it_whatever_the_umask(store: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        assert send(store, ME, ASKED)
    finally:
        os.umask(before)
    assert stat.S_IMODE(wish_path(store).stat().st_mode) == 0o600


def test_a_second_wish_waits_until_the_first_is_taken(store: Path) -> None:
    first = send(store, ME, {"verb": "pause"})
    assert send(store, ME, ASKED) is None
    assert sorted(path.name for path in store.parent.iterdir()) == ["jobs.db", "jobs.db.wish"]
    wish = take(store, ME)
    assert first is not None
    assert wish is not None
    assert wish.id == first.id
    assert send(store, ME, ASKED) is not None


def test_a_wish_that_is_withdrawn_is_not_obeyed_and_one_that_is_taken_is_not_withdrawn(store: Path) -> None:
    sent = send(store, ME, ASKED)
    assert sent is not None
    assert sent.withdraw()
    assert take(store, ME) is None
    sent = send(store, ME, ASKED)
    assert sent is not None
    assert take(store, ME) is not None
    another = send(store, ME, {"verb": "stop"})
    assert not sent.withdraw()
    assert another is not None
    assert not another.is_taken()


def test_a_link_to_the_store_leads_to_the_same_wish(store: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(store)
    assert send(link, ME, ASKED) is not None
    assert take(store, ME) is not None


def _symlink(path: Path) -> None:
    secret = path.with_name("secret")
    secret.write_bytes(content())
    path.symlink_to(secret)


def _fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _written(data: bytes, mode: int = 0o600) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)
        path.chmod(mode)

    return make


@pytest.mark.parametrize(
    "make",
    [
        _symlink,
        _fifo,
        _written(b""),
        _written(b"\xff\xfe\x00garbage"),
        _written(b"[" * _LARGEST_BYTES),
        _written(b'"text"'),
        _written(b"[1, 2]"),
        _written(b'{"owner": "%s"}' % ME.encode()),
        _written(b'{"owner": "%s", "id": 1, "asked": {}}' % ME.encode()),
        _written(content() + b" " * 2 * _LARGEST_BYTES),
        _written(content(), 0o644),
        _written(content(), 0o620),
        _written(content("fedcba9876543210")),
    ],
)
def test_what_is_no_wish_of_ours_is_named_once_and_removed(store: Path, make: Callable[[Path], None]) -> None:
    make(wish_path(store))
    with pytest.raises(BadWishError, match=r"jobs\.db\.wish .*ignored"):
        take(store, ME)
    assert not os.path.lexists(wish_path(store))
    assert take(store, ME) is None


def test_where_a_link_led_stays_as_it_was(store: Path) -> None:
    _symlink(wish_path(store))
    with pytest.raises(BadWishError):
        take(store, ME)
    assert store.with_name("secret").read_bytes() == content()


def test_a_directory_in_the_way_is_named_and_stays(store: Path) -> None:
    wish_path(store).mkdir()
    with pytest.raises(BadWishError, match="in the way"):
        take(store, ME)
    assert wish_path(store).is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_wish_of_another_user_is_ignored(store: Path) -> None:
    _written(content())(wish_path(store))
    os.chown(wish_path(store), 12345, -1)
    with pytest.raises(BadWishError, match="another user"):
        take(store, ME)


def test_each_ownership_has_a_name_of_its_own_and_ends(store: Path) -> None:
    names = []
    for _ in range(2):
        with owned(store) as name:
            owner = last_owner(store)
            assert owner is not None
            assert (owner.name, owner.pid, owner.lives) == (name, os.getpid(), True)
            names.append(name)
        assert last_owner(store) is None  # although this process lives on
    assert names[0] != names[1]


def test_an_owner_that_was_killed_does_not_live(store: Path) -> None:
    script = "import os, sys, pathlib, signal\nfrom batchrunner.store.files import owned\n"
    script += "with owned(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", script, store], check=False)
    owner = last_owner(store)
    assert owner is not None
    assert not owner.lives
