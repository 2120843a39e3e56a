"""Who works on a store, for those who only look."""

import json
import os
import socket
from pathlib import Path

from batchrunner.store.files import lock_path


def owner_lives(store: Path) -> bool:
    """Whether the process of this machine that owned *store* last is still there. It need not own it any more.

    For people who wait. Taking the lock to see would make a run fail that starts at that moment.
    """
    try:
        owner = json.loads(lock_path(store).read_bytes())
        if owner["host"] != socket.gethostname():
            return False
        os.kill(int(owner["pid"]), 0)
    except PermissionError:  # it is there, and somebody else's
        return True
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        return False
    return True
