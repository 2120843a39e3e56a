"""What the simulated Message Batches API shall be like."""

from dataclasses import dataclass

from batchrunner.simulator.chance import Spread

#: The API's own figures.
EXPIRES_S = 24 * 3600.0
KEPT_S = 29 * 24 * 3600.0
_A_SECOND = Spread(1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """The character of the batches. The defaults: all rows done after a second, nothing goes wrong."""

    offered: bool = True  #: False: the paths do not exist, as at many gateways.
    seconds: Spread = _A_SECOND  #: From creation to end.
    expires_s: float = EXPIRES_S  #: What is not done so long after creation expires.
    kept_s: float = KEPT_S  #: So long after creation the results are to be had.
    cancel_s: float = 0.1  #: From the wish to cancel to the end.
    queue: int = 200_000  #: Rows that may wait in all batches together.
    errored: float = 0.0  #: Probability that an attempt of a row ends in an internal error.
    expired: float = 0.0  #: Probability that an attempt of a row expires.
    failing: float = 0.0  #: Probability that a call gets a 500 and does nothing.
    lost: float = 0.0  #: Probability that a batch is created and its answer never arrives.
    cut: float = 0.0  #: Probability that a download of results breaks off halfway.
    results_host: str | None = None  #: Scheme and host that `results_url` names; None: the one that was asked.
