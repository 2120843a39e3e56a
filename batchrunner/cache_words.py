"""What the prompt cache did, in words."""


def cache_told(read: int, written: int) -> str:
    """Return a line on input tokens that were *read* from the prompt cache and *written* to it, at the prices of all models.

    A token that is read costs a tenth of plain input, one that is written for five minutes a quarter more, for an hour
    twice as much. What was written for an hour is not told apart, so the saving is said of what was read alone.
    """
    return f"prompt cache: {read:,} input tokens read at a tenth of the price, {written:,} written"
