"""What part of a job a run works on."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which requests of a job a run works on, and in which order; the rest stays as it is."""

    ids: Sequence[str] = ()  #: Only these; empty: all.
    sample: int | None = None  #: Of those, so many drawn by chance.
    shuffle: bool = False  #: Send in an order drawn by chance instead of that of the input.
    seed: int = 0  #: Decides what is drawn: the same seed, the same requests.

    @property
    def picks(self) -> bool:
        """Whether it leaves any request out."""
        return bool(self.ids) or self.sample is not None

    @property
    def chooses(self) -> bool:
        """Whether it asks for anything but all requests in their order."""
        return bool(self.ids) or self.sample is not None or self.shuffle
