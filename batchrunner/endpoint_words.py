"""What became of the endpoints of a run, in words."""

from collections.abc import Mapping
from typing import Any

from batchrunner.screen import duration


def endpoint_told(endpoint: Mapping[str, Any]) -> str:
    """Return in words what became of one endpoint of a run, from its record."""
    facts = [f"{endpoint['calls']:,} calls, {endpoint['answered']:,} answered"]
    if endpoint["state"] == "not used":
        facts = ["not needed"]
    if endpoint["outages"]:
        still = ", and still is" if endpoint["state"] == "down" else ""
        facts.append(f"was down for {duration(endpoint['down_s'])}{still}")
    if endpoint["reason"]:
        joint = ":" if endpoint["state"] == "given up" else " for"
        facts.append(f"given up{joint} {endpoint['reason']}")
    return f"endpoint {endpoint['name']}: {'; '.join(facts)}"
