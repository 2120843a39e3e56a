import errno
import io
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrunner.errors import Exit, UsageError
from batchrunner.export import ExportError, Format, export
from batchrunner.store.read import Reader
from store_helpers import StoreMaker, building, requests


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreMaker]:
    with building(tmp_path / "jobs.db") as maker:
        maker.input_path.write_text("the input")
        maker.take_in(requests(3))
        yield maker


def to_file(store: StoreMaker, target: Path, *, overwrite: bool = False, sources: tuple[Path, ...] = ()) -> int:
    with Reader(store.path) as reader:
        return export(reader, target, Format.CSV, overwrite=overwrite, sources=sources).rows


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.name.endswith(".part")]


def test_a_file_is_for_its_owner_only_and_complete(store: StoreMaker, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    before = os.umask(0)
    try:
        assert to_file(store, target) == 3
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert target.read_text().count("\n") == 4
    assert not leftovers(tmp_path)


def test_an_existing_file_is_replaced_only_on_demand(store: StoreMaker, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("mine")
    with pytest.raises(UsageError, match="-f replaces it"):
        to_file(store, target)
    assert target.read_text() == "mine"
    assert to_file(store, target, overwrite=True) == 3
    assert target.read_text() != "mine"


def test_a_file_that_appears_in_the_meantime_is_not_replaced(store: StoreMaker, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with Reader(store.path) as reader:
        original = reader.export_rows

        def rows_and_a_rival(*which: Any) -> Iterator[object]:
            yield from original(*which)
            target.write_text("a rival's")

        reader.export_rows = rows_and_a_rival  # type: ignore[assignment, method-assign]
        with pytest.raises(UsageError, match="exists"):
            export(reader, target, Format.CSV)
    assert target.read_text() == "a rival's"
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    "name", ["jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db.lock", "jobs.db.wish", "jobs.db.new", "jobs.jsonl"]
)
def test_the_store_and_its_input_are_never_written_over(store: StoreMaker, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    before = target.stat().st_ino if target.exists() else None
    with pytest.raises(UsageError, match="part of its store"):
        to_file(store, target, overwrite=True)
    assert (target.stat().st_ino if target.exists() else None) == before


def test_another_name_of_the_input_is_known_too(store: StoreMaker, tmp_path: Path) -> None:
    other = tmp_path / "hard.csv"
    other.hardlink_to(store.input_path)
    with pytest.raises(UsageError, match="job file"):
        to_file(store, other, overwrite=True)
    definition = tmp_path / "job.toml"
    definition.write_text("x")
    with pytest.raises(UsageError, match="job file"):
        to_file(store, definition, overwrite=True, sources=(definition,))
    assert (store.input_path.read_text(), definition.read_text()) == ("the input", "x")


def test_targets_that_are_no_plain_files_are_refused(store: StoreMaker, tmp_path: Path) -> None:
    directory, link, dangling, fifo = (tmp_path / name for name in ("dir", "link.csv", "dangling.csv", "fifo"))
    directory.mkdir()
    real = tmp_path / "real.csv"
    real.write_text("real")
    link.symlink_to(real)
    dangling.symlink_to(tmp_path / "elsewhere.csv")
    os.mkfifo(fifo)
    wrong = {
        directory: "is a directory",
        link: "symbolic link",
        dangling: "symbolic link",
        fifo: "pipe or a device",
        tmp_path / "none" / "out.csv": "no directory",
        tmp_path / ("x" * 300): "cannot be written",
        tmp_path / "a\0b": "cannot be written",
        real / "out.csv": "cannot be written",
    }
    for target, message in wrong.items():
        with pytest.raises(UsageError, match=message):
            to_file(store, target, overwrite=True)
    assert real.read_text() == "real"
    assert not leftovers(tmp_path)
    assert not (tmp_path / "elsewhere.csv").exists()


class _FullDisk(io.BytesIO):
    def write(self, data: object, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named(store: StoreMaker) -> None:
    with pytest.raises(ExportError, match="the disk is full") as caught, Reader(store.path) as reader:
        export(reader, _FullDisk(), Format.JSONL)
    assert caught.value.exit_code == Exit.STORE


def test_nothing_is_left_of_a_file_that_could_not_be_finished(store: StoreMaker, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the system refuses the write in mid-file."""
    store.take_in(requests(40_000))
    target = tmp_path / "out.csv"
    target.write_text("the one before")
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from batchrunner.cli import main; main(['export', sys.argv[1], '-o', sys.argv[2], '-f'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(store.path), str(target)], capture_output=True, text=True, check=False
    )
    assert done.returncode == Exit.STORE
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert target.read_text() == "the one before"
    assert not leftovers(tmp_path)


def test_a_closed_pipe_is_no_error(store: StoreMaker) -> None:
    store.take_in(requests(20_000))
    command = [sys.executable, "-m", "batchrunner", "export", str(store.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"custom_id,status,text")
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(30) == Exit.OK
    assert errors == b""
