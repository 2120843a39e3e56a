"""Which class an error belongs to: tables, and one function that walks them. Pure.

Codes are believed before words, and words only where the text cannot be an echo of the user's own request.
"""

from dataclasses import dataclass

from batchrunner.api.bodies import Evidence
from batchrunner.model import ErrorClass

_ANY: frozenset[int] = frozenset()
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: the class, where it applies, and what must be found; any one finding is enough."""

    error_class: ErrorClass
    statuses: frozenset[int] = _ANY  #: Only for these; empty: for any.
    codes: frozenset[str] = _NONE  #: Values of `type`, `code`, ...
    phrases: tuple[str, ...] = ()  #: Anywhere in the text, unless it may echo the request.
    openings: tuple[str, ...] = ()  #: At the start of the message; believed even in an echo.
    sequences: tuple[tuple[str, str], ...] = ()  #: A word, and soon after it another one; as phrases.
    is_anthropic: bool | None = None  #: Only in the API's own bodies, or only in others'; None: in both.
    status_is_enough: bool = False  #: The status alone is a finding.

    def fits(self, status: int | None, evidence: Evidence) -> bool:
        """Whether this row speaks of the error."""
        if self.statuses and status not in self.statuses:
            return False
        if self.is_anthropic is not None and self.is_anthropic is not evidence.is_anthropic:
            return False
        if self.status_is_enough or self.codes & evidence.codes:
            return True
        if self.openings and evidence.message.lower().startswith(self.openings):
            return True
        if evidence.echoes_request or evidence.is_html:
            return False
        return any(phrase in evidence.text for phrase in self.phrases) or any(
            _follows(evidence.text, first, second) for first, second in self.sequences
        )


def _follows(text: str, first: str, second: str) -> bool:
    """Whether *second* stands within 200 characters after the first *first*."""
    start = text.find(first)
    return start >= 0 and second in text[start : start + 200]


#: Read from top to bottom; the first row that fits decides.
RULES: tuple[Rule, ...] = (
    Rule(
        ErrorClass.BILLING,
        codes=frozenset(
            {
                "enforced_spend_limit_reached",
                "contract_spend_limit_reached",
                "linked_organization_billing_error",
                "billing_error",
                "billing_hard_limit_reached",
                "billing_not_active",
                "budget_exceeded",
                "insufficient_balance",
                "insufficient_user_balance",
                "insufficient_quota",
                "insufficient_user_quota",
                "insufficient_token_quota",
                "pre_consume_token_quota_failed",
                "insufficient_credits",
                "insufficient_funds",
                "payment_required",
            }
        ),
        phrases=(
            "credit balance is too low",
            "reached your specified api usage limits",
            "reached your specified workspace api usage limits",
            "quota is not enough",
            "credit limit is insufficient",
            "exceeded your current quota, please check your plan and billing",
            "extra usage is required for long context",
            "insufficient balance",
            "insufficient credits",
            "insufficient quota",
            "budget has been exceeded",
            "余额不足",
            "额度不足",
            "餘額不足",
            "額度不足",
        ),
        openings=("your credit balance is too low", "you have reached your specified"),
    ),
    Rule(
        ErrorClass.PERMISSION,
        codes=frozenset({"organization_on_hold", "cmek_key_disabled", "claude_code_key_creator_not_member"}),
        openings=("this organization has been disabled", "your organization has been disabled"),
    ),
    Rule(ErrorClass.TOO_LARGE, codes=frozenset({"request_too_large", "request_body_too_large_after_decoding"})),
    Rule(ErrorClass.TOO_LARGE, statuses=frozenset({413}), status_is_enough=True),
    Rule(ErrorClass.OVERLOADED, codes=frozenset({"overloaded_error"})),
    Rule(
        ErrorClass.NOT_FOUND,
        statuses=frozenset({400, 403, 404, 500, 503}),
        codes=frozenset({"model_not_found", "model_not_available", "invalid_model", "deploymentnotfound"}),
        phrases=(
            "no available channel",
            "invalid model name",
            "unknown model",
            "model identifier is invalid",
            "you don't have access to the model",
        ),
        sequences=(("model", "not found"), ("model", "does not exist"), ("model", "doesn't exist")),
    ),
    Rule(ErrorClass.NOT_FOUND, statuses=frozenset({404}), openings=("model:",)),
    # A file or a container that a request names is the request's own affair, not the address's.
    Rule(
        ErrorClass.INVALID,
        statuses=frozenset({404}),
        phrases=("file", "container", "skill", "thread"),
        is_anthropic=True,
    ),
    Rule(
        ErrorClass.AUTHENTICATION,
        codes=frozenset({"authentication_error", "invalid_api_key", "invalid_token", "unauthenticated"}),
    ),
    Rule(ErrorClass.AUTHENTICATION, statuses=frozenset({401}), status_is_enough=True),
    Rule(
        ErrorClass.AUTHENTICATION,
        statuses=frozenset({400, 403, 500}),
        phrases=(
            "invalid api key",
            "incorrect api key",
            "api key not valid",
            "invalid x-api-key",
            "invalid token",
            "invalid access token",
            "api key is required",
            "missing api key",
            "令牌",
        ),
        is_anthropic=False,
    ),
    Rule(
        ErrorClass.RAMP,
        statuses=frozenset({429}),
        codes=frozenset({"ramp_limit_exceeded"}),
        phrases=("ramp limit", "usage increase rate", "acceleration limit", "more gradually"),
    ),
    Rule(
        ErrorClass.CONCURRENCY,
        statuses=frozenset({429}),
        codes=frozenset({"concurrency_limit_exceeded", "too_many_concurrent_requests"}),
        phrases=("concurrent", "concurrency", "simultaneous", "requests in flight"),
    ),
    Rule(
        ErrorClass.RATE_LIMITED,
        codes=frozenset(
            {
                "rate_limit_error",
                "rate_limit_exceeded",
                "rate_limited",
                "too_many_requests",
                "resource_exhausted",
                "throttlingexception",
            }
        ),
    ),
    Rule(ErrorClass.RATE_LIMITED, statuses=frozenset({429}), status_is_enough=True),
    Rule(
        ErrorClass.RATE_LIMITED,
        statuses=frozenset({400, 403, 500}),
        phrases=("too many requests", "rate limit", "rate_limit", "throttl"),
        is_anthropic=False,
    ),
    Rule(ErrorClass.PERMISSION, phrases=("request not allowed", "unsupported countr"), statuses=frozenset({400, 403})),
    Rule(ErrorClass.TIMEOUT, codes=frozenset({"timeout_error"})),
)

#: What a status says when nothing else does; others go by their hundred.
STATUS_CLASSES: dict[int, ErrorClass] = {
    402: ErrorClass.BILLING,
    403: ErrorClass.PERMISSION,
    404: ErrorClass.ENDPOINT,
    405: ErrorClass.ENDPOINT,
    407: ErrorClass.ENDPOINT,
    408: ErrorClass.TIMEOUT,
    409: ErrorClass.SERVER,
    410: ErrorClass.ENDPOINT,
    413: ErrorClass.TOO_LARGE,
    421: ErrorClass.SERVER,
    425: ErrorClass.SERVER,
    426: ErrorClass.ENDPOINT,
    401: ErrorClass.AUTHENTICATION,
    429: ErrorClass.RATE_LIMITED,
    451: ErrorClass.PERMISSION,
    499: ErrorClass.SERVER,
    501: ErrorClass.ENDPOINT,
    504: ErrorClass.TIMEOUT,
    505: ErrorClass.ENDPOINT,
    524: ErrorClass.TIMEOUT,
    529: ErrorClass.OVERLOADED,
}

#: What `error.type` says where there is no status: an error inside a 200, or in a stream.
TYPE_CLASSES: dict[str, ErrorClass] = {
    "api_error": ErrorClass.SERVER,
    "server_error": ErrorClass.SERVER,
    "internal_server_error": ErrorClass.SERVER,
    "conflict_error": ErrorClass.SERVER,
    "forbidden": ErrorClass.PERMISSION,
    "invalid_request_error": ErrorClass.INVALID,
    "not_found_error": ErrorClass.NOT_FOUND,
    "permission_error": ErrorClass.PERMISSION,
}


def class_of(status: int | None, evidence: Evidence, *, has_retry_after: bool = False) -> ErrorClass:
    """Return the class of an error with this *status* (None: unknown) and *evidence*.

    *has_retry_after*: a 402 that names a time is a passing budget of a gateway, not an empty account.
    """
    if status is not None and status < 400:
        return ErrorClass.ENDPOINT if status >= 300 else ErrorClass.BAD_RESPONSE
    if status == 529 or (status is not None and status >= 500 and (evidence.is_html or evidence.is_anthropic)):
        return _by_status(status, evidence)
    if status == 402 and has_retry_after:
        return ErrorClass.RATE_LIMITED
    for rule in RULES:
        if rule.fits(status, evidence):
            return rule.error_class
    if status is None:
        return next((TYPE_CLASSES[code] for code in TYPE_CLASSES if code in evidence.codes), ErrorClass.BAD_RESPONSE)
    return _by_status(status, evidence)


def _by_status(status: int, evidence: Evidence) -> ErrorClass:
    if status >= 500 and "overloaded_error" in evidence.codes:
        return ErrorClass.OVERLOADED
    if status >= 500 and "timeout_error" in evidence.codes:
        return ErrorClass.TIMEOUT
    hundred = ErrorClass.SERVER if status >= 500 else ErrorClass.INVALID
    return STATUS_CLASSES.get(status, hundred)
