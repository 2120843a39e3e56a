"""What `errors` says of many failures is what the simulator's ledger has, and its commands mend just what they name."""

from collections import Counter
from pathlib import Path

import pytest

from mending import BY_CHANCE, KINDS, SPEC, Mending, as_expected, rounds
from running import rows, simulator_thread

COUNT = 1200

pytestmark = pytest.mark.slow


def test_groups_are_those_of_the_ledger_and_their_commands_mend_just_them(tmp_path: Path) -> None:
    with simulator_thread(SPEC) as (url, ledger):
        mending = Mending(tmp_path, COUNT, url, ledger)
        mending.run()
        assert set(mending.sent_since(0).values()) == {1}
        assert as_expected(mending.groups(), mending.expected())
        assert len(mending.groups()) >= len(KINDS) + len(BY_CHANCE) == 12
        for group, ids, sent in rounds(mending):
            assert len(ids) == group["count"]
            assert sent == Counter(ids), "each of the group once, and nothing else"
            assert as_expected(mending.groups(), mending.expected())
        (left,) = mending.groups()
    hopeless = {name for name, kind in mending.kinds.items() if kind == "empty"}
    assert (left["error_class"], left["count"]) == ("empty", len(hopeless))
    assert rows(mending.store, "SELECT succeeded, failed FROM job") == [(COUNT - len(hopeless), len(hopeless))]
    assert {name for (name,) in rows(mending.store, "SELECT custom_id FROM failures")} == hopeless
