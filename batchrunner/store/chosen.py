"""Choosing what a run works on: by id, by chance, and in which order. The choice is a table only this run sees."""

import json
import sqlite3
from hashlib import blake2b

from batchrunner.errors import UsageError
from batchrunner.policy.sampling import Sampling

# The table is the lanes' queue: `place` is the order of sending, and each lane walks its own part of the key. Drawing
# sorts by a hash of the id, so that other rows in the file, or their state, do not change which requests are drawn.
_TABLE = """CREATE TEMP TABLE chosen (
    model_class TEXT NOT NULL, place INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (model_class, place)
) WITHOUT ROWID"""
_CHOOSE = """INSERT INTO temp.chosen
    SELECT model_class, row_number() OVER (ORDER BY CASE WHEN :shuffle THEN draw END, line), seq
    FROM (SELECT model_class, seq, line, CASE WHEN :shuffle OR :sample >= 0 THEN drawn(custom_id) END AS draw
          FROM requests
          WHERE line IS NOT NULL AND line <= :last_line
            AND (:ids IS NULL OR custom_id IN (SELECT value FROM json_each(:ids)))
          ORDER BY draw, line LIMIT :sample)"""
_INDEX = "CREATE UNIQUE INDEX temp.chosen_seq ON chosen (seq)"
_UNKNOWN = """SELECT value FROM json_each(?) given
    WHERE NOT EXISTS (SELECT 1 FROM requests q WHERE q.custom_id = given.value AND q.line IS NOT NULL)"""
TOTALS = """SELECT count(*), count(CASE WHEN q.state = 'succeeded' THEN 1 END), count(CASE WHEN q.state = 'failed' THEN 1 END)
    FROM temp.chosen c CROSS JOIN requests q ON q.seq = c.seq"""
CLASSES = "SELECT DISTINCT model_class FROM temp.chosen"


def choose(conn: sqlite3.Connection, sampling: Sampling, last_line: int) -> None:
    """Make `temp.chosen` on *conn*, a reader's connection, of the requests up to *last_line*.

    Raises `UsageError` for ids that no request of the input has.
    """
    ids = json.dumps(list(sampling.ids))
    if unknown := [name for (name,) in conn.execute(_UNKNOWN, (ids,))]:
        raise UsageError(f"No request of the job file has the id {', '.join(map(repr, unknown[:5]))}.")
    key = str(sampling.seed).encode()[:64]
    conn.create_function(
        "drawn", 1, lambda name: blake2b(name.encode(), digest_size=8, key=key).digest(), deterministic=True
    )
    conn.execute("PRAGMA query_only = OFF")  # a reader's: nothing but its temporary tables can be written all the same
    for statement in ("DROP TABLE IF EXISTS temp.chosen", _TABLE):
        conn.execute(statement)
    conn.execute(
        _CHOOSE,
        {
            "ids": ids if sampling.ids else None,
            "sample": -1 if sampling.sample is None else sampling.sample,
            "shuffle": sampling.shuffle,
            "last_line": last_line,
        },
    )
    conn.execute(_INDEX)
    conn.execute("PRAGMA query_only = ON")
