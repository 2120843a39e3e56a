"""Where a Python program wants its requests to go."""

from collections.abc import Mapping
from typing import Any

from batchrunner.endpoint import Endpoint
from batchrunner.endpoints import named_endpoints, with_headers
from batchrunner.errors import UsageError

Keywords = Mapping[str, Any]


def is_simulated(options: Keywords) -> bool:
    """Whether nothing is to leave this machine."""
    return _simulator(options) is not False


def endpoints_of(options: Keywords) -> tuple[Endpoint, ...]:
    """Return the endpoints that the keywords name, in their order; raises `UsageError`."""
    headers, version = options.get("headers") or {}, options.get("api_version")
    if options.get("client") is not None and (headers or version):
        raise UsageError("A client of your own sends its own headers: leave out headers and api_version.")
    return tuple(with_headers(endpoint, headers, version) for endpoint in _found(options))


def _found(options: Keywords) -> tuple[Endpoint, ...]:
    client, base_url, spec = options.get("client"), options.get("base_url"), _simulator(options)
    names = options.get("endpoints")
    if sum((client is not None, base_url is not None, spec is not False, bool(names))) > 1:
        raise UsageError("client, base_url, endpoints and simulate each say where to send; give one of them.")
    if names:
        return named_endpoints([names] if isinstance(names, str) else list(names))
    if spec is False:
        return (Endpoint(base_url, insecure=bool(options.get("insecure_base_url")), client=client),)
    from batchrunner.simulator.settings import parse_spec

    return (Endpoint(simulator=parse_spec("" if spec is True else spec)),)


def _simulator(options: Keywords) -> bool | str:
    """Return the settings of the simulator, True for the usual ones; False: send for real. An empty text is no False."""
    spec = options.get("simulate")
    return False if spec is None else spec
