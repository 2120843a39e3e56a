"""What a Python program chooses by keyword: what stands in for what it leaves open, which requests, which retries."""

from collections.abc import Mapping
from typing import Any

from batchrunner.advice import MENDABLE
from batchrunner.errors import UsageError
from batchrunner.jobfile.defaults import check_patch
from batchrunner.model import ErrorClass
from batchrunner.policy.sampling import Sampling
from batchrunner.store.selection import Selection

Keywords = Mapping[str, Any]

#: Each of these sets the rate, so none of another source stands beside it.
_RATE = {"rpm", "rate", "limits"}
#: And `limits` says these, too.
_LIMITS = {"itpm", "otpm", "burst", "concurrency"}


def completed(given: Keywords, stand_ins: Keywords) -> dict[str, Any]:
    """Return the keywords that are *given*, and *stand_ins* for the rest; None is not given.

    `params` and `rules` are completed key by key; a rate or `limits` that is given leaves no other one standing.
    """
    said = {name: value for name, value in given.items() if value is not None}
    rest = dict(stand_ins)
    if said.keys() & _RATE:
        rest.pop("rate", None)
    if "limits" in said:
        rest = {name: value for name, value in rest.items() if name not in _LIMITS}
    if "params" in rest:  # where a system prompt of several blocks stands
        rest["params"] = {name: value for name, value in rest["params"].items() if name not in said}
    for name in ("params", "rules"):
        if name in said and name in rest:
            said[name] = {**rest[name], **said[name]}
    return {**rest, **said}


def chosen(options: Keywords) -> Sampling:
    """Return which requests are worked on, and in which order; raises `UsageError`."""
    sample, seed = options.get("sample"), options.get("seed")
    if sample is not None and (type(sample) is not int or sample < 1):
        raise UsageError(f"sample must be a whole number from 1, not {sample!r}.")
    if seed is not None and type(seed) is not int:
        raise UsageError(f"seed must be a whole number, not {seed!r}.")
    return Sampling(_ids(options, "ids"), sample, bool(options.get("shuffle")), seed or 0)


def put_back(options: Keywords) -> Selection | None:
    """Return which failed requests are tried again, and with what change; None: none of them. Raises `UsageError`."""
    ids, patch = _ids(options, "retry_ids"), dict(options.get("retry_params") or {})
    classes, signatures = _classes(options.get("retry")), _signatures(options.get("retry_signatures"))
    if classes is None and not ids and not signatures:
        if patch:
            raise UsageError(
                "retry_params changes what is put back: say what with retry, retry_ids or retry_signatures."
            )
        return None
    check_patch(patch, "retry_params")
    return Selection(classes or (), ids, patch, signatures)


def _signatures(given: Any) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given or ())
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"retry_signatures takes keys of groups, or texts of messages, not {name!r}.")
    return names


def _classes(retry: Any) -> tuple[str, ...] | None:
    """Return the error classes of *retry*, none of them for any class; None: it asks for nothing."""
    if retry is None or isinstance(retry, bool):
        return MENDABLE if retry else None
    if retry == "all":
        return ()
    classes = (retry,) if isinstance(retry, str) else tuple(retry)
    for name in classes:
        if name not in set(ErrorClass):
            raise UsageError(f"retry={name!r} is neither 'all' nor an error class. Classes: {', '.join(ErrorClass)}.")
    return classes or None


def _ids(options: Keywords, name: str) -> tuple[str, ...]:
    given = options.get(name)
    if given is None:
        return ()
    ids = (given,) if isinstance(given, str | int) else tuple(given)
    for one in ids:
        if not isinstance(one, str) and type(one) is not int:
            raise UsageError(f"{name} takes ids, strings or integers, not {one!r}.")
    return tuple(map(str, ids))
