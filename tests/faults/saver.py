"""A run that acknowledges: what it says was saved is durable, and is on its standard output before it goes on.

Run as a child of `lives.Nursery`, or by hand: `python -m faults.saver '{"requests": "jobs.jsonl", ...}'`.
"""

import asyncio
import json
import os
import sys
from typing import Any

from batchrunner import BatchrunnerError, run, stream
from batchrunner.store import files


async def save(asked: dict[str, Any]) -> int:
    """Run, write a line `custom_id status` for each result that came through the stream, and return the exit code."""
    requests = asked.pop("requests")
    if (level := asked.pop("synchronous", None)) is not None:  # OFF too, which no user can ask for
        files._SYNCHRONOUS["full"] = level
    if asked.pop("silent", False):  # nobody reads the results as they come
        return int((await run(requests, progress="plain", **asked)).exit_code)
    results = stream(requests, progress="plain", **asked)
    async for result in results:
        # One write for each: a line is out whole or not at all, and nothing waits in a buffer of ours.
        os.write(1, f"{result.custom_id} {result.status}\n".encode())
    assert results.report is not None
    return int(results.report.exit_code)


def main(asked: dict[str, Any]) -> int:
    """Run as *asked*: `requests` and any other keyword of `batchrunner.stream`."""
    try:
        return asyncio.run(save(asked))
    except BatchrunnerError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the command does the same
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
