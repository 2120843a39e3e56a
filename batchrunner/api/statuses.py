"""Which class an error belongs to: by the rules first, by its status or type where none of them fits. Pure."""

from batchrunner.api.bodies import Evidence
from batchrunner.api.rules import RULES
from batchrunner.model import ErrorClass

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
    424: ErrorClass.SERVER,
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
