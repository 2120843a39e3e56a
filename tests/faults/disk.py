"""A disk that loses its power: from a log of what a process wrote, what may be left of it at any instant."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
_HEAD = struct.Struct("<cIQQ")
_APPENDED = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Record:
    """A call that the process made. See `writelog.c`."""

    op: str
    path: str
    offset: int
    data: bytes


def read_log(path: Path) -> list[Record]:
    """Return what is in the log, in order."""
    content, records, at = path.read_bytes(), [], 0
    while at < len(content):
        op, path_bytes, offset, data_bytes = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        name = content[at : at + path_bytes].decode()
        at += path_bytes
        records.append(Record(op.decode(), name, offset, content[at : at + data_bytes]))
        at += data_bytes
    return records


@dataclass(slots=True)
class _File:
    """One file, whatever its name: what is surely on the disk, and what may be."""

    flushed: bytearray = field(default_factory=bytearray)
    waiting: list[Record] = field(default_factory=list)

    def flush(self) -> None:
        for record in self.waiting:
            _apply(self.flushed, record)
        self.waiting.clear()


def _apply(content: bytearray, record: Record, *, start: int = 0, end: int | None = None) -> None:
    """Do *record*, or of a write the part of its data from *start* to *end*."""
    if record.op == "T":
        del content[record.offset :]
        content.extend(bytes(record.offset - len(content)))
        return
    data = record.data[start:end]
    offset = len(content) if record.offset == _APPENDED else record.offset + start
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class Disk:
    """Follows a log; after any record it can say what a power cut might leave."""

    def __init__(self) -> None:
        self._names: dict[str, _File] = {}  #: As the process sees them.
        self._flushed_names: dict[str, _File] = {}
        self._changes: list[dict[str, _File | None]] = []  #: Of names, in order, since their directory was flushed.

    def follow(self, record: Record) -> None:
        """Let *record* happen."""
        match record.op:
            case "W" | "T":
                if record.path not in self._names:
                    self._name({record.path: _File()})
                self._names[record.path].waiting.append(record)
            case "S" if record.path in self._names:
                self._names[record.path].flush()
            case "S":  # a directory: names and nothing else
                self._flush_names(record.path)
            case "U" if record.path in self._names:
                self._name({record.path: None})
            case "R" if record.path in self._names:
                file = self._names[record.path]
                self._name({record.path: None, record.data.decode(): file})  # both at once: a rename is never half done
            case _:
                pass

    def _name(self, change: dict[str, _File | None]) -> None:
        self._changes.append(change)
        _rename(self._names, change)

    def _flush_names(self, directory: str) -> None:
        # Changes of names reach a disk in their order: with the last of a directory all before it.
        theirs = [any(str(Path(path).parent) == directory for path in change) for change in self._changes]
        last = max((i for i, is_theirs in enumerate(theirs) if is_theirs), default=-1)
        for change in self._changes[: last + 1]:
            _rename(self._flushed_names, change)
        del self._changes[: last + 1]

    def after_a_cut(self, chance: random.Random) -> dict[str, bytes]:
        """Return what the power cut leaves: path -> content.

        Everything flushed is there. Of what waited, nothing is, or the first so much of it, or any of its sectors; of the changes
        of names the first so many.
        """
        names = dict(self._flushed_names)
        for change in self._changes[: chance.randint(0, len(self._changes))]:
            _rename(names, change)
        how = chance.choice((_nothing, _the_first, _any_sectors))
        return {path: bytes(how(file, chance)) for path, file in names.items()}


def _rename(names: dict[str, _File], change: dict[str, _File | None]) -> None:
    for path, file in change.items():
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def _nothing(file: _File, _chance: random.Random) -> bytearray:
    return file.flushed


def _the_first(file: _File, chance: random.Random) -> bytearray:
    content = bytearray(file.flushed)
    for record in file.waiting[: chance.randint(0, len(file.waiting))]:
        _apply(content, record)
    return content


def _any_sectors(file: _File, chance: random.Random) -> bytearray:
    content = bytearray(file.flushed)
    for record in file.waiting:
        if record.op == "T":
            if chance.random() < 0.5:
                _apply(content, record)
            continue
        for start in range(0, len(record.data), SECTOR):
            if chance.random() < 0.5:
                _apply(content, record, start=start, end=start + SECTOR)
    return content


def cuts(log: list[Record], instants: list[int], chance: random.Random) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Yield what a power cut leaves after each of so many records (*instants*, ascending)."""
    disk, followed = Disk(), 0
    for instant in instants:
        for record in log[followed:instant]:
            disk.follow(record)
        followed = instant
        yield instant, disk.after_a_cut(chance)
