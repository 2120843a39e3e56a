"""What a store's runs have spent."""

import sqlite3

_SPENT = "SELECT total(cost_usd) FROM lane_totals"


def spent_usd(conn: sqlite3.Connection) -> float:
    """Return what all runs have spent so far, in US dollars, as far as it is known."""
    return float(conn.execute(_SPENT).fetchone()[0])
