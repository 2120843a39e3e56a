"""Whole runs in virtual time: the real runner on the pure simulator, with neither sockets nor waiting."""

from virtual.figures import Figures, SeeingLedger, Seen
from virtual.harness import Line, World, numbered, virtual_run
from virtual.loop import VirtualClock, VirtualLoop, in_virtual_time
from virtual.network import VirtualServer
from virtual.threads import inline_threads

__all__ = [
    "Figures",
    "Line",
    "SeeingLedger",
    "Seen",
    "VirtualClock",
    "VirtualLoop",
    "VirtualServer",
    "World",
    "in_virtual_time",
    "inline_threads",
    "numbered",
    "virtual_run",
]
