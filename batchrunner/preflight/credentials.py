"""Which credential the SDK would use, why, and whether it looks like one. No part of it is ever shown."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from batchrunner.preflight.findings import Fault, error, warning

API_KEY, AUTH_TOKEN = "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"
_FEDERATION = ("ANTHROPIC_FEDERATION_RULE_ID", "ANTHROPIC_ORGANIZATION_ID")
_IDENTITY = ("ANTHROPIC_IDENTITY_TOKEN_FILE", "ANTHROPIC_IDENTITY_TOKEN")

#: Keys of today have 108 characters; what is much shorter was cut, what is much longer is two of them.
_KEY_CHARS = (90, 140)
_PREFIX = "sk-ant-"
_PLACEHOLDER = re.compile(r"\.\.\.|…|\*\*\*|xxxx|your|placeholder|example|changeme|<|>|\$\{?\w", re.IGNORECASE)
_VISIBLE = re.compile(r"[!-~]+")


class Kind(StrEnum):
    """Where a credential comes from."""

    API_KEY = "api_key"
    AUTH_TOKEN = "auth_token"  # noqa: S105 - a name, no secret
    HEADERS = "custom_headers"
    PROFILE = "profile"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Credential:
    """Which one counts, and why, for people."""

    kind: Kind
    source: str  #: The variable or file, never the value.
    why: str


def find_credential(environment: Mapping[str, str], config_dir: Path) -> Credential:
    """Return which credential the SDK would use, in its order: key, token, named profile, federation, active profile.

    *config_dir* is where profiles are kept unless *environment* says otherwise.
    """
    if environment.get(API_KEY):
        others = [name for name in (AUTH_TOKEN, "ANTHROPIC_PROFILE") if environment.get(name)]
        why = f"it wins over {' and '.join(others)}" if others else "it comes first of all"
        return Credential(Kind.API_KEY, API_KEY, why)
    if environment.get(AUTH_TOKEN):
        return Credential(Kind.AUTH_TOKEN, AUTH_TOKEN, f"{API_KEY} is not set")
    if (profile := _profile(environment, config_dir)) is not None:
        return profile
    headers = environment.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n")
    if {line.partition(":")[0].strip().lower() for line in headers} & {"authorization", "x-api-key"}:
        return Credential(Kind.HEADERS, "ANTHROPIC_CUSTOM_HEADERS", "no other credential is set")
    return Credential(Kind.NONE, "", "no variable and no profile names one")


def named_credential(variable: str | None, environment: Mapping[str, str], config_dir: Path) -> Credential:
    """Return the credential that an endpoint of the configuration takes from *variable*; None: as the SDK finds it."""
    if variable is None:
        return find_credential(environment, config_dir)
    if not environment.get(variable):
        return Credential(Kind.NONE, variable, "the configuration names it, and it is not set")
    kind = Kind.AUTH_TOKEN if variable.endswith("AUTH_TOKEN") else Kind.API_KEY
    return Credential(kind, variable, "the configuration names it")


def _profile(environment: Mapping[str, str], config_dir: Path) -> Credential | None:
    if environment.get("ANTHROPIC_PROFILE"):
        return Credential(Kind.PROFILE, "ANTHROPIC_PROFILE", "neither key nor token is set")
    if all(map(environment.get, _FEDERATION)) and any(map(environment.get, _IDENTITY)):
        return Credential(Kind.PROFILE, _FEDERATION[0], "neither key, token nor profile is named; federation is set up")
    folder = Path(environment.get("ANTHROPIC_CONFIG_DIR") or config_dir)
    if environment.get("ANTHROPIC_CONFIG_DIR") or (folder / "active_config").exists() or (folder / "configs").is_dir():
        return Credential(Kind.PROFILE, str(folder), "no variable names a credential; this is where profiles are kept")
    return None


def check_credential(credential: Credential, environment: Mapping[str, str], *, official: bool) -> Iterator[Fault]:
    """Yield what is wrong with the form of *credential*; *official*: at Anthropic's own API, where forms are known."""
    if credential.kind is Kind.NONE:
        missing = f"{credential.source} is not set" if credential.source else "there is no credential"
        remedy = f"set {credential.source}" if credential.source else f"set {API_KEY}, or log in to a profile"
        yield error("no-credential", missing, remedy)
    elif credential.kind in {Kind.API_KEY, Kind.AUTH_TOKEN}:
        yield from _check_form(credential, environment[credential.source], official=official)
    named = credential.source not in {API_KEY, AUTH_TOKEN}
    if not named and environment.get(API_KEY) and environment.get(AUTH_TOKEN):
        yield warning("two-credentials", f"both {API_KEY} and {AUTH_TOKEN} are set; the key counts", "unset the other")


def _check_form(credential: Credential, value: str, *, official: bool) -> Iterator[Fault]:
    name = credential.source
    damage = _damage(value)
    if damage:
        yield error("key-form", f"{name} {damage}", "copy it again, whole and alone")
        return
    if not official:
        return
    if _PLACEHOLDER.search(value):
        yield error("key-placeholder", f"{name} holds a placeholder, not a key", "put your key there")
    elif credential.kind is Kind.API_KEY:
        yield from _check_key(name, value)


def _check_key(name: str, value: str) -> Iterator[Fault]:
    shortest, longest = _KEY_CHARS
    if value.startswith("sk-ant-oat"):
        yield error("key-kind", f"{name} holds a token", f"put it into {AUTH_TOKEN}")
    elif value.startswith("sk-ant-admin"):
        yield error("key-kind", f"{name} holds an admin key, which cannot send messages", "make an API key")
    elif not value.startswith(_PREFIX):
        yield error(
            "key-form", f"{name} does not begin like a key of Anthropic's ({_PREFIX}...)", "is it another service's?"
        )
    elif value.count(_PREFIX) > 1 or len(value) > longest:
        yield error("key-form", f"{name} is longer than a key is", "was it pasted twice?")
    elif len(value) < shortest:
        yield error("key-truncated", f"{name} is shorter than a key is", "was it cut while copying?")


def _damage(value: str) -> str:
    """Return what no credential of any endpoint has."""
    if not value.strip():
        return "holds only blanks"
    if value[0] in "\"'`“‘" or value[-1] in "\"'`”’":
        return "has quotation marks around it that are part of it"
    if value != value.strip():
        return "has a blank or a line break at its end"
    if value.lower().startswith(("bearer ", "anthropic_")):
        return "holds more than the credential: a prefix or the variable's name"
    if not _VISIBLE.fullmatch(value):
        return "has blanks or characters in it that no key has"
    return ""
