"""What an endpoint says of its models. Gateways say little or nothing, so nothing is taken for granted."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2

from batchrunner.api.classify import classify_error
from batchrunner.api.redact import one_line
from batchrunner.errors import HaltError

_TIMEOUT_S = 30.0
_PAGE = 1000
_MOST_PAGES = 20
#: Broken pages: JSON that is none, a body that is none, a connection that breaks while it is read.
_UNREADABLE = (ValueError, httpx2.HTTPError)


@dataclass(frozen=True, slots=True)
class Offer:
    """One model, as the endpoint describes it; None: it does not say."""

    id: str
    name: str | None = None
    context: int | None = None  #: Tokens.
    max_output: int | None = None  #: Tokens.
    lifecycle: str | None = None
    deprecated: str | None = None  #: Date, ISO.
    retires: str | None = None  #: Date, ISO.
    capabilities: tuple[str, ...] = ()


async def offered_models(client: Any, secrets: Iterable[str] = ()) -> list[Offer] | str:
    """Return the models that the endpoint of *client*, the SDK's, offers; or why it names none.

    *secrets* are not shown. Raises `HaltError` if it does not take the credential.
    """
    asking = client.models.with_raw_response
    found: dict[str, Offer] = {}
    after: Any = anthropic.omit
    for _ in range(_MOST_PAGES):
        try:
            raw = await asking.list(limit=_PAGE, after_id=after, timeout=_TIMEOUT_S)
            page = await raw.json()
        except (anthropic.AuthenticationError, anthropic.PermissionDeniedError) as refused:
            answer = refused.response
            said = classify_error(answer.status_code, answer.headers, answer.content, secrets=tuple(secrets)).message
            raise HaltError(f"The endpoint does not take the credential: {said}") from refused
        except anthropic.APIStatusError as refused:
            return f"it answers HTTP {refused.status_code}"
        except anthropic.APIConnectionError as broken:
            raise HaltError(f"The endpoint cannot be reached: {_said(broken.__cause__ or broken, secrets)}") from broken
        except _UNREADABLE:
            return "its answer is no list of models"
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            return "its answer is no list of models"
        offers = [_offer(item) for item in page["data"] if isinstance(item, dict) and isinstance(item.get("id"), str)]
        new = {offer.id: offer for offer in offers if offer.id not in found}
        found |= new
        after = page.get("last_id")
        if not (page.get("has_more") and new and isinstance(after, str)):
            break
    return list(found.values()) or "its list of models is empty"


def _said(error: BaseException, secrets: Iterable[str]) -> str:
    return one_line(str(error), secrets)


def _offer(item: dict[str, Any]) -> Offer:
    return Offer(
        item["id"],
        _text(item.get("display_name")),
        _number(item.get("max_input_tokens")),
        _number(item.get("max_tokens")),
        _text(item.get("lifecycle")),
        _day(item.get("deprecated_at")),
        _day(item.get("retires_at")),
        tuple(_capabilities(item.get("capabilities"))),
    )


def _capabilities(value: Any) -> list[str]:
    """Return the names of what is supported, the types of thinking in brackets."""
    names = []
    for name, spec in value.items() if isinstance(value, dict) else ():
        if not isinstance(spec, dict) or not spec.get("supported"):
            continue
        types = spec.get("types") if name == "thinking" else None
        kinds = (
            [t for t, s in types.items() if isinstance(s, dict) and s.get("supported")]
            if isinstance(types, dict)
            else []
        )
        names.append(f"{name}({'|'.join(sorted(kinds))})" if kinds else str(name))
    return names


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _day(value: Any) -> str | None:
    return value[:10] if isinstance(value, str) and value else None
