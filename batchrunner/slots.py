"""Room for attempts in flight."""

import anyio


class Slots:
    """Room for attempts in flight. A slot is freed only after its settlement is committed."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._freed = anyio.Event()

    def take(self) -> None:
        """Take one; there must be one."""
        self.free -= 1

    def give(self) -> None:
        """Give one back."""
        self.free += 1
        self._freed.set()

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self.total - self.free

    def resize(self, total: int) -> None:
        """Have room for *total*. If more are taken already, `free` is below zero until enough were given back."""
        self.free += total - self.total
        self.total = total
        self._freed.set()

    async def freed(self) -> None:
        """Wait until one is given back or there is more room."""
        if self._freed.is_set():
            self._freed = anyio.Event()
        await self._freed.wait()
