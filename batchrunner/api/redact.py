"""What may be shown or stored of foreign text: one line, no control characters, no keys. Pure."""

import re
from collections.abc import Iterable

#: Longest message for people, in characters.
MESSAGE_LIMIT = 300

#: Most of a body that is kept with a failure, in bytes.
BODY_LIMIT = 4096

_REMOVED = "[removed]"
# Relays echo credentials in their error texts, so whatever looks like one goes, whosever it is.
_CREDENTIALS = (
    re.compile(r"\bsk-[\w-]{4,}"),
    re.compile(r"\b(?<=bearer )[\w.~+/=\\-]{6,}", re.IGNORECASE),
    re.compile(r"(?<=://)[^\s/@:]{0,200}:[^\s/@]{0,200}(?=@)"),
)
#: Names of headers that carry a credential.
_CREDENTIAL_NAMES = re.compile(r"auth|key|token|secret|password|cookie|credential", re.IGNORECASE)
#: A long run of letters and digits in no language: what keys without a prefix look like.
_OPAQUE = re.compile(r"(?=\S*\d)(?=\S*[A-Za-z])[\w.~+/=-]{32,}")
_SURROGATES = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"\s+")
#: Shorter secrets are not looked for: they would blot out ordinary words.
_SHORTEST_SECRET = 6


def without_surrogates(text: str) -> str:
    """Return *text* with each lone surrogate replaced by U+FFFD, so that SQLite takes it."""
    return _SURROGATES.sub("\ufffd", text)


class SecretText(str):
    """A value that must not be shown, whatever the header that carries it is called."""

    __slots__ = ()


def names_credential(header: str) -> bool:
    """Whether a header of that name carries a credential: `Authorization`, `X-Api-Key`, `Cookie`, ..."""
    return bool(_CREDENTIAL_NAMES.search(header))


def looks_like_key(text: str) -> bool:
    """Whether *text* is, or holds, something that looks like a key or a token."""
    return without_keys(text) != text or bool(_OPAQUE.fullmatch(text.strip()))


def without_opaque(text: str) -> str:
    """Return *text* without anything that looks like a credential or could be one: for what stands in the wrong place."""
    return re.sub(rf"(?<!\S)\W?{_OPAQUE.pattern}", _REMOVED, without_keys(text))


def without_keys(text: str, secrets: Iterable[str] = ()) -> str:
    """Return *text* without the literal *secrets* and without anything that looks like a credential."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _REMOVED)
    for pattern in _CREDENTIALS:
        text = pattern.sub(_REMOVED, text)
    return text


def one_line(text: str, secrets: Iterable[str] = (), limit: int = MESSAGE_LIMIT) -> str:
    """Return *text* fit to be shown: one line of at most *limit* printable characters, no keys."""
    # A key must be found whole, so keys go before the text is cut; 20 times the limit bounds the work.
    shown = "".join([char if char.isprintable() else " " for char in text[: 20 * limit]])
    cleaned = without_keys(_BLANKS.sub(" ", shown), secrets).strip()
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def kept_body(body: bytes, secrets: Iterable[str] = ()) -> str | None:
    """Return the first 4 KB of *body* as text without keys; None for an empty one. Bytes that are not UTF-8 become U+FFFD."""
    if not body:
        return None
    text = without_keys(body[: 2 * BODY_LIMIT].decode("utf-8", "replace"), secrets)
    return text.encode()[:BODY_LIMIT].decode("utf-8", "ignore")
