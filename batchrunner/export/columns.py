"""The columns of an export: fields of the store, keys of the metadata, keys of answers that are JSON."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import takewhile
from operator import itemgetter
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.export.answers import as_object
from batchrunner.export.settings import Format, Options
from batchrunner.screen import visible
from batchrunner.store.found import EXPORT_COLUMNS, ExportRow
from batchrunner.store.read import Reader

#: More columns made of answers than this are no table any more.
MOST_ANSWER_COLUMNS = 1000
_NAMES_SHOWN = 60
_ON_DEMAND = ("metadata", "message", "line")
#: The id of the identical request whose answer a row has (`--dedupe`).
_TWIN = "deduplicated_of"


class Origin(Enum):
    """Where the value of a column comes from."""

    FIELD = auto()  #: A field of the row.
    TEXT = auto()  #: The answer's text, empty where it became columns.
    JSON = auto()  #: A field of the row that is JSON text.
    METADATA = auto()  #: A key of the metadata.
    ANSWER = auto()  #: A key of the answer.


#: What stands in the row as it is.
_OWN = {Origin.FIELD, Origin.JSON}


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    origin: Origin
    key: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of one export, in their order."""

    columns: Sequence[Column]

    @property
    def extra(self) -> list[str]:
        """What the rows must have beside the ordinary fields, for `Reader.export_rows`."""
        wanted = {column.key for column in self.columns if column.origin in {Origin.FIELD, Origin.JSON}}
        return sorted(wanted & {"message", "line", _TWIN})

    @property
    def is_plain(self) -> bool:
        """Whether every value is one of the store's own: a text, a number or None."""
        return {column.origin for column in self.columns} <= _OWN

    def reader(self) -> Callable[[ExportRow], Sequence[Any]]:
        """Return the function that takes a row apart into the values of the columns."""
        # Millions of times: places instead of names, comparisons instead of calls.
        place = {name: i for i, name in enumerate((*EXPORT_COLUMNS, "metadata", *self.extra))}
        own = list(takewhile(lambda column: column.origin in _OWN, self.columns))
        rest = self.columns[len(own) :]
        if len(own) > 1 and all(column.origin is Origin.METADATA for column in rest):
            keys = [column.key for column in rest]
            return _plainly(itemgetter(*(place[column.key] for column in own)), keys, place["metadata"])
        origins = {column.origin for column in self.columns}
        with_metadata, with_answer = Origin.METADATA in origins, bool(origins & {Origin.ANSWER, Origin.TEXT})
        parts = [(column.origin, column.key, place.get(column.key, -1)) for column in self.columns]
        metadata_of, answer_of, text_of = Origin.METADATA, Origin.ANSWER, Origin.TEXT

        def values(row: ExportRow) -> list[Any]:
            metadata = json.loads(row["metadata"] or "{}") if with_metadata else {}
            answer = as_object(row["text"]) if with_answer else None
            found = []
            for origin, key, at in parts:
                if origin is metadata_of:
                    found.append(metadata.get(key))
                elif origin is answer_of:
                    found.append(None if answer is None else answer.get(key))
                else:
                    found.append(None if origin is text_of and answer is not None else row[at])
            return found

        return values


def _plainly(
    own: Callable[[ExportRow], Sequence[Any]], keys: Sequence[str], at: int
) -> Callable[[ExportRow], Sequence[Any]]:
    """Return the function that gives what is the row's *own*, then *keys* of the metadata, which stand at place *at*."""
    if not keys:
        return own

    def values(row: ExportRow) -> list[Any]:
        return [*own(row), *map(json.loads(row[at] or "{}").get, keys)]

    return values


def make_layout(reader: Reader, fmt: Format, options: Options) -> Layout:
    """Return the columns of an export. Reads the metadata and, to flatten them, the answers once.

    Raises `UsageError` for columns that there are not, and for answers with too many different keys.
    """
    text = Origin.TEXT if options.flatten else Origin.FIELD
    fields = [Column(name, text if name == "text" else Origin.FIELD, name) for name in EXPORT_COLUMNS]
    has_twins, twin = reader.has_twins(), Column(_TWIN, Origin.FIELD, _TWIN)
    fields += [twin] if has_twins else []
    answers = _answer_keys(reader, options) if options.flatten else []
    by_key = fmt is Format.CSV or bool(options.columns)
    metadata = metadata_keys(reader.metadata()) if by_key else []
    named = [
        *((Origin.METADATA, key, key) for key in metadata),
        *((Origin.ANSWER, key, f"answer.{key}") for key in answers),
    ]
    names = column_names([name for _, _, name in named], [column.name for column in fields])
    keyed = [Column(name, origin, key) for name, (origin, key, _) in zip(names, named, strict=True)]
    if options.columns:
        asked = [] if answers or not options.flatten else _answers_to_come(options.columns)
        on_demand = [twin] if has_twins is False else []
        return Layout(_picked([*asked, *fields, *keyed, *on_demand], options.columns))
    whole = [] if by_key else [Column("metadata", Origin.JSON, "metadata")]
    return Layout([*fields, *whole, *keyed])


def _answers_to_come(wanted: Sequence[str]) -> list[Column]:
    """Return the columns of answers that are *wanted*; as long as no answer has any key, none can be wrong."""
    return [Column(n, Origin.ANSWER, n.removeprefix("answer.")) for n in wanted if n.startswith("answer.")]


def _picked(known: Sequence[Column], wanted: Sequence[str]) -> list[Column]:
    found = {column.name: column for column in known}
    for name in _ON_DEMAND:
        found.setdefault(name, Column(name, Origin.FIELD if name == "line" else Origin.JSON, name))
    if unknown := [name for name in wanted if name not in found]:
        more = ", ..." if len(found) > _NAMES_SHOWN else ""
        raise UsageError(
            f"There is no column {visible(', '.join(unknown))}. Columns: "
            f"{visible(', '.join(list(found)[:_NAMES_SHOWN]))}{more}."
        )
    if len(set(wanted)) < len(wanted):
        twice = next(name for name in wanted if wanted.count(name) > 1)
        raise UsageError(f"--columns names {visible(twice)} twice.")
    return [found[name] for name in wanted]


def parse_columns(text: str) -> list[str]:
    """Return the names in *text*, separated by commas; a name with a comma in it stands in double quotes."""
    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if not names or not all(names):
        raise UsageError("--columns takes names separated by commas, such as custom_id,text.")
    return names


def _answer_keys(reader: Reader, options: Options) -> list[str]:
    keys: dict[str, None] = {}
    for row in reader.export_rows(options.chosen):
        keys |= dict.fromkeys(as_object(row["text"]) or ())
        if len(keys) > MOST_ANSWER_COLUMNS and not options.columns:
            raise UsageError(
                f"The answers have more than {MOST_ANSWER_COLUMNS:,} different keys, too many for columns; "
                "choose some with --columns, or leave --flatten out."
            )
    return list(keys)


def metadata_keys(texts: Iterable[str]) -> list[str]:
    """Return the keys of all metadata objects (JSON texts), in the order in which they appear first."""
    keys: dict[str, None] = {}
    for text in texts:
        for key in json.loads(text):
            keys.setdefault(key)
    return list(keys)


def column_names(keys: Iterable[str], taken: Sequence[str] = EXPORT_COLUMNS) -> list[str]:
    """Return a column name for each metadata key: the key, with `metadata.` in front where that name is *taken*."""
    names = dict.fromkeys(taken)
    for key in keys:
        name = key
        while name in names:
            name = f"metadata.{name}"
        names[name] = None
    return list(names)[len(taken) :]
