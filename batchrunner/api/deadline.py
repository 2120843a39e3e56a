"""How long an attempt may take. Pure."""

from batchrunner.model import Attempt, ErrorClass

#: An answer gets at least this long, in seconds.
SHORTEST_S = 600.0
#: What the API takes for its longest answer, 128,000 tokens, at the outside: an hour.
_SECONDS_PER_TOKEN = 3600 / 128_000

#: A connection must stand within this time, in seconds.
CONNECT_S = 10.0
#: Once an answer has begun, this long a silence ends it, in seconds. Before, only the deadline counts: an answer that
#: is not streamed sends nothing until it is finished.
IDLE_S = 120.0
#: How long a cancellation waits for an answer that has begun to arrive, in seconds.
GRACE_S = 1.0


#: Whoever ran out of time gets so much more at the next try: the same time would most likely not be enough again.
GROWTH = 1.5
#: But never more than so many times what it had at first.
LARGEST_GROWTH = 5.0


def deadline_s(attempt: Attempt) -> float:
    """Return the total time of *attempt* in seconds: its own, or what `max_tokens` may take, at least ten minutes.

    Each earlier time-out of the request makes it longer by half.
    """
    first_s = attempt.timeout_s or max(SHORTEST_S, attempt.max_tokens * _SECONDS_PER_TOKEN)
    # Beyond 4 the cap holds, whatever the power would be.
    earlier = min(attempt.failures.get(ErrorClass.TIMEOUT, 0), 4)
    return first_s * min(GROWTH**earlier, LARGEST_GROWTH)
