"""What it usually means that an endpoint refuses everything, and what to try, in order. Data, and who it is for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batchrunner.model import ErrorClass, Failure


@dataclass(frozen=True, slots=True)
class Explanation:
    """One kind of halt."""

    remedy: str  #: One line, for the store: what it means and what to look at.
    steps: tuple[str, ...]  #: For the screen: what to try, the likeliest first.


#: By class, where nothing more is known.
EXPLANATIONS: Mapping[ErrorClass, Explanation] = {
    ErrorClass.AUTHENTICATION: Explanation(
        "Look at ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN): is it set, whole, not revoked, and meant for this endpoint?",
        (
            "Look at the key in the environment: whole, without quotation marks or a line break at its end?",
            "Does it belong to this endpoint? A gateway's key is no key of the API, nor the other way round.",
            "See in the console (or with the gateway) whether it was revoked or has expired; make a new one.",
        ),
    ),
    ErrorClass.PERMISSION: Explanation(
        "The key may not do this, or not from here: look at its workspace, its models and your region.",
        (
            "See in the console which workspace the key belongs to, and which models it may use.",
            "`batchrunner models` lists what is offered to this key.",
            "Behind a company network: try from another one, the call may have been turned away on its way.",
        ),
    ),
    ErrorClass.BILLING: Explanation(
        "Add credit or raise the spend limit, then run the same command again.",
        (
            "Look at the balance and the limits of the account, in the console or with the gateway.",
            "Is it the right account? A key draws on the organization that it was made in.",
            "Run the same command again; it goes on where it stopped.",
        ),
    ),
    ErrorClass.ENDPOINT: Explanation(
        "Look at ANTHROPIC_BASE_URL or --base-url: the address of the API itself, that redirects nowhere and ends before /v1.",
        (
            "Compare the base URL with the documentation of the endpoint; /v1/messages is added to it.",
            "For the API itself: unset ANTHROPIC_BASE_URL and leave out --base-url.",
            "A gateway may speak another protocol under that address: ask for its address for the Messages API.",
        ),
    ),
    ErrorClass.NOT_FOUND: Explanation(
        "The endpoint does not offer this model: look at --model and at the lines that name one.",
        (
            "`batchrunner models` lists what the endpoint offers.",
            "Is the name spelt as listed? Bedrock, Vertex and gateways have names of their own; old models are retired.",
            "`batchrunner run JOBFILE --model MODEL` sends them to another one; correct lines that name theirs themselves.",
        ),
    ),
    ErrorClass.INVALID: Explanation(
        "Something that all requests have in common is wrong.",
        (
            "Read what was said above: it names the parameter, and --set, --system or the template brought it in.",
            "`batchrunner check JOBFILE` finds what can be found without sending anything.",
            "Correct it and try a few: --sample 5.",
        ),
    ),
}

_PAGE = Explanation(
    "A web page came where the API should answer: the base URL leads to a web interface, or a proxy wants a login.",
    (
        "Open the base URL in a browser: if a page of the gateway appears, its API has another address, often with /api.",
        "The base URL ends before /v1: /v1/messages is added to it.",
        "If the page is a login of a network or proxy: log in, or name the host in NO_PROXY.",
    ),
)
_DOUBLED = Explanation(
    "The address has /v1 twice: take it out of the base URL, it is added to it.",
    (
        "Take /v1 out of ANTHROPIC_BASE_URL or --base-url.",
        "If it is not in there, the gateway adds one itself: look at the path that it passes on.",
    ),
)
_REDIRECTED = Explanation(
    "The address sends calls elsewhere, and redirects are not followed, for the key would go with them: set the final address.",
    (
        "Set the base URL to the address named above, without /v1/messages, if you know it as the endpoint's own.",
        "Often only http:// in place of https:// is wrong, or a slash or www too much.",
    ),
)
_PROXY = Explanation(
    "A proxy on the way wants a login: look at HTTPS_PROXY.",
    ("Put the login into HTTPS_PROXY, or name the endpoint's host in NO_PROXY.", "Try from another network."),
)
_CERTIFICATE = Explanation(
    "The certificate of the endpoint is not trusted here: SSL_CERT_FILE can name your own authority.",
    (
        "Behind a company proxy that opens TLS: name its certificate with SSL_CERT_FILE.",
        "Is the host right? A certificate is made out to a name.",
        "Is the clock of this machine right? Certificates have a first and a last day.",
    ),
)
_REGION = Explanation(
    "The API is not offered where this call came from: look at the region of this machine and of its proxy.",
    (
        "From which country does this machine, or the proxy in HTTPS_PROXY, go out? The API serves a list of countries.",
        "Run it on a machine in a region that is served.",
        "Bedrock and Vertex: choose a region that offers the model.",
    ),
)
_BLOCKED = Explanation(
    "Something in front of the endpoint turned the call away with a page of its own: a firewall or a check for browsers.",
    (
        "Is the base URL the address for programs? Addresses for browsers are often guarded like this.",
        "Try from another network, without a VPN or a proxy that others use too.",
        "Ask whoever runs the endpoint to let this address through.",
    ),
)
_ORGANIZATION = Explanation(
    "The organization of this key is on hold or disabled: the console says why.",
    ("Log in to the console: it says what is asked of you.", "Write to the support with the request id on record."),
)
_OWN_LIMIT = Explanation(
    "A spend limit that was set for this workspace or organization is reached: raise it in the console.",
    (
        "Console, Limits: raise the monthly limit, of the organization or of this workspace.",
        "Or wait for the first of the month (UTC), when it begins anew.",
        "Run the same command again; it goes on where it stopped.",
    ),
)

_REGION_WORDS = ("request not allowed", "unsupported countr", "your region", "your country", "territory", "地区")


def explained(failure: Failure) -> Explanation | None:
    """Return what is known of the kind of halt that *failure* leads to; None for a class that is not known to halt."""
    for error_class, is_meant, explanation in _CASES:
        if failure.error_class is error_class and is_meant(failure):
            return explanation
    return EXPLANATIONS.get(failure.error_class)


def is_page(failure: Failure) -> bool:
    """Whether a web page came back."""
    return failure.body is not None and failure.body.lstrip("\ufeff \r\n\t")[:1] == "<"


def _says(*words: str) -> Callable[[Failure], bool]:
    def is_said(failure: Failure) -> bool:
        said = f"{failure.message}\n{failure.body or ''}".lower()
        return any(word in said for word in words)

    return is_said


def _has_status(first: int, last: int) -> Callable[[Failure], bool]:
    return lambda failure: failure.http_status is not None and first <= failure.http_status <= last


#: From top to bottom; the first that fits.
_CASES: tuple[tuple[ErrorClass, Callable[[Failure], bool], Explanation], ...] = (
    (ErrorClass.ENDPOINT, _has_status(300, 399), _REDIRECTED),
    (ErrorClass.ENDPOINT, _has_status(407, 407), _PROXY),
    (ErrorClass.ENDPOINT, _says("http 407"), _PROXY),
    (ErrorClass.ENDPOINT, _says("certificate is not trusted"), _CERTIFICATE),
    (ErrorClass.ENDPOINT, _says("/v1/v1", "v1/messages/v1"), _DOUBLED),
    (ErrorClass.ENDPOINT, is_page, _PAGE),
    (ErrorClass.BAD_RESPONSE, is_page, _PAGE),
    (ErrorClass.PERMISSION, _has_status(451, 451), _REGION),
    (ErrorClass.PERMISSION, _says(*_REGION_WORDS), _REGION),
    (ErrorClass.PERMISSION, is_page, _BLOCKED),
    (ErrorClass.PERMISSION, _says("error code: 10"), _BLOCKED),
    (ErrorClass.PERMISSION, _says("organization has been disabled", "on_hold", "on hold"), _ORGANIZATION),
    (ErrorClass.BILLING, _says("reached your specified", "spend_limit_reached"), _OWN_LIMIT),
)
