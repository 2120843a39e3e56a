"""A stand-in for the Messages API on this machine: real shapes, real limits, real faults, and a ledger of what was paid.

`api.Simulator` decides (a function of the request, the time and what came before; no sockets), `server.serve` carries out.
"""

from batchrunner.simulator.api import Simulator
from batchrunner.simulator.ledger import Ledger, Summary
from batchrunner.simulator.settings import SimulatorSettings, parse_spec

__all__ = ["Ledger", "Simulator", "SimulatorSettings", "Summary", "parse_spec"]
