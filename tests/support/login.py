"""The official client's login, with a browser whose user says yes."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import aiohttp
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl


class Login:
    """What a client keeps of its login; the SDK's storage.

    Args:
        url: of the endpoint.
        http: of the browser.
    """

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.tokens: OAuthToken | None = None
        self.redirected: list[str] = []
        """Where the browser came back to."""
        self._client: OAuthClientInformationFull | None = None
        self._http = http
        metadata = OAuthClientMetadata(client_name="test", redirect_uris=[AnyUrl("http://localhost:1/callback")])
        self.auth = OAuthClientProvider(url, metadata, self, self._to_browser, self._from_browser)

    async def _to_browser(self, url: str) -> None:
        async with self._http.get(url, allow_redirects=False) as answer:
            self.redirected.append(answer.headers["location"])

    async def _from_browser(self) -> AuthorizationCodeResult:
        query = parse_qs(urlsplit(self.redirected[-1]).query)
        return AuthorizationCodeResult(code=query["code"][0], state=query["state"][0])

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._client = client_info
