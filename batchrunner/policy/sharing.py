"""What a run makes of requests that have something in common."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a run makes of requests that share a marked prefix, or everything."""

    prime: bool = True  #: Of those that share a marked prefix, send one first and the others once its answer has begun.
    dedupe: bool = False  #: Of identical ones send one; the others get its answer.
