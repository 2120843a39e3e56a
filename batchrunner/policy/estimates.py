"""What a request will use, estimated from what those before it have used."""

import re

from batchrunner.policy.prefixes import marks_of
from batchrunner.policy.recent import Recent

#: So many answers make the percentile trustworthy, and so many of the latest count.
ENOUGH = 30
_RECENT = 1000
_PERCENTILE = 0.95
#: Before anything is known: characters of English and JSON per token.
CHARS_PER_TOKEN = 3.2
#: Hardly any text has more, in no tokenizer of the API.
_MOST_CHARS_PER_TOKEN = 8.0
#: Weight of everything before, each time another answer tells its true size.
_MEMORY = 0.98
_FEWEST_CHARS_PER_TOKEN = 2.0
_MOST_TOKENS_PER_BLOB = 5000
_FILE = '"type":"file"'
#: What an image or a page costs, roughly; its bytes say nothing about it.
_TOKENS_PER_BLOB = 1600
_BLOB = re.compile(r'"data"\s*:\s*"[A-Za-z0-9+/=\\]{64,}"')


class OutputEstimate:
    """How many tokens an answer will have: the 95th percentile of this lane's latest, never above `max_tokens`.

    As long as there are none it is `max_tokens`; the first few answers bound it from above by a multiple of the
    longest so far that shrinks with their number, so that a high `max_tokens` does not hold up the beginning.
    """

    def __init__(self) -> None:
        self.reserve_all = False  #: Reserve `max_tokens`: this server does so itself.
        self._recent = Recent(_RECENT)

    def tokens(self, max_tokens: int) -> float:
        """Return what to reserve for an answer that may have *max_tokens*."""
        count = len(self._recent)
        if self.reserve_all or not count:
            return max_tokens
        if count < ENOUGH:
            return min(max_tokens, self._recent.largest * (1 + ENOUGH / count / 2))
        return min(max_tokens, self._recent.percentile(_PERCENTILE))

    def note(self, output_tokens: int) -> None:
        """An answer had so many."""
        self._recent.note(output_tokens)


class InputEstimate:
    """How many input tokens a body counts for: its characters, scaled by what those before it counted for.

    What the cache delivers does not count at the API: of marked prefixes the caller knows what it has, and says so; what
    it delivers beyond that the scale learns. Data of images and documents is not text and is left out of the characters.
    """

    def __init__(self) -> None:
        self._tokens = 1.0
        self._chars = CHARS_PER_TOKEN
        self._asked = "", (0, 0)  # the body that was asked about last, and its measure: it is asked about again

    def tokens(self, params: str, kept_chars: int = 0) -> float:
        """Return what to reserve for the body *params* (JSON text), of which the cache delivers *kept_chars*."""
        chars, blobs = self._measured(params)
        if kept_chars:
            if kept_chars > chars:  # there is data in the prefix, and where there is some, there is mostly all of it
                chars, blobs = len(params), 0
            chars = max(0, chars - kept_chars)
        return 1 + chars * self._tokens / self._chars + blobs * _TOKENS_PER_BLOB

    def at_least(self, params: str, prefix: str | None = None) -> float:
        """Return what the body *params* surely counts for: no text has fewer tokens, unless the cache has it.

        *prefix*: its marked prefixes (`prefixes.path_of`), which the cache may have.
        """
        chars, _ = self._measured(params)
        if prefix is not None:
            chars = max(0, chars - marks_of(prefix)[-1].chars)
        return chars * min(1 / _MOST_CHARS_PER_TOKEN, self._tokens / self._chars)

    def note(self, params: str, input_tokens: int) -> None:
        """The body *params* counted for so many."""
        chars, blobs = measured(params)
        text_tokens = input_tokens - blobs * _TOKENS_PER_BLOB
        if text_tokens > 0:
            self._tokens = _MEMORY * self._tokens + text_tokens
            self._chars = _MEMORY * self._chars + chars

    def _measured(self, params: str) -> tuple[int, int]:
        if params is not self._asked[0]:
            self._asked = params, measured(params)
        return self._asked[1]


def most_input_tokens(params: str) -> float:
    """Return what the body *params* counts for at most: hardly any text has fewer than two bytes per token.

    What a file holds that is named by its path is not known here; an image counts for what a large one does.
    """
    if '"document"' in params:
        chars, blobs = len(params), params.count(_FILE)
    else:
        chars, blobs = measured(params)
        blobs += params.count(_FILE)
    if not params.isascii():
        chars += len(params.encode("utf-8", "surrogatepass")) - len(params)
    return chars / _FEWEST_CHARS_PER_TOKEN + blobs * _MOST_TOKENS_PER_BLOB


def measured(params: str) -> tuple[int, int]:
    """Return the characters of *params* that are text, and the number of its images and documents."""
    if '"base64"' not in params:
        return len(params), 0
    text, blobs = _BLOB.subn("", params)
    return len(text), blobs
