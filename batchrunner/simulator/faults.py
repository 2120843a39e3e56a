"""Everything that can go wrong, as data: name -> status, headers, body and what happens on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from batchrunner.simulator.replies import JSON_TYPE, Rejection

HTML_TYPE = "text/html; charset=utf-8"


class Wire(StrEnum):
    """What a fault does to the reply on its way."""

    WHOLE = "whole"  #: Nothing: the reply arrives as it is.
    SILENT_RESET = "silent_reset"  #: RST before the first byte.
    SILENT_CLOSE = "silent_close"  #: End of file before the first byte.
    HANG = "hang"  #: The connection stays open and silent.
    RESET_MIDWAY = "reset_midway"  #: Half of the body, then RST.
    CUT_MIDWAY = "cut_midway"  #: Half of a stream, then a clean end of file: no error to be seen.
    TRICKLE = "trickle"  #: Head at once, then the body a byte a second.
    TRUNCATE = "truncate"  #: Half of the body, declared as if it were the whole.
    BAD_GZIP = "bad_gzip"  #: Announced as gzip, which it is not.
    GZIP_BOMB = "gzip_bomb"  #: A few kilobytes that unpack to more than any answer has.
    HUGE = "huge"  #: A body larger than any answer.
    HUGE_HEADER = "huge_header"  #: A header of a megabyte.
    ERROR_MIDWAY = "error_midway"  #: Half of a stream, then an error event.


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail. With neither `error` nor `raw` it spoils the good answer on its way."""

    about: str  #: For the documentation.
    error: Rejection | None = None  #: An error in the API's own form.
    status: int = 200  #: Of a raw body.
    raw: tuple[str, bytes] | None = None  #: Content type and body of a foreign reply.
    headers: Mapping[str, str] = field(default_factory=dict)
    wire: Wire = Wire.WHOLE
    paid: bool = False  #: The answer was produced, so it is billed though it may never arrive.
    slow: bool = False  #: Takes as long as an answer; other faults come at once.
    sticky: bool = False  #: The request itself is at fault: drawn once for a body, not for every arrival.
    stream_only: bool = False  #: Means nothing to a request that is not streamed, which is answered well.
    retry_after: bool = False  #: Sends the `retry-after` of the settings.
    limit_headers: bool = False  #: Sends `anthropic-ratelimit-*` that say nothing is left.

    @property
    def accepted(self) -> bool:
        """Whether the request passed the limits, and so counts towards them."""
        return self.error is None and self.raw is None


def _error(status: int, kind: str, message: str, error_code: str | None = None) -> Rejection:
    return Rejection(status, kind, message, error_code)


def _page(title: str, server: str) -> tuple[str, bytes]:
    head = f"<html>\r\n<head><title>{title}</title></head>\r\n"
    body = f"<body>\r\n<center><h1>{title}</h1></center>\r\n<hr><center>{server}</center>\r\n</body>\r\n</html>\r\n"
    return HTML_TYPE, (head + body).encode()


_RATE_MESSAGE = (
    "This request would exceed your organization's rate limit. Please reduce the prompt length or try again later."
)
_UI = b'<!doctype html><html lang="en"><head><title>Console</title></head><body><div id="root"></div></body></html>'
_LOST_KEY = b'{"error":{"message":"Incorrect API key provided.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}'
_QUOTA = b'{"error":{"type":"new_api_error","code":"insufficient_user_quota","message":"user quota is not enough"}}'
_NO_USAGE = (
    b'{"type":"message","id":"chat-1","role":"assistant","model":"relayed","stop_reason":"end_turn",'
    b'"content":[{"type":"text","text":"An answer by a relay."}]}'
)
_NO_CHANNEL = (
    b'{"error":{"type":"one_api_error","code":"model_not_found",'
    b'"message":"No available channel for model claude-haiku-4-5 under group default"}}'
)

FAULTS: Mapping[str, Fault] = MappingProxyType(
    {
        "400": Fault(
            "the request is wrong",
            _error(400, "invalid_request_error", "messages.0.content: Input should be a valid list"),
            sticky=True,
        ),
        "400_temperature": Fault(
            "a sampling parameter under the current version",
            _error(
                400,
                "invalid_request_error",
                "temperature: this parameter is no longer supported; remove it from the request",
            ),
            sticky=True,
        ),
        "400_credit": Fault(
            "no credit left, said with a 400",
            _error(
                400,
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
            ),
        ),
        "401": Fault("the key is wrong", _error(401, "authentication_error", "invalid x-api-key")),
        "402": Fault(
            "billing",
            _error(
                402, "billing_error", "There is an issue with your payment method. Please check your billing settings."
            ),
        ),
        "403": Fault(
            "the key may not",
            _error(403, "permission_error", "Your API key does not have permission to use the specified resource."),
        ),
        "404_model": Fault("the model does not exist", _error(404, "not_found_error", "model: claude-unknown")),
        "404_path": Fault("the path does not exist", _error(404, "not_found_error", "Not Found")),
        "408": Fault("the request took too long to arrive", _error(408, "timeout_error", "Request timed out")),
        "409": Fault("a conflict", _error(409, "conflict_error", "The request conflicts with another; try again")),
        "413": Fault(
            "the body is too large, said by Cloudflare",
            status=413,
            raw=_page("413 Request Entity Too Large", "cloudflare"),
            sticky=True,
        ),
        "422": Fault(
            "the request cannot be processed",
            _error(422, "invalid_request_error", "messages: Input should be a valid list"),
            sticky=True,
        ),
        "429": Fault(
            "too many requests", _error(429, "rate_limit_error", _RATE_MESSAGE), retry_after=True, limit_headers=True
        ),
        "429_no_header": Fault("too many requests, no word on when", _error(429, "rate_limit_error", _RATE_MESSAGE)),
        "429_spend": Fault(
            "the monthly spend limit",
            _error(
                429,
                "rate_limit_error",
                "Your organization has reached its monthly spend limit.",
                "enforced_spend_limit_reached",
            ),
        ),
        "429_ramp": Fault(
            "traffic grew too fast",
            _error(
                429,
                "rate_limit_error",
                "Your traffic has increased too quickly. Ramp up gradually.",
                "ramp_limit_exceeded",
            ),
            retry_after=True,
        ),
        "429_concurrency": Fault(
            "too many connections at once",
            _error(
                429,
                "rate_limit_error",
                "Number of concurrent connections has exceeded your rate limit. Please try again later or contact sales.",
            ),
        ),
        "500": Fault("internal error", _error(500, "api_error", "Internal server error")),
        "502_html": Fault("bad gateway, as a page", status=502, raw=_page("502 Bad Gateway", "nginx")),
        "503": Fault("unavailable", _error(503, "api_error", "Service temporarily unavailable")),
        "504": Fault("timed out behind the gateway", _error(504, "timeout_error", "Request timed out"), slow=True),
        "524": Fault(
            "timed out behind Cloudflare", status=524, raw=_page("524: A timeout occurred", "cloudflare"), slow=True
        ),
        "529": Fault("overloaded", _error(529, "overloaded_error", "Overloaded")),
        "200_html": Fault("a web page instead of a message", raw=(HTML_TYPE, _UI)),
        "200_null": Fault("null instead of a message", raw=(JSON_TYPE, b"null")),
        "200_list": Fault("a list instead of a message", raw=(JSON_TYPE, b"[]")),
        "200_shape": Fault(
            "a message without content", raw=(JSON_TYPE, b'{"type":"message","content":null,"usage":{}}')
        ),
        "200_text": Fault("a text instead of a message", raw=("text/plain", b"It works!")),
        "200_error": Fault(
            "an error with status 200",
            raw=(JSON_TYPE, _error(200, "api_error", "Internal server error").body("req_simulated")),
        ),
        "200_truncated": Fault("half of the JSON, length correct", wire=Wire.TRUNCATE, paid=True, slow=True),
        "200_empty": Fault("no body", raw=(JSON_TYPE, b"")),
        "200_no_usage": Fault("an answer that does not say what it took", raw=(JSON_TYPE, _NO_USAGE)),
        "200_utf8": Fault("bytes that are not UTF-8", raw=(JSON_TYPE, b'{"type":"message","content":"\xff\xfe"}')),
        "reset": Fault("RST before any byte", wire=Wire.SILENT_RESET, slow=True),
        "reset_body": Fault("RST in mid-body", wire=Wire.RESET_MIDWAY, paid=True, slow=True),
        "hang": Fault("never an answer", wire=Wire.HANG),
        "trickle": Fault("a byte a second", wire=Wire.TRICKLE, paid=True, slow=True),
        "close": Fault("end of file before any byte", wire=Wire.SILENT_CLOSE, slow=True),
        "bad_gzip": Fault("not the gzip it says it is", wire=Wire.BAD_GZIP, paid=True, slow=True),
        "gzip_bomb": Fault("kilobytes that unpack to 65 MB", wire=Wire.GZIP_BOMB, paid=True, slow=True),
        "huge": Fault("a body of 65 MB", wire=Wire.HUGE, paid=True, slow=True),
        "huge_header": Fault("a header of 1 MB", wire=Wire.HUGE_HEADER, paid=True, slow=True),
        "redirect": Fault("sent elsewhere", status=307, raw=("text/plain", b""), headers={"location": "/v1/elsewhere"}),
        "sse_error": Fault(
            "an error event in mid-stream", wire=Wire.ERROR_MIDWAY, paid=True, slow=True, stream_only=True
        ),
        "sse_cut": Fault(
            "a stream that ends too early, without an error",
            wire=Wire.CUT_MIDWAY,
            paid=True,
            slow=True,
            stream_only=True,
        ),
        "gateway_quota": Fault("a relay's quota (new-api)", status=403, raw=(JSON_TYPE, _QUOTA)),
        "gateway_no_channel": Fault("a relay without the model (one-api)", status=503, raw=(JSON_TYPE, _NO_CHANNEL)),
        "gateway_key": Fault("a wrong key, in OpenAI's form", status=401, raw=(JSON_TYPE, _LOST_KEY)),
        "gateway_detail": Fault(
            "a refusal in FastAPI's form",
            status=422,
            raw=(JSON_TYPE, b'{"detail":"messages: field is malformed"}'),
            sticky=True,
        ),
    }
)
