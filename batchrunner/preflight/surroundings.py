"""What lies around a run: address, proxies, disk, store. Looked at, never touched."""

import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batchrunner.api.address import OFFICIAL_HOST, OFFICIAL_URL, check_base_url
from batchrunner.api.redact import without_keys
from batchrunner.errors import BatchrunnerError, UsageError
from batchrunner.preflight.findings import Fault, error, note, warning
from batchrunner.store.place import network_file_system
from batchrunner.store.read import Reader

_PROXIES = ("https_proxy", "http_proxy", "all_proxy")
#: What an answer takes in the store, with its attempt: an estimate.
_ANSWER_BYTES = 4096
#: What a request takes there, per byte of its line.
_STORED_SHARE = 2.5


def address_of(environment: Mapping[str, str], base_url: str | None) -> tuple[str, str]:
    """Return the address that requests would go to, and who says so."""
    if base_url:
        return base_url, "--base-url"
    if environment.get("ANTHROPIC_BASE_URL"):
        return environment["ANTHROPIC_BASE_URL"], "ANTHROPIC_BASE_URL"
    return OFFICIAL_URL, "the official one"


def is_official(address: str) -> bool:
    """Whether *address* is Anthropic's own API."""
    try:
        return urlsplit(address).hostname == OFFICIAL_HOST
    except ValueError:
        return False


def shown_address(address: str) -> str:
    """Return *address* without a user name, a password or a query that may stand in it."""
    try:
        url = urlsplit(address)
        host = url.hostname or ""
        port = f":{url.port}" if url.port else ""
    except ValueError:
        return without_keys("(unreadable)")
    return without_keys(f"{url.scheme}://{host}{port}{url.path}" if url.scheme and host else "(unreadable)")


def check_address(address: str, *, insecure: bool) -> Iterator[Fault]:
    """Yield why requests must not go to *address*."""
    try:
        check_base_url(address, insecure=insecure)
    except UsageError as refused:
        yield error("base-url", str(refused).rstrip("."))


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies that the environment names, without credentials."""
    found = {}
    for name in _PROXIES:
        for spelling in (name, name.upper()):
            if environment.get(spelling):
                value = environment[spelling]
                found[spelling] = shown_address(value if "://" in value else f"http://{value}")
    return found


def check_store(store: Path, now: datetime, *, simulate: bool) -> tuple[dict[str, Any], list[Fault]]:
    """Return the state of *store* for people and machines, and what is wrong with it."""
    state: dict[str, Any] = {"path": str(store), "exists": store.exists()}
    if not store.exists():
        return state, []
    try:
        with Reader(store) as reader:
            job, progress, running = reader.job(), reader.progress(), reader.is_running(now)
    except BatchrunnerError as refused:
        return state, [error("store", str(refused).rstrip("."))]
    simulated = job is not None and job.simulated
    counts = {"succeeded": progress.succeeded, "failed": progress.failed, "pending": progress.pending}
    state |= {"simulated": simulated, "running": running, **counts}
    faults = []
    if running:
        faults.append(warning("store-in-use", f"a run works on {store} now", "wait for it; two cannot"))
    if job is not None and simulated != simulate and progress.succeeded + progress.failed:
        holds = "simulated" if simulated else "real"
        remedy = "name another one with --db, or remove it if it was only a trial"
        faults.append(error("store-simulated", f"{store} holds {holds} answers, which are never mixed", remedy))
    return state, faults


def check_disk(store: Path, input_bytes: int, requests: int) -> tuple[dict[str, int], list[Fault]]:
    """Return what the store will need and what is free, in bytes, and whether that is too little."""
    needed = round(input_bytes * _STORED_SHARE) + requests * _ANSWER_BYTES
    folder = store.absolute().parent
    if not folder.is_dir():
        return {"needed_bytes": needed}, [error("store-folder", f"there is no directory {folder} for the store")]
    free = shutil.disk_usage(folder).free
    figures = {"needed_bytes": needed, "free_bytes": free}
    remedy = "name a store on another disk with --db"
    shared = []
    if (kind := network_file_system(folder)) is not None:
        local = "name a store on a local disk with --db, or let no other machine open it"
        shared = [warning("network-disk", f"{folder} is on a network file system ({kind})", local)]
    if free < input_bytes:
        return figures, [error("disk", f"the disk of {folder} has no room for the store", remedy), *shared]
    if free < needed:
        return figures, [
            warning("disk", f"the disk of {folder} may be too small for the store and the answers", remedy),
            *shared,
        ]
    return figures, shared


def note_proxy(found: Mapping[str, str]) -> Iterator[Fault]:
    """Yield that requests go through a proxy, if the environment names one."""
    if found:
        named = ", ".join(f"{name} ({address})" for name, address in found.items())
        yield note("proxy", f"the environment names a proxy: {named}", "NO_PROXY takes hosts out of it")
