"""Whether the SDK can make use of the profile it would use. Imports the SDK; sends nothing."""

import anyio

from batchrunner.api.endpoint import open_client
from batchrunner.errors import BatchrunnerError


def profile_fault(base_url: str | None, *, insecure: bool) -> str | None:
    """Return why no client can be made with the credentials that are found, None if one can."""

    async def attempt() -> None:
        async with open_client(base_url, insecure=insecure):
            pass

    try:
        anyio.run(attempt)
    except BatchrunnerError as refused:
        return str(refused)
    return None
