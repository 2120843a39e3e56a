"""Signatures: failures that differ only in numbers, ids or quoted content are one problem."""

import hashlib
import re

_VARIABLE = (
    (re.compile(r"https?://\S+"), "<url>"),
    (re.compile(r"\b(?:req|msg|toolu)_[A-Za-z0-9]+"), "<id>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\d+(?:[.,]\d+)*"), "#"),
)


def signature_key(error_class: str, signed: str) -> str:
    """Return the short name, eight hexadecimal digits, of the failures of *error_class* with the signature *signed*."""
    return hashlib.blake2b(f"{error_class}\n{signed}".encode(errors="surrogatepass"), digest_size=4).hexdigest()


def signature(message: str) -> str:
    """Return *message* with what varies from row to row replaced, at most 120 characters."""
    folded = message
    for pattern, placeholder in _VARIABLE:
        folded = pattern.sub(placeholder, folded)
    # A number that is folded may uncover an id behind it; each round leaves fewer characters or fewer digits.
    return folded[:120] if folded == message else signature(folded)
