"""A token endpoint for tests, Authlib's: client credentials, and the exchange of tokens that an authorization server of the
tests has signed (RFC 8693)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import jwt
from aiohttp import web
from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Error, OAuth2Request, grants
from authlib.oauth2.rfc6749.errors import InvalidRequestError
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload

from tests.support import authorization_server

CLIENT: Final = "gateway"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"


class Issued(NamedTuple):
    """What a token says."""

    subject: str
    audience: str
    scope: str


@dataclass
class TokenServer:
    """A token endpoint with one client, :data:`CLIENT`. Use as an async context manager."""

    secret: str = "secret"
    issuer: authorization_server.AuthorizationServer | None = None
    """Whose tokens are exchanged."""
    audiences: tuple[str, ...] = ()
    """For which they are."""
    start: str = ""
    """Of all tokens."""
    lifetime: int | None = 3600
    """Seconds; ``None`` for not saying it."""
    is_up: bool = True
    refuses: str = ""
    """A subject whose tokens are not exchanged."""
    asked: list[dict[str, str]] = field(default_factory=list)
    """Forms of all requests."""
    issued: dict[str, Issued] = field(default_factory=dict)
    """All tokens so far."""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    async def __aenter__(self) -> Self:
        self._server = _Server(self)
        app = web.Application()
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.asked.append(form)
        if not self.is_up:
            return web.Response(status=503, text="closed for today")
        response = self._server.create_token_response(_Request(request.headers, form))
        assert isinstance(response, web.Response)
        return response


class _Request(NamedTuple):
    headers: Mapping[str, str]
    form: dict[str, str]


class _OAuth2Request(OAuth2Request):
    def __init__(self, request: _Request) -> None:
        # Authlib refuses http, also on a loopback address.
        super().__init__("POST", "https://127.0.0.1/token", headers=request.headers)
        self.payload = BasicOAuth2Payload(request.form)

    @property
    def form(self) -> dict[str, str]:
        found: dict[str, str] = self.payload.data
        return found


class _Client(ClientMixin):
    def __init__(self, secret: str) -> None:
        self._secret = secret

    def get_client_id(self) -> str:
        return CLIENT

    def check_client_secret(self, client_secret: str) -> bool:
        return secrets.compare_digest(client_secret, self._secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in _WITH_SECRET

    def check_grant_type(self, grant_type: str) -> bool:
        return True


_WITH_SECRET: Final = ["client_secret_basic", "client_secret_post"]


class _Server(AuthorizationServer):
    def __init__(self, settings: TokenServer) -> None:
        super().__init__()
        self.settings = settings
        self.register_token_generator("default", self._new)
        self.register_grant(_ClientCredentials)
        self.register_grant(_TokenExchange)

    def query_client(self, client_id: str) -> _Client | None:
        return _Client(self.settings.secret) if client_id == CLIENT else None

    def create_oauth2_request(self, request: _Request) -> OAuth2Request:
        return _OAuth2Request(request)

    def handle_response(self, status: int, body: dict[str, Any], headers: Any) -> web.Response:
        return web.Response(text=json.dumps(body), status=status, headers=dict(headers))

    def save_token(self, token: dict[str, Any], request: OAuth2Request) -> None:
        data = request.payload.data
        audience = data.get("audience") or data.get("resource") or ""
        self.settings.issued[token["access_token"]] = Issued(request.user or CLIENT, audience, data.get("scope", ""))

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        pass

    def _new(self, **_: Any) -> dict[str, Any]:
        token: dict[str, Any] = {
            "token_type": "Bearer",
            "access_token": self.settings.start + secrets.token_urlsafe(32),
        }
        return token if self.settings.lifetime is None else {**token, "expires_in": self.settings.lifetime}


class _ClientCredentials(grants.ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = _WITH_SECRET


class _InvalidTarget(OAuth2Error):
    """RFC 8693 section 2.2.2."""

    error = "invalid_target"


class _TokenExchange(_ClientCredentials):
    GRANT_TYPE = TOKEN_EXCHANGE

    def validate_token_request(self) -> None:
        super().validate_token_request()
        data, settings = self.request.payload.data, self.server.settings
        if data.get("subject_token_type") != ACCESS_TOKEN or not data.get("subject_token"):
            raise InvalidRequestError("subject_token and its type are required")
        if data.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
            raise InvalidRequestError("requested_token_type is not supported")
        if data.get("audience") not in settings.audiences:
            raise _InvalidTarget("no such audience")
        self.request.user = self._subject(data["subject_token"])
        if self.request.user == settings.refuses:
            raise InvalidRequestError(f"the token {data['subject_token']} is not exchanged")

    def _subject(self, token: str) -> str:
        issuer = self.server.settings.issuer
        try:
            key = issuer.keys[jwt.get_unverified_header(token)["kid"]].public_key()
            claims = jwt.decode(token, key, algorithms=list(issuer.keys), audience=issuer.audience)
        except (jwt.InvalidTokenError, KeyError):
            raise InvalidRequestError("subject_token is not valid") from None
        return str(claims["sub"])

    def create_token_response(self) -> tuple[int, dict[str, Any], Any]:
        status, token, headers = super().create_token_response()
        return status, {**token, "issued_token_type": ACCESS_TOKEN}, headers
