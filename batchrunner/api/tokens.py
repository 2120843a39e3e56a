"""Tokens that the SDK renews: asked for anew before each request."""

import anthropic
import httpx2
from multidict import CIMultiDict

from batchrunner.api.breaks import NoTokenError


class Tokens:
    """Puts a token that is good now into the headers, as the SDK would."""

    def __init__(self, auth: httpx2.Auth, url: str) -> None:
        """*auth* is the SDK's; *url*: where the request goes."""
        self._auth = auth
        self._url = url

    async def put_into(self, headers: CIMultiDict[str]) -> CIMultiDict[str]:
        """Return a copy of *headers* with the token; raises `NoTokenError` if none can be had."""
        request = httpx2.Request("POST", self._url, headers=list(headers.items()))
        flow = self._auth.async_auth_flow(request)
        try:
            request = await anext(flow)
        except anthropic.AnthropicError as error:
            raise NoTokenError from error
        await flow.aclose()
        found = headers.copy()
        for name in ("authorization", "anthropic-beta"):
            if name in request.headers:
                found[name] = request.headers[name]
        return found
