"""Brings forth runs quickly: everything heavy is imported once, each run is a fork in a process group of its own.

No thread and no loop is alive when it forks. It takes one order a line on its standard input and answers with two
lines: the child's pid, and when that is over its wait status.
"""

import json
import os
import resource
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from batchrunner import failpoints
from faults import saver

_HEAVY = ("anthropic", "aiohttp", "batchrunner.library", "batchrunner.api.direct", "batchrunner.api.sdk", "batchrunner.engines.live", "batchrunner.batch_shift", "batchrunner.engines.message_batches")  # fmt: skip


def _live(order: dict[str, Any]) -> int:
    os.setsid()
    os.chdir(order["folder"])
    for fd, name in ((1, "stdout"), (2, "stderr")):
        target = os.open(order[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(target, fd)
        os.close(target)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.environ.update(order["env"])
    if (spare := order["memory"]) is not None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + spare
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    failpoints.arm(os.environ.get(failpoints.VARIABLE))
    return saver.main(order["asked"])


def serve() -> None:
    """Take orders until there are no more."""
    for name in _HEAVY:
        import_module(name)
    while line := sys.stdin.readline():
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = _live(order)
            except BaseException:  # noqa: BLE001 - the child must not go on as a second nursery
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.write(1, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"{status}\n".encode())


if __name__ == "__main__":
    serve()
