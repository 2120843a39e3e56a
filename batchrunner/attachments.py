"""Images and PDFs that a request names by path: looked at when the line is read, put into the body when it is sent.

The store keeps the path and the hash of the content, never the content itself.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

#: The API takes no larger request body, so no larger file could be part of one.
MAX_BODY_BYTES = 32 * 1024 * 1024

#: Stands in the params (compact JSON) of every request that names a file; within a string its quotes would be escaped.
_MARK = '"type":"file"'
_REMEMBERED = 10_000
#: What is added to the source of a file when its line is read.
_FOUND_OUT = ("media_type", "sha256")
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_TAKEN = {"image": _IMAGES, "document": frozenset({"application/pdf"})}


class AttachmentError(Exception):
    """A file that is named cannot be sent: the cause, in one sentence without a full stop."""


class Attachment(NamedTuple):
    """What is known of a file without holding its content."""

    media_type: str
    sha256: str
    size: int


def names_files(params: str) -> bool:
    """Whether the request *params* (compact JSON) may name local files."""
    return _MARK in params


def encoded_size(size: int) -> int:
    """Return how many bytes of base64 a file of *size* bytes takes."""
    return (size + 2) // 3 * 4


class Folder:
    """The one directory below which files may be read; UsageError is for the caller to raise if there is none."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._known = lru_cache(maxsize=_REMEMBERED)(_look)

    def describe(self, body: Mapping[str, Any]) -> int:
        """Complete each file named in *body*, in place, by type and hash; returns the bytes they will take in it."""
        taken = 0
        for kind, source in file_sources(body):
            if extra := source.keys() - {"type", "path"}:
                raise AttachmentError(f"a source of a file takes type and path, not {min(extra)!r}")
            path = self.find(source["path"])
            stat = path.stat()
            found = self._known(path, stat.st_mtime_ns, stat.st_size, stat.st_ino)
            _check_kind(kind, found.media_type, source["path"])
            source.update(zip(_FOUND_OUT, (found.media_type, found.sha256), strict=True))
            taken += encoded_size(found.size)
        return taken

    def find(self, given: Any) -> Path:
        """Return the real path of the file *given*, relative to the folder or absolute; AttachmentError if it may not be read."""
        if not isinstance(given, str) or not given:
            raise AttachmentError("the path of a file must be a string")
        try:
            path = (self.root / given).resolve(strict=True)
        except FileNotFoundError:
            raise AttachmentError(f"there is no file {given!r} in {self.root} (--allow-files)") from None
        except (OSError, ValueError, RuntimeError) as error:  # ValueError: a NUL; RuntimeError: links in a circle
            raise AttachmentError(f"{given!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        if not path.is_relative_to(self.root):
            raise AttachmentError(f"{given!r} lies outside of {self.root}: only files below --allow-files are sent")
        if not path.is_file():
            raise AttachmentError(f"{given!r} is no regular file")
        return path


def file_sources(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the sources in *value* that name a file by path, each with the type of its block."""
    if isinstance(value, dict):
        source = value.get("source")
        if isinstance(source, dict) and source.get("type") == "file" and "path" in source:
            yield str(value.get("type")), source
        for item in value.values():
            if isinstance(item, dict | list):
                yield from file_sources(item)
    elif isinstance(value, list):
        for item in value:
            yield from file_sources(item)


def as_named(params: str) -> str:
    """Return *params* (compact JSON) with each file named as a line names it, without what was found out about it."""
    if not names_files(params):
        return params
    body = json.loads(params)
    for _, source in file_sources(body):
        for key in _FOUND_OUT:
            source.pop(key, None)
    return _compact(body)


def with_files(params: str, root: Path | None) -> str:
    """Return the body that *params* stand for: each file named in them read, checked and put in as base64.

    *root*: the directory below which files may be read. AttachmentError if one is gone, has changed or may not be read.
    """
    body = json.loads(params)
    sources = list(file_sources(body))
    if not sources:
        return params
    if root is None:
        raise AttachmentError("the request names a local file: give --allow-files DIR")
    folder = Folder(root)
    for _, source in sources:
        data = _read(folder.find(source["path"]))
        if hashlib.sha256(data).hexdigest() != source.get("sha256"):
            raise AttachmentError(f"{source['path']!r} has changed since the job file was read: run it again")
        media_type = source["media_type"]
        source.clear()
        source.update(type="base64", media_type=media_type, data=base64.b64encode(data).decode())
    text = _compact(body)
    if len(text) > MAX_BODY_BYTES:
        raise AttachmentError(
            f"with its files the request is {len(text):,} bytes long; the API takes {MAX_BODY_BYTES:,}"
        )
    return text


def _compact(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def media_type(start: bytes) -> str | None:
    """Return what a file is by how it begins, None if it is nothing that can be sent."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if start.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "image/webp"
    return "application/pdf" if start.startswith(b"%PDF-") else None


def _look(path: Path, _mtime_ns: int, size: int, _inode: int) -> Attachment:
    if encoded_size(size) > MAX_BODY_BYTES:
        raise AttachmentError(f"{path.name!r} is {size:,} bytes long: too much for one request of {MAX_BODY_BYTES:,}")
    data = _read(path)
    kind = media_type(data[:16])
    if kind is None:
        raise AttachmentError(f"{path.name!r} is neither PNG, JPEG, GIF, WebP nor PDF, by its content")
    return Attachment(kind, hashlib.sha256(data).hexdigest(), len(data))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        raise AttachmentError(f"{path.name!r} cannot be read: {error.strerror}") from None
    if len(data) > MAX_BODY_BYTES:
        raise AttachmentError(f"{path.name!r} is longer than the {MAX_BODY_BYTES:,} bytes of one request")
    return data


def _check_kind(kind: str, found: str, given: str) -> None:
    if kind not in _TAKEN:
        raise AttachmentError(f"a file belongs into an image or a document block, not {kind!r}")
    if found not in _TAKEN[kind]:
        other = "document" if kind == "image" else "image"
        raise AttachmentError(f"{Path(given).name!r} is {found}: name it in a block of type {other!r}")
