"""Options for requests that have something in common."""

from typing import TYPE_CHECKING, Any

import click

from batchrunner.cli.sections import together

if TYPE_CHECKING:
    from batchrunner.policy.sharing import Sharing

#: What is made of requests that share a prefix, or everything.
sharing = together(
    click.option(
        "--prime/--no-prime",
        default=None,
        help="Of requests that share a prefix marked with cache_control, send one first and the others once its answer "
        "has begun, so that they read the prompt cache.  [default: prime]",
    ),
    click.option(
        "--dedupe/--no-dedupe",
        default=None,
        help="Send identical requests once; the others get a copy of the answer.  [default: no-dedupe]",
    ),
    heading="Repetition",
)


def sharing_of(given: dict[str, Any], last: dict[str, Any]) -> "Sharing":
    """Return what the options above ask for: what is *given*, else what the *last* run had."""
    from batchrunner.policy.sharing import Sharing

    standard = Sharing()
    values = {}
    for name in ("prime", "dedupe"):
        value = given[name] if given[name] is not None else last.get(name)
        values[name] = getattr(standard, name) if value is None else bool(value)
    return Sharing(**values)
