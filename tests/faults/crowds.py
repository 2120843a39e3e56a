"""Twenty runs started on one store at once."""

import re

from faults.commands import Command, Yard, until


def one_of_twenty(place: Yard, url: str) -> Command:
    """Start 20 runs at once, check that one goes on and the others say whose it is, and return that one."""
    commands = [place.run(url, slots=2) for _ in range(20)]
    until(lambda: sum(one.lives for one in commands) == 1, "all but one end")
    (owner,) = [one for one in commands if one.lives]
    for one in commands:
        if one is not owner:
            assert one.finish() == 5, one.said()
            assert re.search(
                rf"in use by process {owner.pid} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", one.said()
            )
    return owner
