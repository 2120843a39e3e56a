"""Runs `batchrunner` as a process that writes down what it does to the system: files, code, sockets, processes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running import KEY

#: Installed before anything of batchrunner is imported; told over a pipe, so that the hook itself opens nothing.
_HOOKED = """
import json, os, sys
os.umask(int(os.environ["AUDIT_UMASK"], 8))
log = int(os.environ["AUDIT_FD"])
wanted = {"open", "compile", "exec", "import", "os.system", "subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork",
          "socket.connect", "socket.bind", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "sqlite3.connect",
          "sqlite3.load_extension", "os.rename", "os.mkdir", "os.link", "os.symlink"}
def hook(event, args):
    if event in wanted:
        shown = [repr(arg)[:4000] for arg in args]
        os.write(log, (json.dumps([event, shown]) + "\\n").encode())
sys.addaudithook(hook)
from batchrunner.cli import main
main()
"""


@dataclass(frozen=True)
class Audited:
    """What a process did and said."""

    code: int
    output: str
    events: list[tuple[str, list[str]]]

    def of(self, *names: str) -> list[list[str]]:
        """Return the arguments of these events."""
        return [arguments for name, arguments in self.events if name in names]


def audited(*words: str, cwd: Path, umask: int = 0o022, **env: str) -> Audited:
    """Run `batchrunner *words*` in *cwd* with the test key and return what it did."""
    reading, writing = os.pipe()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    kept |= {"ANTHROPIC_API_KEY": KEY, "PYTHONDONTWRITEBYTECODE": "1", "AUDIT_FD": str(writing)}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _HOOKED, *words],
        cwd=cwd, env={**kept, "AUDIT_UMASK": f"{umask:o}", **env}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[writing], text=True,
    )  # fmt: skip
    os.close(writing)
    # The pipe ends with the process; its output is short enough to wait in the other pipe meanwhile.
    with open(reading, encoding="utf-8") as told:  # noqa: PTH123 - a descriptor
        events: list[Any] = [json.loads(line) for line in told]
    output, _ = process.communicate(timeout=90)
    return Audited(process.returncode, output, [(name, arguments) for name, arguments in events])
