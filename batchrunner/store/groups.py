"""Failed requests by class and signature: counted by the settlements themselves, so that no screen counts a million."""

import json
import sqlite3
from collections.abc import Collection, Iterable
from typing import Any

from batchrunner.errors import UsageError
from batchrunner.policy.signature import signature, signature_key
from batchrunner.store.found import DamagedError, FailureGroup

COUNT_ONE = """INSERT INTO failure_groups (error_class, signature, failed, first_at, last_at) VALUES (?, ?, 1, ?, ?)
    ON CONFLICT (error_class, signature) DO UPDATE SET failed = failed + 1,
    first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)"""
# The same figures from the rows. As long as an import has no indexes nothing has failed, so none is asked for.
COUNTED = """SELECT error_class, signature, count(*) AS failed, min(finished_at) AS first_at, max(finished_at) AS last_at
    FROM requests WHERE state = 'failed' AND line IS NOT NULL AND error_class IS NOT NULL AND signature IS NOT NULL
    GROUP BY error_class, signature"""
FILL = f"INSERT INTO failure_groups (error_class, signature, failed, first_at, last_at) {COUNTED}"

_LARGEST = "ORDER BY failed DESC, error_class, signature LIMIT :limit"
GROUPS = f"""SELECT error_class, signature, failed, first_at, last_at FROM failure_groups
    WHERE (:error_class IS NULL OR error_class = :error_class) AND failed > 0 {_LARGEST}"""  # noqa: S608
#: For a store that no run has brought to the second schema yet.
GROUPS_COUNTED = f"""SELECT * FROM ({COUNTED}) WHERE (:error_class IS NULL OR error_class = :error_class) {_LARGEST}"""  # noqa: S608
HAS_GROUPS = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'failure_groups'"
EXAMPLES = """SELECT custom_id, error_message FROM requests INDEXED BY requests_failed
    WHERE state = 'failed' AND error_class IS :error_class AND signature IS :signature AND line IS NOT NULL
    ORDER BY seq LIMIT 3"""

_NO_LIMIT = -1
_SHOWN = 5

#: An error class and a signature.
GroupName = tuple[str, str]


def recount_groups(cursor: sqlite3.Cursor) -> None:
    """Renew the counts from the rows: after what moved many rows at once."""
    cursor.execute("DELETE FROM failure_groups")
    cursor.execute(FILL)


def failure_groups(
    conn: sqlite3.Connection, error_class: str | None, limit: int, only: Collection[GroupName] | None = None
) -> list[FailureGroup]:
    """Return the *limit* largest groups, largest first, each with three ids; only of *error_class*, and *only*, if given.

    The store's import is complete.
    """
    found = _groups(conn, error_class, limit if only is None else _NO_LIMIT)
    if only is not None:
        found = [group for group in found if (group[0], group[1]) in only][:limit]
    return [_with_examples(conn, group) for group in found]


def as_list(groups: Iterable[GroupName]) -> str:
    """Return *groups* as a JSON list of what `error_class || char(10) || signature` gives."""
    return json.dumps(["\n".join(group) for group in groups])


def _groups(conn: sqlite3.Connection, error_class: str | None, limit: int) -> list[tuple[Any, ...]]:
    kept = conn.execute(HAS_GROUPS).fetchone()[0]
    which = {"error_class": error_class, "limit": limit}
    return conn.execute(GROUPS if kept else GROUPS_COUNTED, which).fetchall()


def _with_examples(conn: sqlite3.Connection, group: tuple[Any, ...]) -> FailureGroup:
    error_class, sign, failed, first_at, last_at = group
    examples = conn.execute(EXAMPLES, {"error_class": error_class, "signature": sign}).fetchall()
    if not examples:
        raise DamagedError("a group of failures has none")
    return FailureGroup(
        error_class=error_class,
        signature=sign,
        key=signature_key(error_class, sign),
        count=failed,
        message=examples[0][1],
        first_at=first_at,
        last_at=last_at,
        custom_ids=tuple(custom_id for custom_id, _ in examples),
    )


def named_groups(conn: sqlite3.Connection, names: Collection[str]) -> list[GroupName]:
    """Return the groups that *names* mean, each a key as `errors` shows it, a signature, or a message that has it.

    Raises `UsageError` for a name that no failed request has.
    """
    wanted: dict[str, set[str]] = {name: {name, signature(name)} for name in names}
    found: dict[str, list[GroupName]] = {name: [] for name in names}
    for error_class, sign, *_ in _groups(conn, None, _NO_LIMIT):
        known = {signature_key(error_class, sign), sign}
        for name, forms in wanted.items():
            if forms & known:
                found[name].append((error_class, sign))
    if unknown := [name for name, groups in found.items() if not groups]:
        raise UsageError(f"No failed request has the signature {_listed(unknown)}; `batchrunner errors` shows them.")
    return sorted({group for groups in found.values() for group in groups})


def _listed(names: Iterable[str]) -> str:
    return ", ".join([repr(name) for name in names][:_SHOWN])
