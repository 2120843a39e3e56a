"""What tells the class of an error, as a table. Pure.

Codes are believed before words, and words only where the text cannot be an echo of the user's own request.
"""

from batchrunner.api.rule import Rule
from batchrunner.model import ErrorClass

#: How it is said that requests from here are not served.
REGION_PHRASES = (
    "request not allowed",
    "unsupported countr",
    "not available in your region",
    "not available in your country",
    "region, or territory not supported",
    "地区不支持",
)

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
            "额度已用尽",
            "配额不足",
            "欠费",
            "预扣费额度失败",
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
    # An upload that was too slow says nothing against the request.
    Rule(ErrorClass.TIMEOUT, codes=frozenset({"request_body_timeout"})),
    Rule(ErrorClass.TOO_LARGE, codes=frozenset({"request_too_large", "request_body_too_large_after_decoding"})),
    Rule(ErrorClass.TOO_LARGE, statuses=frozenset({413}), status_is_enough=True),
    Rule(ErrorClass.OVERLOADED, codes=frozenset({"overloaded_error"})),
    Rule(
        ErrorClass.NOT_FOUND,
        codes=frozenset({"key_model_access_denied", "team_model_access_denied"}),  # LiteLLM says so with a 401
    ),
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
            "无可用渠道",
            "模型不存在",
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
        codes=frozenset(
            {
                "authentication_error",
                "invalid_api_key",
                "invalid_token",
                "unauthenticated",
                "unrecognizedclientexception",
                "expiredtokenexception",
                "invalidsignatureexception",
            }
        ),
    ),
    Rule(ErrorClass.AUTHENTICATION, statuses=frozenset({401}), status_is_enough=True),
    Rule(
        ErrorClass.AUTHENTICATION,
        statuses=frozenset({None, 400, 403, 500}),
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
            "密钥",
        ),
        sequences=tuple(
            ("api key", fault) for fault in ("expired", "revoked", "disabled", "deactivated", "is invalid", "not valid")
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
                "servicequotaexceededexception",
            }
        ),
    ),
    Rule(ErrorClass.RATE_LIMITED, statuses=frozenset({429}), status_is_enough=True),
    Rule(
        ErrorClass.RATE_LIMITED,
        statuses=frozenset({None, 400, 403, 500}),
        phrases=("too many requests", "rate limit", "rate_limit", "throttl", "过于频繁"),
        is_anthropic=False,
    ),
    Rule(
        ErrorClass.PERMISSION,
        statuses=frozenset({None, 400, 403}),
        codes=frozenset({"unsupported_country_region_territory"}),
        phrases=REGION_PHRASES,
    ),
    # A moderation in front of the model turned down this request; the key may do others.
    Rule(
        ErrorClass.INVALID,
        statuses=frozenset({403}),
        codes=frozenset({"content_filter", "content_policy_violation"}),
        phrases=("input was flagged", "requires moderation"),
        is_anthropic=False,
    ),
    Rule(ErrorClass.TIMEOUT, codes=frozenset({"timeout_error", "deadline_exceeded", "modeltimeoutexception"})),
    # What a relay tells of its upstream in words alone.
    Rule(
        ErrorClass.OVERLOADED,
        statuses=frozenset({None, 500, 502, 503}),
        phrases=("overloaded", "负载已饱和"),
        is_anthropic=False,
    ),
    Rule(
        ErrorClass.TIMEOUT,
        statuses=frozenset({None, 500, 502, 503}),
        phrases=("request timed out", "apitimeouterror", "read timeout", "请求超时"),
        is_anthropic=False,
    ),
    Rule(
        ErrorClass.SERVER,
        statuses=frozenset({None}),
        phrases=("internal server error", "bad gateway", "service unavailable", "temporarily unavailable"),
        is_anthropic=False,
    ),
)
